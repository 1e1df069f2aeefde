"""Read a file of rows: delimited text, JSON lines, JSON, Parquet, Arrow or Excel, or compressed.

Values are texts, numbers or None for an empty cell; `ablation.data.corpus` says what they mean.
Each problem is one line with file and line (row, where a format has no lines).
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import math
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from ablation.core.counting import counted
from ablation.core.errors import first_line, one_line

if TYPE_CHECKING:
    import pyarrow as pa

#: Longest accepted text, in characters: longer ones come from a quotation mark left open.
LONGEST_TEXT: Final = 131_072
#: Endings of compressed files, which may follow any of `ENDINGS`.
COMPRESSED: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
}
#: Endings of files that hold rows.
ENDINGS: Final = (
    *(".csv", ".tsv", ".txt", ".tab", ".jsonl", ".ndjson", ".json"),
    *(".parquet", ".arrow", ".feather", ".xlsx"),
)
#: Endings of files that hold other files.
ARCHIVES: Final = (".zip", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".7z", ".rar")
DELIMITED: Final = (".csv", ".tsv", ".txt", ".tab")
#: The column of an object's keys, where a JSON file is an object of rows or of lists of rows.
KEY: Final = "key"
#: Encodings by the byte-order marks with which their files begin; that of UTF-16 begins another.
_MARKS: Final[Mapping[bytes, str]] = {
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
#: Formats by the bytes with which they begin: a name, and what to do if it is not the ending's.
_SIGNATURES: Final[Mapping[bytes, tuple[str, str]]] = {
    b"PAR1\x15": ("Parquet", "let its name end in .parquet"),
    b"ARROW1\0\0": ("Arrow", "let its name end in .arrow"),
    b"PK\x03\x04": ("an Excel file or a zip archive", "let its name end in .xlsx, or unpack it"),
    b"\x1f\x8b": ("gzip", "let its name end in {ending}.gz"),
    b"BZh91AY&SY": ("bzip2", "let its name end in {ending}.bz2"),
    b"\xfd7zXZ\0": ("xz", "let its name end in {ending}.xz"),
    b"(\xb5/\xfd": ("Zstandard", "unpack it"),
    b"\xd0\xcf\x11\xe0": ("an old Excel file", "save it as .xlsx or CSV"),
    b"SQLite format 3\0": ("an SQLite database", "export its rows as CSV"),
    b"%PDF-": ("a PDF", "export its rows as CSV"),
}
#: The beginning that files of an ending must have.
_BEGINNINGS: Final[Mapping[str, bytes]] = {".parquet": b"PAR1", ".xlsx": b"PK"}

#: Endings that another one stands for.
_SAME_FORMAT: Final[Mapping[str, str]] = {".feather": ".arrow"}

Value = str | int | float | None


@dataclass(frozen=True)
class TextFormat:
    """The way delimited text is written.

    Attributes:
        delimiter: Between fields; empty for a comma in .csv files, a tab elsewhere.
        quoting: "csv" for fields in quotation marks, "none" if these are ordinary characters.
        encoding: A name that Python knows.
        header: Names of the columns, if the text has no line of names.
        surplus: "ignored" for lines that may have more fields at their end than there are columns.
    """

    delimiter: str = ""
    quoting: Literal["csv", "none"] = "csv"
    encoding: str = "utf-8"
    header: tuple[str, ...] = ()
    surplus: Literal["error", "ignored"] = "error"

    def delimiter_of(self, file: Path) -> str:
        """Return the delimiter of one file."""
        return self.delimiter or ("," if ending(file) == ".csv" else "\t")


@dataclass(frozen=True)
class Record:
    """One row: its position in its file, such as "line 7", and its values by column."""

    position: str
    values: Mapping[str, Value]


@dataclass(frozen=True)
class RawTable:
    """The rows of one file.

    Attributes:
        file: The file.
        columns: Names of the columns, in order.
        records: The rows that have the header's number of fields.
        content: The file's bytes, for a digest.
    """

    file: Path
    columns: tuple[str, ...] = ()
    records: list[Record] = field(default_factory=list)
    content: bytes = b""


def ending(file: Path) -> str:
    """Return a file's ending in lower case without that of its compression, such as ".csv"."""
    return Path(_unpacked_name(file.name).lower()).suffix


