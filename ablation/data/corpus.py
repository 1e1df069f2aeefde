"""A corpus in MINT's format, read and checked before anything is trained.

A corpus is a folder with `train.csv` (columns `text`, `label`, `language`) and, optionally,
`test.csv` (the same; `label` may be missing, and then no test score exists). Labels are intimacy
scores from 1 (not intimate) to 5. Every problem found is one line with file, row and value; all
of them are reported together.
"""

import csv
import hashlib
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from ablation.core.errors import UsageError
from ablation.data.languages import ordered, parse_language

LOWEST, HIGHEST = 1.0, 5.0
LONGEST_TEXT: Final = 131_072
#: A fifth of the rows is held out; with fewer rows than this, no correlation over it means anything.
FEWEST_ROWS: Final = 30
DEMO: Final = "demo"
_PROBLEMS_SHOWN = 20


@dataclass(frozen=True)
class Corpus:
    """Labelled training rows and, where given, test rows.

    Both frames have the columns `text` (str), `label` (float64 in [1, 5]; NaN throughout where a
    test file has none) and `language` (ISO 639-1); their index is the row's number in its file,
    starting at 0. `digest` is the SHA-256 of both files' bytes.
    """

    name: str
    train: pd.DataFrame
    test: pd.DataFrame | None
    digest: str
    synthetic: bool

    @property
    def has_test_labels(self) -> bool:
        return self.test is not None and bool(self.test["label"].notna().all())

    @property
    def training_languages(self) -> list[str]:
        """The languages with labelled rows: the test's "seen" ones, in the paper's sense."""
        return ordered(set(self.train["language"]))


def load_corpus(where: str) -> Corpus:
    """The corpus in the folder `where`, or the embedded one for "demo".

    Raises UsageError, with one line for each problem, if the corpus can't be used as it is.
    """
    try:
        folder = (
            Path(str(files("ablation.data") / DEMO)) if where == DEMO else Path(where).expanduser()
        )
        what = None if folder.is_dir() else "is a file" if folder.exists() else "does not exist"
    except (
        OSError,
        RuntimeError,
    ) as error:  # a name that is too long; a home folder that nobody has
        raise UsageError(f"{_shown(where)}: {getattr(error, 'strerror', None) or error}") from error
    if what:
        raise UsageError(
            f"{folder}: {what}; data is 'demo' or a folder with train.csv and test.csv"
        )
    train_file, test_file = folder / "train.csv", folder / "test.csv"
    if not train_file.is_file():
        raise UsageError(
            f"{train_file}: not found; the folder needs a train.csv (columns text,label,language)"
        )
    problems: list[str] = []
    digest = hashlib.sha256()
    train = _read_table(train_file, labels_required=True, digest=digest, problems=problems)
    test = None
    if test_file.exists():
        test = _read_table(test_file, labels_required=False, digest=digest, problems=problems)
    if not problems:
        problems += _whole_corpus_problems(train_file, train)
    if problems:
        more = len(problems) - _PROBLEMS_SHOWN
        raise UsageError(
            problems[:_PROBLEMS_SHOWN] + ([f"... and {more} more problems"] if more > 0 else [])
        )
    return Corpus(
        name=DEMO if where == DEMO else folder.resolve().name,
        train=train,
        test=test,
        digest=digest.hexdigest(),
        synthetic=where == DEMO,
    )


def repeated_texts(frame: pd.DataFrame) -> int:
    """How many rows repeat a text that stands further up."""
    return int(frame["text"].duplicated().sum())


def _whole_corpus_problems(file: Path, train: pd.DataFrame) -> list[str]:
    problems = []
    if train["language"].nunique() < 2:
        problems.append(
            f"{file}: only one language; the language-contrastive loss and Dev2 need two or more"
        )
    if len(train) < FEWEST_ROWS:
        problems.append(
            f"{file}: {len(train)} rows are too few to split; at least {FEWEST_ROWS} are needed"
        )
    elif train["label"].nunique() < 2:
        problems.append(
            f"{file}: every label is {train['label'].iloc[0]}; there is nothing to learn"
        )
    return problems


