"""Read and check a corpus in MINT's format.

A corpus is a folder with `train.csv` (columns `text`, `label`, `language`) and optionally
`test.csv` (the same columns; without `label` there are no test scores). Labels are intimacy scores
from 1 (not intimate) to 5. Each problem is one line with file, line and value, and all problems
are reported together.
"""

import csv
import hashlib
import io
import math
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from ablation.core.errors import UsageError, one_line
from ablation.data.languages import ordered, parse_language
from ablation.data.reference import find_reference

#: The range of labels.
LOWEST, HIGHEST = 1.0, 5.0
#: Longest accepted text, in characters: longer ones come from a quotation mark left open.
LONGEST_TEXT: Final = 131_072
#: A fifth of the rows is held out; a correlation over fewer than six rows is meaningless.
FEWEST_ROWS: Final = 30
#: The name of the corpus that comes with this package.
DEMO: Final = "demo"
COLUMNS: Final = ("text", "label", "language")
_PROBLEMS_SHOWN: Final = 20


@dataclass(frozen=True)
class Corpus:
    """Labelled training rows and, if given, test rows.

    Both frames have the columns `text` (str), `label` (float64 in [1, 5]) and `language` (ISO
    639-1), indexed by the row's number in its file from 0.

    Attributes:
        name: The folder's name, or "demo".
        train: The labelled rows.
        test: The test rows; their labels are all NaN if the file has none.
        digest: SHA-256 over names and bytes of both files.
        synthetic: True for the demo corpus, whose scores are no benchmark.
    """

    name: str
    train: pd.DataFrame
    test: pd.DataFrame | None
    digest: str
    synthetic: bool

    @cached_property
    def reference(self) -> str | None:
        """The corpus, such as "MINT", whose printed figures apply to these rows; None if none."""
        return find_reference(self.train, self.test)

    @property
    def has_test_labels(self) -> bool:
        """Tell if test scores can be computed."""
        return self.test is not None and bool(self.test["label"].notna().all())

    @property
    def training_languages(self) -> list[str]:
        """Return the languages with labelled rows, which the paper calls "seen"."""
        return ordered(set(self.train["language"]))


def load_corpus(source: str) -> Corpus:
    """Read the corpus in the folder `source`, or the embedded one for "demo".

    Raises UsageError, with one line for each problem, if the corpus is invalid.
    """
    folder = _existing_folder(source)
    train_file, test_file = folder / "train.csv", folder / "test.csv"
    if not train_file.is_file():
        raise UsageError(
            f"{train_file}: not found; the folder needs a train.csv (columns {','.join(COLUMNS)})"
        )
    problems: list[str] = []
    digest = hashlib.sha256()
    train = _read_table(train_file, labels_required=True, digest=digest, problems=problems)
    test = None
    if test_file.exists():
        test = _read_table(test_file, labels_required=False, digest=digest, problems=problems)
    if not problems:
        problems += _corpus_problems(train_file, train)
    if len(problems) > _PROBLEMS_SHOWN:
        hidden = len(problems) - _PROBLEMS_SHOWN
        problems = [*problems[:_PROBLEMS_SHOWN], f"... and {hidden} more problems"]
    if problems:
        raise UsageError(problems)
    return Corpus(
        name=DEMO if source == DEMO else folder.resolve().name,
        train=train,
        test=test,
        digest=digest.hexdigest(),
        synthetic=source == DEMO,
    )


def repeated_texts(frame: pd.DataFrame) -> int:
    """Return the number of rows whose text equals that of an earlier row, see `text_key`."""
    return int(frame["text"].map(text_key).duplicated().sum())


def text_key(text: str) -> str:
    """Return a key that is equal for texts that tokenizers read alike.

    Unicode's compatibility forms (NFKC), white space, and characters without a width make no
    difference; case does.
    """
    visible = "".join(
        character
        for character in unicodedata.normalize("NFKC", text)
        if unicodedata.category(character) != "Cf"
    )
    # Without any visible character, a text equals only itself.
    return " ".join(unicodedata.normalize("NFKC", visible).split()) or text