def _unpacked_name(name: str) -> str:
    """Return a file's name without the ending of its compression."""
    plain = Path(name)
    return plain.stem if plain.suffix.lower() in COMPRESSED else name


def stem(name: str) -> str:
    """Return a file's name without the ending that says what it is.

    >>> stem("anger-0to1.train.txt"), stem("en.csv.gz")
    ('anger-0to1.train', 'en')
    """
    plain = _unpacked_name(name)
    return Path(plain).stem if Path(plain).suffix.lower() in ENDINGS else plain


def field_counts(file: Path, text_format: TextFormat) -> list[int]:
    """Return the number of fields of each line of delimited text that is not blank."""
    content = _bytes_of(file, [])
    text = None if content is None else decode(file, content[1], text_format.encoding, [])
    if text is None:
        return []
    return [len(fields) for _, fields in _delimited_lines(file, text, text_format, [])]


def content_of(file: Path) -> bytes | None:
    """Return a file's bytes, decompressed; None if they can't be read."""
    content = _bytes_of(file, [])
    return None if content is None else content[1]


def marked_encoding(content: bytes) -> str:
    """Return "utf-16" or "utf-32" if the bytes begin with its mark, else ""."""
    return next((name for mark, name in _MARKS.items() if content.startswith(mark)), "")


def read_rows(file: Path, text_format: TextFormat, problems: list[str]) -> RawTable | None:
    """Read a file of rows.

    Args:
        file: The file; its ending says what it is.
        text_format: How delimited text is written.
        problems: Receives a line for everything that can't be read.

    Returns:
        The rows; None if the file can't be read as a whole.
    """
    kind = ending(file)
    found = _bytes_of(file, problems)
    if found is None:
        return None
    if kind not in ENDINGS:
        known = ", ".join(ENDINGS)
        problems.append(f"{file}: files that end in {kind or 'nothing'} can't be read; use {known}")
        return None
    content, raw = found
    if problem := _mismatch(kind, raw):
        problems.append(f"{file}: {problem}")
        return None
    if kind in DELIMITED:
        table = _read_delimited(file, raw, text_format, problems)
    else:
        table = _READERS[kind](file, raw, problems)
    if table is None:
        return None
    return RawTable(file, table.columns, table.records, content)


def _bytes_of(file: Path, problems: list[str]) -> tuple[bytes, bytes] | None:
    """Return a file's bytes, and these decompressed; None with a line in `problems`."""
    try:
        content = file.read_bytes()
    except OSError as error:
        problems.append(f"{file}: can't be read: {error.strerror}")
        return None
    try:
        unpack = COMPRESSED.get(file.suffix.lower())
        raw = unpack(content) if unpack else content
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        problems.append(f"{file}: can't be decompressed: {first_line(error)}")
        return None
    return content, raw


def _mismatch(kind: str, raw: bytes) -> str:
    """Return why a file can't be what its ending says, and what to do; "" if it can."""
    kind = _SAME_FORMAT.get(kind, kind)
    beginning = _BEGINNINGS.get(kind)
    if not raw or (beginning is not None and raw.startswith(beginning)):
        return ""
    for signature, (name, advice) in _SIGNATURES.items():
        if raw.startswith(signature) and kind != f".{name.lower()}":
            return f"this is {name}, not {kind}; {advice.format(ending=kind)}"
    if beginning is None:
        return ""
    return f"does not begin as {kind} files do; get it again, or let its name end in what it is"


def decode(file: Path, content: bytes, encoding: str, problems: list[str]) -> str | None:
    """Return a file's text without its byte-order mark, or None with a line in `problems`."""
    marked = marked_encoding(content)
    if marked and not encoding.lower().replace("_", "-").startswith(marked):
        problems.append(
            f"{file}: this is {marked.upper()}; save it as UTF-8,"
            f' or set files.encoding = "{marked}"'
        )
        return None
    is_utf8 = encoding.lower().replace("_", "-") in ("utf-8", "utf8")
    try:
        text = content.decode("utf-8-sig" if is_utf8 else encoding)
    except LookupError:
        problems.append(f"{file}: unknown encoding {encoding!r}; such as utf-8 or cp1252")
        return None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        name = "UTF-8" if is_utf8 else encoding
        problems.append(
            f"{file}, line {line}: byte 0x{content[error.start]:02x} is not {name};"
            " save the file as UTF-8"
        )
        return None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        problems.append(f"{file}, line {line}: a NUL byte; this is not a text file")
        return None
    # Joining files leaves byte-order marks within the text, where they are no characters of it.
    return text.replace("\ufeff", "")