def _read_table(
    file: Path, *, labels_required: bool, digest: "hashlib._Hash", problems: list[str]
) -> pd.DataFrame:
    """The rows of one file; appends to `problems` what is wrong with it."""
    empty = pd.DataFrame({"text": [], "label": [], "language": []})
    try:
        content = file.read_bytes()
    except OSError as error:
        problems.append(f"{file}: can't be read: {error.strerror}")
        return empty
    digest.update(file.name.encode() + b"\0" + len(content).to_bytes(8, "big") + content)
    text = _decode(file, content, problems)
    if text is None:
        return empty
    records = _records(file, text, problems)
    header = next(records, None)
    if header is None:
        if not problems:
            problems.append(f"{file}: the file is empty")
        return empty
    columns = [name.strip() for name in header[1]]
    complaint = _header_problem(columns, labels_required)
    if complaint:
        problems.append(f"{file}, line 1: {complaint}")
        return empty
    rows: list[tuple[str, float, str]] = []
    for line, values in records:
        fields = dict(zip(columns, values, strict=False))
        row = _parse_row(
            f"{file}, line {line}", fields, len(values) - len(columns), labels_required, problems
        )
        if row is not None:
            rows.append(row)
    if not rows and not problems:
        problems.append(f"{file}: no rows below the header")
    frame = pd.DataFrame(rows, columns=["text", "label", "language"]).astype({"label": "float64"})
    unlabelled = int(frame["label"].isna().sum())
    if 0 < unlabelled < len(frame):
        problems.append(
            f"{file}: {unlabelled} of {len(frame)} rows have no label; give all of the labels or leave the column out"
        )
    return frame


def _decode(file: Path, content: bytes, problems: list[str]) -> str | None:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        problems.append(f"{file}: this is UTF-16; save it as UTF-8")
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problems.append(
            f"{file}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8"
        )
        return None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        problems.append(f"{file}, line {line}: a NUL byte; this is not a text file")
        return None
    return text


def _records(file: Path, text: str, problems: list[str]) -> Iterator[tuple[int, list[str]]]:
    """(line on which the record starts, its fields), without blank lines."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            hint = (
                "is a quotation mark left open?"
                if "limit" in str(error) or "end of data" in str(error)
                else "quote texts as CSV does"
            )
            problems.append(f"{file}, line {line}: {error}; {hint}")
            return
        if fields:
            yield line, fields


def _header_problem(columns: list[str], labels_required: bool) -> str | None:
    needed = {"text", "label", "language"} if labels_required else {"text", "language"}
    if len(set(columns)) < len(columns):
        return f"a column stands twice: {_shown(','.join(columns))}"
    if missing := sorted(needed - set(columns)):
        delimiter = next((d for d in (";", "\t", "|") if d in columns[0]), None)
        hint = (
            f"; the delimiter looks like {delimiter!r}, and a comma is expected"
            if delimiter
            else ""
        )
        return f"column {', '.join(missing)} is missing (found: {_shown(','.join(columns))}){hint}"
    if extra := sorted(set(columns) - {"text", "label", "language"}):
        return f"unexpected column {_shown(', '.join(extra))}; the columns are text,label,language"
    return None


def _parse_row(
    where: str, row: dict[str, str], surplus: int, label_required: bool, problems: list[str]
) -> tuple[str, float, str] | None:
    if surplus:
        problems.append(
            f"{where}: {abs(surplus)} field(s) too {'many' if surplus > 0 else 'few'}; quote texts that contain commas"
        )
        return None
    before = len(problems)
    text = row["text"].strip()
    if not text:
        problems.append(f"{where}: the text is empty")
    elif len(text) > LONGEST_TEXT:
        problems.append(
            f"{where}: a text of {len(text)} characters; is a quotation mark left open?"
        )
    language = parse_language(row["language"])
    if language is None:
        problems.append(
            f"{where}: unknown language {row['language'][:40]!r}; use an English name or an ISO 639-1 code"
        )
    label = np.nan
    if "label" in row and row["label"].strip():
        label = _parse_label(where, row["label"], problems)
    elif label_required:
        problems.append(f"{where}: the label is empty")
    return (text, label, language) if len(problems) == before and language is not None else None


def _shown(text: str) -> str:
    """`text` for a message: on one line, short, and without characters that a terminal obeys."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:80])


def _parse_label(where: str, text: str, problems: list[str]) -> float:
    try:
        label = float(text)
    except ValueError:
        problems.append(f"{where}: the label {text[:40]!r} is not a number")
        return math.nan
    if not LOWEST <= label <= HIGHEST:
        problems.append(
            f"{where}: the label {_shown(text.strip())} lies outside {LOWEST:g} to {HIGHEST:g}"
        )
        return math.nan
    return label
