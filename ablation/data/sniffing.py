"""Find out how delimited text is written: its encoding, delimiter, quotation marks and header."""

import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ablation.data.columns import look_at
from ablation.data.formats import (
    DELIMITED,
    RawTable,
    TextFormat,
    content_of,
    ending,
    excerpt,
    field_counts,
    marked_encoding,
    read_rows,
)
from ablation.data.rows import parse_number

if TYPE_CHECKING:
    from charset_normalizer.models import CharsetMatch

#: The name of a column that has none, without its number.
UNNAMED: Final = "column"
#: Encodings that a mark names, or that are taken for want of a better one.
SURE_ENCODINGS: Final = ("utf-16", "utf-32", "cp1252", "latin-1")
_DELIMITERS: Final = (",", "\t", ";", "|")
#: Encodings are told by at most so many bytes.
_BYTES_LOOKED_AT: Final = 2**20
#: A name of a column has fewer words than this; a text mostly has more.
_WORDS_OF_A_TEXT: Final = 4


def sniff_format(file: Path) -> TextFormat:
    """Return the format under which delimited text reads best."""
    if ending(file) not in DELIMITED:
        return TextFormat()
    encoding = guess_encoding(content_of(file) or b"")
    natural = TextFormat().delimiter_of(file)
    best, best_score = TextFormat(encoding=encoding), None
    for delimiter in sorted(_DELIMITERS, key=lambda d: d != natural):
        for quoting in ("csv", "none"):
            text_format = TextFormat(
                "" if delimiter == natural else delimiter,
                "csv" if quoting == "csv" else "none",
                encoding,
            )
            text_format = _with_width(file, text_format)
            found: list[str] = []
            table = read_rows(file, text_format, found)
            if table is None or len(table.columns) < 2:
                continue
            score = (-len(found), len(table.columns), len(table.records))
            # Rows that a stray quotation mark swallows are missing, so more rows win.
            if best_score is None or score > best_score:
                best, best_score = text_format, score
    return _with_header(file, best)


def guess_encoding(content: bytes) -> str:
    """Return the name of the encoding in which a file of text is most likely written.

    It is UTF-8 if most of what is not ASCII is, so that a damaged byte is named when the file is
    read. Of encodings of Latin letters, which can't be told apart for sure, it is Windows' Western
    one (cp1252) where that is plausible.
    """
    if marked := marked_encoding(content):
        return marked
    decoded = content.decode("utf-8", "replace")
    invalid = decoded.count("\ufffd")
    valid = sum(not character.isascii() for character in decoded) - invalid
    if invalid == 0 or valid > invalid:
        return "utf-8"
    # Imported here: most files are UTF-8.
    import charset_normalizer

    matches = charset_normalizer.from_bytes(content[:_BYTES_LOOKED_AT])
    best = matches.best()
    plausible = {name for match in matches for name in match.could_be_from_charset}
    is_western = best is None or "cp1252" in plausible or not _is_beyond_western(best)
    candidates = ["cp1252"] if best is None or is_western else [best.encoding, "cp1252"]
    return next((name for name in candidates if _can_decode(content, name)), "latin-1")


def _is_beyond_western(match: "CharsetMatch") -> bool:
    """Tell if a text has other letters than Latin ones, or is in the encoding of Central Europe."""
    others = (
        character > "\u00ff"
        and unicodedata.category(character) in ("Lu", "Ll", "Lo")
        and not unicodedata.name(character, "").startswith("LATIN")
        for character in set(str(match))
    )
    return match.encoding == "cp1250" or any(others)


def non_ascii_sample(file: Path, encoding: str) -> str:
    """Return the first words of a file that are not ASCII, read in an encoding."""
    text = (content_of(file) or b"").decode(encoding, "replace")
    words = [word for word in text.split() if not word.isascii()]
    return excerpt(" ".join(words[:5]))


def _can_decode(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _with_width(file: Path, text_format: TextFormat) -> TextFormat:
    """Take the usual number of fields where some lines have more of them at their end.

    Only between tabs: a surplus comma is one in a text without quotation marks.
    """
    counts = field_counts(file, text_format) if text_format.delimiter_of(file) == "\t" else []
    if not counts:
        return text_format
    usual, lines = Counter(counts).most_common(1)[0]
    if min(counts) < usual or max(counts) == usual or 2 * lines < len(counts):
        return text_format
    header = () if counts[0] == usual else _unnamed(usual)
    return replace(text_format, surplus="ignored", header=header)


def _unnamed(count: int) -> tuple[str, ...]:
    return tuple(f"{UNNAMED}{i}" for i in range(1, count + 1))


def _with_header(file: Path, text_format: TextFormat) -> TextFormat:
    """Name the columns if the first line is a row of values."""
    table = read_rows(file, text_format, [])
    if table is None or len(table.records) < 2 or not _begins_with_a_row(table):
        return text_format
    return replace(text_format, header=_unnamed(len(table.columns)))


def _begins_with_a_row(table: RawTable) -> bool:
    """Tell if a name is a number as all values below it are, or words as long as the texts below.

    Names of several words count as a text only above texts that have as many.
    """
    numeric = {
        column.name
        for decimal in (",", ".")
        for column in look_at([table], decimal).values()
        if column.numbers is not None and not column.empty
    }
    if any(_is_number(name) for name in numeric):
        return True
    texts = [column for column in look_at([table], ".").values() if column.may_be_text]
    return bool(texts) and all(
        min(len(column.name.split()), _mean_words(column.values)) >= _WORDS_OF_A_TEXT
        for column in texts
    )


def _mean_words(values: Mapping[str, int]) -> float:
    count = sum(values.values())
    return sum(len(value.split()) * n for value, n in values.items()) / max(1, count)


def _is_number(text: str) -> bool:
    try:
        parse_number(text, ",")
    except ValueError:
        try:
            parse_number(text, ".")
        except ValueError:
            return False
    return True