def _read_delimited(
    file: Path, content: bytes, text_format: TextFormat, problems: list[str]
) -> RawTable | None:
    text = decode(file, content, text_format.encoding, problems)
    if text is None:
        return None
    # Excel writes and hides such a first line.
    if text_format.quoting == "csv" and (named := re.match(r'"?sep=(.)"?(?=\r?\n)', text)):
        if named[1] != text_format.delimiter_of(file):
            problems.append(
                f"{file}, line 1: {named[0]} names the delimiter: remove the line and save the"
                f" file with commas, or set files.delimiter = {named[1]!r} in a corpus.toml, which"
                f" `ablation data init` drafts"
            )
            return None
        text = text[named.end() :]
    before = len(problems)
    lines = _delimited_lines(file, text, text_format, problems)
    header = (0, list(text_format.header)) if text_format.header else next(lines, None)
    if header is None:
        if len(problems) == before:
            problems.append(f"{file}: the file is empty")
        return None
    columns = tuple(name.strip() for name in header[1])
    if len(set(columns)) < len(columns):
        listed = excerpt(",".join(columns))
        problems.append(f"{file}, line 1: a column occurs twice: {listed}")
        return None
    records = []
    hint = "; quote texts that contain commas" if text_format.delimiter_of(file) == "," else ""
    if header[1][0].startswith("#"):
        hint = "; line 1 begins with #: remove what stands above the line of names"
    for line, values in lines:
        if values == header[1] and len(columns) > 1:
            problems.append(f"{file}, line {line}: the line of names once more; remove it")
            continue
        surplus = len(values) - len(columns)
        if surplus > 0 and text_format.surplus == "ignored":
            values, surplus = values[: len(columns)], 0
        if surplus:
            amount = f"{counted(abs(surplus), 'field')} too {'many' if surplus > 0 else 'few'}"
            problems.append(f"{file}, line {line}: {amount}{hint}")
            continue
        records.append(Record(f"line {line}", dict(zip(columns, values, strict=True))))
    return RawTable(file, columns, records)


def _delimited_lines(
    file: Path, text: str, text_format: TextFormat, problems: list[str]
) -> Iterator[tuple[int, list[str]]]:
    """Yield (line on which the record starts, its fields) for every record that is not blank."""
    delimiter = text_format.delimiter_of(file)
    if text_format.quoting == "none":
        for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
            if line.strip("\r"):
                yield number, line.strip("\r").split(delimiter)
        return
    quoted_after_space = _quoted_after_space(text, delimiter)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    while True:
        line_number = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            hint = (
                "is a quotation mark left open?"
                if "limit" in str(error) or "end of data" in str(error)
                else "quote texts as CSV does, a quotation mark within one written twice"
            )
            problems.append(f"{file}, line {line_number}: {error}; {hint}")
            return
        if fields:
            yield line_number, quoted_after_space.get(line_number, fields)


def _quoted_after_space(text: str, delimiter: str) -> dict[int, list[str]]:
    """Return the records, by line, in which a field's quotation marks come after a space.

    In `2.3, "abc", fr`, the marks are not part of the text, as CSV's rules would have it.
    """
    if not re.search(rf'(?:^|[\r\n{re.escape(delimiter)}]) +"', text):
        return {}
    as_written = _records_by_line(text, delimiter, skips_spaces=False)
    after_space = _records_by_line(text, delimiter, skips_spaces=True)
    return {
        line: fields
        for line, fields in after_space.items()
        if [value.lstrip(" ") for value in as_written.get(line, fields)]
        != [value.lstrip(" ") for value in fields]
    }


