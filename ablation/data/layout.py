"""Describe a corpus: its files, columns, labels and groups, as `corpus.toml` beside the files does.

A folder without `corpus.toml` has MINT's layout, `MINT_LAYOUT`. `ablation.data.draft` writes a
first `corpus.toml` for other files.
"""

import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ablation.config.tables import NOT_TOML, validation_problems
from ablation.core.errors import UsageError
from ablation.data.formats import TextFormat, stem

#: The name of a corpus's description.
CORPUS_FILE: Final = "corpus.toml"
#: Words by which files and values of a split column say what rows are for.
PART_WORDS: Final[Mapping[str, str]] = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "development": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "trial": "dev",
    "test": "test",
    "testing": "test",
}
GroupKind = Literal["language", "domain", "none"]
Names = Annotated[tuple[str, ...], Field(max_length=100)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _as_names(value: Any) -> Any:
    """Take a single name for a list of one, and an empty text for none."""
    if isinstance(value, str):
        return (value,) if value else ()
    return value


class TaskTable(_Table):
    """`[task]`: words for reports.

    Attributes:
        name: The corpus's name; empty for the folder's.
        reference: A citation or address.
        measures: Words for what labels measure, such as "intimacy".
    """

    name: str = Field("", max_length=60)
    reference: str = Field("", max_length=500)
    measures: str = Field("label", min_length=1, max_length=40)


class FilesTable(_Table):
    """`[files]`: paths or patterns such as "train/*.csv", relative to `corpus.toml`.

    Attributes:
        hub: A data set on the Hugging Face Hub, such as "hub:org/name@commit", whose files these
            are; the paths are then relative to it.
        train, dev, test: The files of each part.
        delimiter, quoting, encoding: See `TextFormat`.
        decimal: The decimal mark of numbers in delimited text.
        header: Names of the columns, if delimited text has no line of names.
        surplus: "ignored" if lines may have more fields at their end than there are columns.
        join: A file with further columns, such as the groups.
        join_on: The column that is in `join` and in the other files.
    """

    hub: str = ""
    train: Names = ("train.csv",)
    dev: Names = ()
    test: Names = ()
    delimiter: str = Field("", max_length=1)
    quoting: Literal["csv", "none"] = "csv"
    encoding: str = "utf-8"
    decimal: Literal[".", ","] = "."
    header: Names = ()
    surplus: Literal["error", "ignored"] = "error"
    join: str = ""
    join_on: str = ""

    _names = field_validator("train", "dev", "test", mode="before")(_as_names)

    @property
    def text_format(self) -> TextFormat:
        return TextFormat(self.delimiter, self.quoting, self.encoding, self.header, self.surplus)


class ColumnsTable(_Table):
    """`[columns]`: names of columns; of several names the first that a file has, but of `label`.

    Attributes:
        text: The text.
        second_text: The second text of a pair.
        label: The label; several names are several targets.
        group: The group.
        weight: The row's weight in the loss and the scores, above 0.
        split: A column that says train, dev or test.
        others: Whether a file may have further columns.
    """

    text: Names = ("text",)
    second_text: Names = ()
    label: Names = ("label",)
    group: Names = ()
    weight: Names = ()
    split: Names = ()
    others: Literal["ignored", "error"] = "error"

    _names = field_validator(
        "text", "second_text", "label", "group", "weight", "split", mode="before"
    )(_as_names)


#: Labels lie within this distance of 0, so that sums of their squares are finite.
LARGEST_LABEL: Final = 1e30
#: A scale is at least so wide, in parts of its labels' size and of 1: predictions are 32-bit
#: floats, and those that differ by less than a millionth of this count as constant.
_NARROWEST: Final = 1e-3


class LabelTable(_Table):
    """`[label]`: the scale.

    Attributes:
        lowest, highest: The ends of the scale, not of the labels that happen to occur. Within
            `LARGEST_LABEL` of 0, and as far apart as scores need to tell predictions apart.
    """

    lowest: float = Field(1.0, allow_inf_nan=False)
    highest: float = Field(5.0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _is_a_range(self) -> "LabelTable":
        if not self.lowest < self.highest:
            raise ValueError("lowest must be below highest")
        size = max(1.0, abs(self.lowest), abs(self.highest))
        if size > LARGEST_LABEL:
            raise ValueError(
                f"labels beyond {LARGEST_LABEL:g} can't be scored; give them in a larger unit"
            )
        if self.highest - self.lowest < _NARROWEST * size:
            raise ValueError(
                f"labels from {self.lowest:g} to {self.highest:g} differ by less than scores can"
                " tell; give them in a smaller unit, or from another zero"
            )
        return self


class RowsTable(_Table):
    """`[rows]`: what to do with a row that lacks a text, a group, or a label where one is needed.

    Attributes:
        without_text, without_label: "drop" leaves such rows out.
        without_group: "drop" leaves such rows out; "keep" makes them a group of their own.
        empty: Words that stand for an empty cell among labels and weights, such as "NA".
    """

    empty: Names = ()
    _names = field_validator("empty", mode="before")(_as_names)
    without_text: Literal["error", "drop"] = "error"
    without_label: Literal["error", "drop"] = "error"
    without_group: Literal["error", "drop", "keep"] = "error"


class GroupTable(_Table):
    """`[group]`: the kind of group that `columns.group` or the file's name says.

    Attributes:
        kind: "language", "domain" (any text) or "none".
        from_file_name: Take the group from the file's name, or its folder's: "amh.csv" is "amh".
        names: Names for reports by group, such as {"ptbr": "Brazilian Portuguese"}.
    """

    kind: GroupKind = "none"
    from_file_name: bool = False
    names: Mapping[str, str] = Field(default_factory=dict)

    @property
    def word(self) -> str:
        """A group in one word: language, domain or group."""
        return "group" if self.kind == "none" else self.kind

    @property
    def plural(self) -> str:
        """Groups in one word."""
        return f"{self.word}s"


class CorpusLayout(_Table):
    """Everything that `corpus.toml` says, see the tables."""

    task: TaskTable = TaskTable()
    files: FilesTable = FilesTable()
    columns: ColumnsTable = ColumnsTable()
    label: LabelTable = LabelTable()
    rows: RowsTable = RowsTable()
    group: GroupTable = GroupTable()

    @model_validator(mode="after")
    def _fits_together(self) -> "CorpusLayout":
        problems = list(self._contradictions())
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _contradictions(self) -> "list[str]":
        columns, group, files = self.columns, self.group, self.files
        problems = []
        if not columns.text:
            problems.append("columns.text is empty")
        if not columns.label:
            problems.append("columns.label is empty: name the column to predict")
        if not files.train:
            problems.append("files.train is empty")
        has_group = bool(columns.group) or group.from_file_name
        if group.kind == "none" and has_group:
            problems.append('group.kind is "none", but a group is given: "language" or "domain"?')
        if group.kind != "none" and not has_group:
            problems.append("name columns.group, or set group.from_file_name or group.kind")
        if columns.group and group.from_file_name:
            problems.append("columns.group and group.from_file_name: give one of the two")
        if bool(files.join) != bool(files.join_on):
            problems.append("files.join and files.join_on go together")
        if columns.split and (files.dev or files.test):
            problems.append("columns.split says what files.dev and files.test say: give one")
        names = [n for field in ("text", "second_text", "label") for n in getattr(columns, field)]
        if len(set(names)) < len(names):
            problems.append("a column is named twice under [columns]")
        return problems

    @property
    def label_range(self) -> tuple[float, float]:
        """The lowest and the highest label."""
        return self.label.lowest, self.label.highest

    @property
    def is_mint(self) -> bool:
        """Tell if columns and labels are those of the paper's corpus."""
        same = (MINT_LAYOUT.columns, MINT_LAYOUT.label_range)
        return (self.columns, self.label_range) == same


#: The layout of the paper's corpus, and of the demo.
MINT_LAYOUT: Final = CorpusLayout(
    task=TaskTable(measures="intimacy"),
    files=FilesTable(train=("train.csv",), dev=("dev.csv",), test=("test.csv",)),
    columns=ColumnsTable(group=("language",)),
    group=GroupTable(kind="language"),
)


def read_layout(file: Path) -> CorpusLayout:
    """Read a `corpus.toml`. Raises UsageError with a line for each problem."""
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: can't be read: {error}") from error
    return parse_layout(text, str(file))


def parse_layout(text: str, source: str) -> CorpusLayout:
    """Return the layout in a TOML text; `source` names it in messages. Raises UsageError."""
    try:
        tables = tomllib.loads(text)
    except NOT_TOML as error:
        raise UsageError(f"{source}: not TOML: {error}") from error
    try:
        return CorpusLayout.model_validate(tables)
    except ValidationError as error:
        raise UsageError([f"{source}: {line}" for line in _problems(error)]) from error


def _problems(error: ValidationError) -> list[str]:
    """Return a line for each problem; those of the whole say what to do by themselves."""
    whole = [e for e in error.errors() if not e["loc"]]
    if whole:
        return [str(e["msg"]).removeprefix("Value error, ") for e in whole]
    return validation_problems(error)


def groups_from_paths(paths: Sequence[str]) -> list[str]:
    """Return the groups that the paths of one part's files say.

    Words such as train and dev, and words that all paths have, are left out.

    >>> groups_from_paths(["train/amh.csv", "train/fr-CA.csv"])
    ['amh', 'fr-CA']
    >>> groups_from_paths(["EI-reg-En-anger-train.txt", "EI-reg-En-joy-train.txt"])
    ['anger', 'joy']
    >>> groups_from_paths(["en/train.csv", "ptbr/train.csv"])
    ['en', 'ptbr']
    >>> groups_from_paths(["../anger-0to1.train.txt", "../joy-0to1.train.txt"])
    ['anger', 'joy']
    """
    pieces = [_pieces(path) for path in paths]
    words = [{word for word in of_path if _is_word(word)} for of_path in pieces]
    shared = set.intersection(*words) if len(words) > 1 else set()
    return [_joined(of_path, shared) for of_path in pieces]


def _joined(pieces: Sequence[str], shared: Collection[str]) -> str:
    """Join the words that tell paths apart, by what stands between them in the path."""
    group, between = "", ""
    for piece in pieces:
        if not _is_word(piece):
            between += piece
        elif piece in shared or piece.lower() in PART_WORDS:
            between = "-"
        else:
            group += (between if group else "") + piece
            between = ""
    return group


def _is_word(piece: str) -> bool:
    return piece[0].isalnum()


def _pieces(path: str) -> list[str]:
    """Return a path's words, and the characters between them."""
    folder, _, name = path.rpartition("/")
    name = re.sub(r"-\d+-of-\d+$", "", stem(name))  # a shard is no group
    # A tag such as fr-CA keeps its hyphen, so separators are pieces as well.
    return re.findall(r"[^\W_]+|[\W_]", f"{folder}/{name}")
