"""Read the texts of a file in any format of a corpus, and write its rows back with their scores."""

import csv
import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd

from ablation.core.counting import counted
from ablation.core.errors import UsageError
from ablation.core.files import write_atomically
from ablation.core.suggest import did_you_mean
from ablation.data.formats import LONGEST_TEXT, Record, Value, ending, excerpt, read_rows
from ablation.data.sniffing import sniff_format
from ablation.models.predictor import Prediction

#: The columns that are added.
SCORE: Final = "prediction"
SPREAD: Final = "spread"
#: The column of the texts, unless another is named.
TEXT: Final = "text"
#: Endings of the files that can be written.
WRITABLE: Final = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
_PROBLEMS_SHOWN: Final = 20


@dataclass(frozen=True)
class TextRows:
    """The rows of a file, and the text of each.

    Attributes:
        columns: Names of the columns, in order.
        rows: The values of each row by column, as they are in the file.
        texts: The texts, without white space around them.
        second_texts: The second text of each pair; None for single texts.
    """

    columns: tuple[str, ...]
    rows: list[Mapping[str, Value]]
    texts: list[str]
    second_texts: list[str] | None = None


def read_texts(file: Path, column: str = "", second: str = "") -> TextRows:
    """Read a file of rows.

    Args:
        file: Delimited text, JSON, JSON lines, Parquet or Excel, compressed or not.
        column: The column of the texts; "" for `text`, or for the only column there is.
        second: The column of the second text of a pair; "" for single texts.

    Raises:
        UsageError: The file can't be read, has no such column, or a row has no text; one line for
            each problem.
    """
    problems: list[str] = []
    text_format = sniff_format(file) if file.is_file() else None
    table = read_rows(file, text_format, problems) if text_format else None
    if text_format is None:
        problems.append(f"{file}: {'is no file' if file.exists() else 'does not exist'}")
    if table is None or problems:
        raise UsageError(_shortened(problems))
    column = column or (table.columns[0] if len(table.columns) == 1 else TEXT)
    for option, name in (("--text", column), ("--second-text", second)):
        if name and name not in table.columns:
            hint = did_you_mean(name, table.columns)
            raise UsageError(
                f"{file}: no column {name!r} (the columns are {excerpt(','.join(table.columns))});"
                f" name the texts' column with {option}: {hint}"
            )
    if taken := [name for name in (SCORE, SPREAD) if name in table.columns]:
        raise UsageError(f"{file}: it has a column {taken[0]!r} already; rename it")
    texts, seconds = (
        [_text(file, record, name, problems) for record in table.records] if name else None
        for name in (column, second)
    )
    if problems or texts is None:
        raise UsageError(_shortened(problems))
    rows: list[Mapping[str, Value]] = [dict(record.values) for record in table.records]
    return TextRows(table.columns, rows, texts, seconds)


def read_stream(content: bytes, column: str = "", second: str = "") -> TextRows:
    """Read what standard input gave: delimited text, JSON, JSON lines or Parquet, see `read_texts`.

    Raises UsageError like it.
    """
    kinds = ((b"PAR1", ".parquet"), (b"{", ".jsonl"), (b"[", ".json"), (b"\x1f\x8b", ".csv.gz"))
    kind = next((kind for mark, kind in kinds if content.lstrip().startswith(mark)), ".csv")
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / f"stdin{kind}"
        file.write_bytes(content)
        try:
            return read_texts(file, column, second)
        except UsageError as error:
            raise UsageError([line.replace(str(file), "-") for line in error.problems]) from None


def scored_rows(rows: TextRows, prediction: Prediction) -> tuple[list[str], list[dict[str, Value]]]:
    """Return the columns and the rows with `prediction` and, from an ensemble, `spread`."""
    added = {SCORE: prediction.score}
    if prediction.spread is not None:
        added[SPREAD] = prediction.spread
    scored = [dict(row) for row in rows.rows]
    for name, values in added.items():
        for row, value in zip(scored, values, strict=True):
            row[name] = round(float(value), 6)
    return [*rows.columns, *added], scored


def check_writable(file: Path) -> None:
    """Raise UsageError if rows can't be written to a file with this ending."""
    if file.suffix.lower() not in WRITABLE:
        raise UsageError(f"--out {file}: use a file that ends in {', '.join(WRITABLE)}")


def write_rows(file: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Value]]) -> None:
    """Write rows in the format that the file's ending says, whole or not at all."""
    check_writable(file)
    kind = ending(file)
    if kind == ".parquet":
        buffer = io.BytesIO()
        pd.DataFrame(list(rows), columns=list(columns)).to_parquet(buffer, index=False)
        write_atomically(file, buffer.getvalue(), durable=False)
    elif kind == ".json":
        write_atomically(file, json.dumps(list(rows), ensure_ascii=False, indent=1) + "\n")
    elif kind in (".jsonl", ".ndjson"):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_atomically(file, lines, durable=False)
    else:
        delimiter = "\t" if kind == ".tsv" else ","
        write_atomically(file, delimited(columns, rows, delimiter), durable=False)


def delimited(
    columns: Sequence[str], rows: Sequence[Mapping[str, Value]], delimiter: str = ","
) -> str:
    """Return rows as delimited text with a header."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(columns), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _text(file: Path, record: Record, column: str, problems: list[str]) -> str:
    value = record.values.get(column)
    text = "" if value is None else str(value).strip()
    if not text:
        problems.append(f"{file}, {record.position}: the text is empty")
    elif len(text) > LONGEST_TEXT:
        problems.append(f"{file}, {record.position}: a text of {counted(len(text), 'character')}")
    return text


def _shortened(problems: Sequence[str]) -> list[str]:
    hidden = len(problems) - _PROBLEMS_SHOWN
    more = [f"... and {counted(hidden, 'more problem')}"] if hidden > 0 else []
    return [*problems[:_PROBLEMS_SHOWN], *more]