def _records_by_line(text: str, delimiter: str, *, skips_spaces: bool) -> dict[int, list[str]]:
    """Return the records by the lines on which they start, up to one that can't be read."""
    source = io.StringIO(text, newline="")
    reader = csv.reader(source, strict=True, delimiter=delimiter, skipinitialspace=skips_spaces)
    records: dict[int, list[str]] = {}
    while True:
        line = reader.line_num + 1
        try:
            records[line] = next(reader)
        except (StopIteration, csv.Error):
            return records


def _read_json_lines(file: Path, content: bytes, problems: list[str]) -> RawTable | None:
    text = decode(file, content, "utf-8", problems)
    if text is None:
        return None
    rows: list[tuple[str, Any]] = []
    # Not splitlines: a JSON text may hold a line separator such as U+2028 as it is.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append((f"line {number}", json.loads(line)))
        except (ValueError, RecursionError) as error:
            problems.append(f"{file}, line {number}: not JSON: {first_line(error)}")
    return _from_objects(file, rows, problems)


def _read_json(file: Path, content: bytes, problems: list[str]) -> RawTable | None:
    text = decode(file, content, "utf-8", problems)
    if text is None:
        return None
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        problems.append(f"{file}: not JSON: {first_line(error)}; JSON lines end in .jsonl")
        return None
    listed = _list_of_rows(rows)
    if listed is None:
        problems.append(
            f"{file}: not a list of rows, nor an object that holds them; JSON lines end in .jsonl"
        )
        return None
    return _from_objects(file, [(f"row {i}", row) for i, row in enumerate(listed, 1)], problems)


def _list_of_rows(value: Any) -> list[Any] | None:
    """Return the rows in a JSON value; None if it holds none.

    These are a list of objects, alone or in an object beside other things; several such lists by
    name; an object of rows by key; or an object of columns, each a list, or an object by row.
    """
    if isinstance(value, list):
        return value
    if not isinstance(value, dict) or not value:
        return None
    lists = {
        name: part
        for name, part in value.items()
        if isinstance(part, list) and part and all(isinstance(row, dict) for row in part)
    }
    if len(lists) == 1:
        return next(iter(lists.values()))
    if lists:
        return [{KEY: name, **row} for name, rows in lists.items() for row in rows]
    if (columns := _columns_of(value)) is not None:
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if len(value) > 1 and all(isinstance(row, dict) for row in value.values()):
        return [{KEY: key, **row} for key, row in value.items()]
    inner = [part for part in value.values() if isinstance(part, dict)]
    return _list_of_rows(inner[0]) if len(inner) == 1 else None


def _columns_of(value: Mapping[str, Any]) -> dict[str, list[Any]] | None:
    """Return the values by column of an object of columns; None if it is none."""
    parts = list(value.values())
    if all(isinstance(part, list) for part in parts) and len({len(part) for part in parts}) == 1:
        return dict(value)
    if not all(isinstance(part, dict) for part in parts):
        return None
    # As many rows by name would be columns by row: of the two, the fewer are the columns.
    if len({tuple(part) for part in parts}) == 1 and len(parts) < len(parts[0]):
        return {name: list(part.values()) for name, part in value.items()}
    return None


def _from_objects(file: Path, rows: list[tuple[str, Any]], problems: list[str]) -> RawTable | None:
    columns: dict[str, None] = {}
    records = []
    for position, row in rows:
        if not isinstance(row, dict):
            problems.append(f"{file}, {position}: not an object with a value for each column")
            continue
        flat = _flat(row)
        columns.update(dict.fromkeys(flat))
        records.append(Record(position, flat))
    if not columns:
        problems.append(f"{file}: the file is empty")
        return None
    return RawTable(file, tuple(columns), records)


def _flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Value]:
    """Return the values of an object by name, those of objects in it as "outer.inner"."""
    flat: dict[str, Value] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = _plain(value)
    return flat


def _read_parquet(file: Path, content: bytes, problems: list[str]) -> RawTable | None:
    import pyarrow.parquet as pq

    return _read_columns(file, content, "Parquet", pq.read_table, problems)