def _existing_folder(source: str) -> Path:
    try:
        if source == DEMO:
            return Path(str(files("ablation.data") / DEMO))
        folder = Path(source).expanduser()
        if folder.is_dir():
            return folder
        obstacle = "is a file" if folder.exists() else "does not exist"
    # The name may be too long, or name the home folder of an unknown user.
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{_excerpt(source)}: {reason}") from error
    raise UsageError(
        f"{folder}: {obstacle}; data is 'demo' or a folder with train.csv and test.csv"
    )


def _corpus_problems(file: Path, train: pd.DataFrame) -> list[str]:
    """Return problems of the labelled rows as a whole."""
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
    """Return the valid rows of one file; append a line to `problems` for everything invalid."""
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
    problem = _header_problem(columns, labels_required)
    if problem:
        problems.append(f"{file}, line 1: {problem}")
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
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"label": "float64"})
    unlabelled = int(frame["label"].isna().sum())
    if 0 < unlabelled < len(frame):
        problems.append(
            f"{file}: {unlabelled} of {len(frame)} rows have no label;"
            " give all labels or leave the column out"
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
            f"{file}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8;"
            " save the file as UTF-8"
        )
        return None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        problems.append(f"{file}, line {line}: a NUL byte; this is not a text file")
        return None
    return text


def _records(file: Path, text: str, problems: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield (line on which the record starts, its fields) for every record that is not blank."""
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
    needed = set(COLUMNS) if labels_required else set(COLUMNS) - {"label"}
    if len(set(columns)) < len(columns):
        return f"a column occurs twice: {_excerpt(','.join(columns))}"
    if missing := sorted(needed - set(columns)):
        delimiter = next((d for d in (";", "\t", "|") if d in columns[0]), None)
        hint = f"; the delimiter looks like {delimiter!r}, expected a comma" if delimiter else ""
        header = _excerpt(",".join(columns))
        return f"column {', '.join(missing)} is missing (the header is {header}){hint}"
    if extra := sorted(set(columns) - set(COLUMNS)):
        names = _excerpt(", ".join(extra))
        return f"unexpected column {names}; the columns are {','.join(COLUMNS)}"
    return None


def _parse_row(
    position: str, row: dict[str, str], surplus: int, label_required: bool, problems: list[str]
) -> tuple[str, float, str] | None:
    if surplus:
        problems.append(
            f"{position}: {abs(surplus)} field(s) too {'many' if surplus > 0 else 'few'};"
            " quote texts that contain commas"
        )
        return None
    before = len(problems)
    text = row["text"].strip()
    if not text:
        problems.append(f"{position}: the text is empty")
    elif len(text) > LONGEST_TEXT:
        problems.append(
            f"{position}: a text of {len(text)} characters; is a quotation mark left open?"
        )
    language = parse_language(row["language"])
    if language is None:
        problems.append(
            f"{position}: unknown language {row['language'][:40]!r};"
            " use an English name or an ISO 639-1 code"
        )
    label = np.nan
    if "label" in row and row["label"].strip():
        label = _parse_label(position, row["label"], problems)
    elif label_required:
        problems.append(f"{position}: the label is empty")
    return (text, label, language) if len(problems) == before and language is not None else None


def _excerpt(text: str) -> str:
    """Return the beginning of `text` on one printable line, for a message."""
    return one_line(text[:80])


def _parse_label(position: str, text: str, problems: list[str]) -> float:
    try:
        label = float(text)
    except ValueError:
        problems.append(f"{position}: the label {text[:40]!r} is not a number")
        return math.nan
    if not LOWEST <= label <= HIGHEST:
        problems.append(
            f"{position}: the label {_excerpt(text.strip())} is outside {LOWEST:g} to {HIGHEST:g}"
        )
        return math.nan
    return label
