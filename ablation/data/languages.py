"""Languages by tag, and the spellings under which a corpus may name them.

Codes and English names come from Babel (Unicode CLDR). MINT's files spell languages in English; the
paper writes three of them with codes of its own. Other corpora use tags of BCP 47, such as fr-CA or
amh, or codes that only look like tags, such as ptbr: all are kept as they are.
"""

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Final

from ablation.core.errors import UsageError

#: The ten languages of the paper's Table 2, in its order.
TABLE_2: Final = ("zh", "en", "fr", "it", "pt", "es", "ar", "nl", "hi", "ko")
#: The paper's codes that differ from ISO 639-1 (Table 2).
PAPER_CODES: Final[Mapping[str, str]] = {"po": "pt", "sp": "es", "du": "nl"}
#: Common English names that CLDR replaced by others.
FORMER_NAMES: Final[Mapping[str, str]] = {"bengali": "bn", "oriya": "or"}
#: A language of two to four letters (BCP 47 has no longer ones), and its subtags.
_TAG: Final = re.compile(r"([A-Za-z]{2,4})((?:[-_][A-Za-z0-9]{1,8})*)")
#: Length of a region's subtag (CA) and of a script's (Hant).
_REGION, _SCRIPT = 2, 4


@functools.cache
def english_names() -> Mapping[str, str]:
    """Return the English name of every ISO 639-1 code."""
    from babel import Locale  # Imported here: most commands name no language.

    names = Locale("en").languages
    return {code: names[code] for code in sorted(names) if len(code) == 2}


@functools.cache
def language_name(code: str) -> str:
    """Return the English name of a language's tag, or the tag itself if it has none.

    >>> [language_name(tag) for tag in ("fr", "fr-CA", "amh", "ptbr")]
    ['French', 'French (Canada)', 'Amharic', 'ptbr']
    """
    if code in english_names():
        return english_names()[code]
    from babel import Locale, UnknownLocaleError
    from babel.core import get_global

    language, hyphen, rest = code.partition("-")
    names = Locale("en").languages
    # CLDR lists languages under their shortest code.
    shortest = get_global("language_aliases").get(language, language)
    if not hyphen:
        return str(names.get(shortest, code))
    try:
        return Locale.parse(f"{shortest}-{rest}", sep="-").get_display_name("en") or code
    except (ValueError, UnknownLocaleError):
        return code


def parse_language(text: str) -> str | None:
    """Return the ISO 639-1 code for an English name, an ISO code or a paper code, else None."""
    return _codes_by_spelling().get(text.strip().lower())


def parse_tag(text: str) -> str | None:
    """Return a language's tag: like `parse_language`, and further tags in BCP 47's spelling.

    A tag of three or four letters need not be a registered one: corpora have codes of their own.

    >>> [parse_tag(text) for text in ("French", "fr_ca", "AMH", "zh-hant", "Englisch")]
    ['fr', 'fr-CA', 'amh', 'zh-Hant', None]
    """
    if code := parse_language(text):
        return code
    match = _TAG.fullmatch(text.strip())
    if match is None:
        return None
    language = match[1].lower()
    # All codes of two letters are known.
    if len(language) == 2 and language not in english_names():
        return None
    subtags = re.split("[-_]", match[2])[1:]
    return "-".join([language, *map(_subtag, subtags)])


def _subtag(subtag: str) -> str:
    if len(subtag) == _REGION:
        return subtag.upper()
    return subtag.title() if len(subtag) == _SCRIPT and subtag.isalpha() else subtag.lower()


def require_language(text: str) -> str:
    """Return the code like `parse_language`. Raises UsageError for an unknown language."""
    code = parse_language(text)
    if code is None:
        raise UsageError(
            f"unknown language {text!r}: give an English name or an ISO 639-1 code,"
            " such as French or fr"
        )
    return code


def ordered(codes: Iterable[str]) -> list[str]:
    """Return `codes` in the order of the paper's Table 2, then the others alphabetically."""
    unique = set(codes)
    return [*(code for code in TABLE_2 if code in unique), *sorted(unique - set(TABLE_2))]


@functools.cache
def _codes_by_spelling() -> Mapping[str, str]:
    names = english_names()
    return {
        **FORMER_NAMES,
        **{name.lower(): code for code, name in names.items()},
        **{code: code for code in names},
        **PAPER_CODES,
    }