def _read_arrow(file: Path, content: bytes, problems: list[str]) -> RawTable | None:
    """Read an Arrow file, or the stream that `datasets` saves under the same ending."""
    import pyarrow as pa

    is_file = content.startswith(b"ARROW1")
    open_table = pa.ipc.open_file if is_file else pa.ipc.open_stream
    return _read_columns(
        file, content, "Arrow", lambda source: open_table(source).read_all(), problems
    )


def _read_columns(
    file: Path,
    content: bytes,
    name: str,
    read: "Callable[[pa.BufferReader], pa.Table]",
    problems: list[str],
) -> RawTable | None:
    """Read a table of Arrow's library with `read`; `name` is that of the format."""
    import pyarrow as pa

    try:
        table = read(pa.BufferReader(content))
        rows = table.to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        problems.append(f"{file}: not {name}: {first_line(error)}")
        return None
    if any(pa.types.is_struct(kind) for kind in table.schema.types):
        return _from_objects(file, [(f"row {i}", row) for i, row in enumerate(rows, 1)], problems)
    return _from_dicts(file, list(map(str, table.column_names)), rows, problems)


def _read_excel(file: Path, content: bytes, problems: list[str]) -> RawTable | None:
    try:
        import openpyxl
    except ImportError:
        problems.append(
            f'{file}: Excel files need openpyxl: pip install "ablation-suite[xlsx]", or save it as'
            " CSV"
        )
        return None
    try:
        book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
        sheets = {
            sheet.title: _table_of_sheet([list(row) for row in sheet.iter_rows(values_only=True)])
            for sheet in book.worksheets
        }
    except Exception as error:  # a damaged archive can break in any way
        problems.append(f"{file}: not an Excel file: {first_line(error)}")
        return None
    with_rows = {
        title: table for title, table in sheets.items() if table.rows and len(table.columns) > 1
    }
    chosen = next(iter((with_rows or sheets).values()))
    if not chosen.columns:
        problems.append(f"{file}: the file is empty")
        return None
    alike = [title for title, table in with_rows.items() if table.columns == chosen.columns]
    if len(alike) > 1:
        problems.append(
            f"{file}: sheets {', '.join(map(repr, alike))} have the same columns; save each that is"
            " meant as a file of its own"
        )
        return None
    return _from_dicts(file, chosen.columns, chosen.rows, problems, first=chosen.first)


class _Sheet(NamedTuple):
    """A table of a sheet: its columns, its rows, and the number of the first row's line."""

    columns: list[str]
    rows: list[dict[str, Any]]
    first: int


def _table_of_sheet(lines: list[list[Any]]) -> _Sheet:
    """Find the table in a sheet's lines: a title and blank lines may stand above its names."""
    filled = [sum(value is not None for value in line) for line in lines]
    if not any(filled):
        return _Sheet([], [], 0)
    top = next((i for i, count in enumerate(filled) if count > 1), filled.index(max(filled)))
    # Columns of formatted cells to the right of the table have no name.
    used = [i for i, name in enumerate(lines[top]) if name is not None]
    columns = [str(lines[top][i]).strip() for i in used]
    rows = [
        dict(zip(columns, (line[i] for i in used), strict=True))
        for line in lines[top + 1 :]
        if any(value is not None for value in line)
    ]
    return _Sheet(columns, rows, top + 2)


def _from_dicts(
    file: Path, columns: list[str], rows: list[dict[str, Any]], problems: list[str], first: int = 1
) -> RawTable | None:
    if len(set(columns)) < len(columns):
        problems.append(f"{file}: a column occurs twice: {excerpt(','.join(columns))}")
        return None
    records = [
        Record(f"row {i}", {name: _plain(value) for name, value in row.items()})
        for i, row in enumerate(rows, start=first)
    ]
    return RawTable(file, tuple(columns), records)


_READERS: Final[Mapping[str, Callable[[Path, bytes, list[str]], RawTable | None]]] = {
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".json": _read_json,
    ".parquet": _read_parquet,
    ".arrow": _read_arrow,
    ".feather": _read_arrow,
    ".xlsx": _read_excel,
}


def _plain(value: Any) -> Value:
    """Return a text or a number as it is, None for a missing one, and other values as text."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return None if isinstance(value, float) and math.isnan(value) else value


def excerpt(text: str) -> str:
    """Return the beginning of `text` on one printable line, for a message."""
    return one_line(text[:80])
