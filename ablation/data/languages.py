"""Languages by ISO 639-1 code, and the spellings under which a corpus may name them.

Codes and English names come from Babel (Unicode CLDR). MINT's files spell languages in English; the
paper writes three of them with codes of its own.
"""

import functools
from collections.abc import Iterable, Mapping
from typing import Final

from ablation.core.errors import UsageError

#: The ten languages of the paper's Table 2, in its order.
TABLE_2: Final = ("zh", "en", "fr", "it", "pt", "es", "ar", "nl", "hi", "ko")
#: The paper's codes that differ from ISO 639-1 (Table 2).
PAPER_CODES: Final[Mapping[str, str]] = {"po": "pt", "sp": "es", "du": "nl"}
#: Common English names that CLDR replaced by others.
FORMER_NAMES: Final[Mapping[str, str]] = {"bengali": "bn", "oriya": "or"}


@functools.cache
def english_names() -> Mapping[str, str]:
    """Return the English name of every ISO 639-1 code."""
    from babel import Locale  # Imported here: most commands name no language.

    names = Locale("en").languages
    return {code: names[code] for code in sorted(names) if len(code) == 2}


def language_name(code: str) -> str:
    """Return the English name of an ISO 639-1 code, or the code itself if it has none."""
    return english_names().get(code, code)


def parse_language(text: str) -> str | None:
    """Return the ISO 639-1 code for an English name, an ISO code or a paper code, else None."""
    return _codes_by_spelling().get(text.strip().lower())


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
