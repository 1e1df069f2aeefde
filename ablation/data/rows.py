"""Read the rows that a layout describes, and check every value.

Each problem is one line with file, line and value; reading goes on, so that all are reported
together.
"""

import glob
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import pandas as pd

from ablation.core.errors import UsageError
from ablation.core.suggest import did_you_mean
from ablation.data.formats import LONGEST_TEXT, RawTable, Record, Value, excerpt, read_rows
from ablation.data.languages import parse_tag
from ablation.data.layout import PART_WORDS, CorpusLayout, groups_from_paths

#: The group of every row of a corpus without groups.
UNGROUPED: Final = "all rows"
#: The groups of rows that have none: "undetermined" among languages (BCP 47).
NO_GROUP, NO_LANGUAGE = "no group", "und"
#: Words for subsets of rows in scores and reports, which no group may have for a name.
_SUBSETS: Final = frozenset({"all", "seen", "unseen"})
LONGEST_GROUP: Final = 60
#: The fields of `ColumnsTable` that are values of a row, in the order of messages.
_FIELDS: Final = ("text", "second_text", "label", "group", "weight", "split")


class Row(NamedTuple):
    """A valid row; `label` is NaN without one."""

    text: str
    second_text: str
    label: float
    language: str
    weight: float


@dataclass
class Findings:
    """Everything that reading has found: bytes for the digest, problems, and what was left out.

    Attributes:
        contents: Name and bytes of each file, in the order of reading.
        problems: A line each.
        dropped: The number of rows that were left out, by what they lack ("text", "label").
    """

    contents: list[tuple[str, bytes]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


def choose_target(layout: CorpusLayout, target: str, source: str) -> str:
    """Return the label column to read.

    Args:
        layout: The layout; `columns.label` lists the targets.
        target: The wanted one; may be empty if there is one only.
        source: The corpus, for messages.

    Raises:
        UsageError: There is no such target, or several of which none is chosen.
    """
    targets = layout.columns.label
    if target and target not in targets:
        raise UsageError(f"--target {target!r}: {source}: {did_you_mean(target, targets)}")
    if not target and len(targets) > 1:
        raise UsageError(
            f"{source}: several targets ({', '.join(targets)}): choose one, such as"
            f" --target {targets[0]}"
        )
    return target or targets[0]


def read_parts(
    folder: Path, layout: CorpusLayout, target: str, findings: Findings
) -> dict[str, pd.DataFrame]:
    """Read all files of a corpus.

    Args:
        folder: The folder that paths are relative to.
        layout: The layout.
        target: The label column.
        findings: Receives problems and contents.

    Returns:
        The valid rows by part (train, and dev and test if there are files of them): columns
        `text`, `label` and `language` (the group), and `second_text` and `weight` if the layout
        has them.
    """
    reader = _Reader(folder, layout, target, findings)
    rows: dict[str, list[Row]] = {}
    for part in ("train", "test", "dev"):
        for file, group in reader.files(part):
            for row_part, row in reader.rows(file, part, group):
                rows.setdefault(row_part, []).append(row)
            rows.setdefault(part, [])
    return {part: _frame(rows[part], layout) for part in rows}


def _frame(rows: Sequence[Row], layout: CorpusLayout) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(Row._fields)).astype(
        {"label": "float64", "weight": "float64"}
    )
    columns = ["text", "label", "language"]
    columns += ["second_text"] * bool(layout.columns.second_text)
    columns += ["weight"] * bool(layout.columns.weight)
    return frame[columns]


class _Reader:
    """Reads the files of one corpus; problems go to `findings`."""

    def __init__(self, folder: Path, layout: CorpusLayout, target: str, findings: Findings) -> None:
        self.folder, self.layout, self.target, self.findings = folder, layout, target, findings
        self.problems = findings.problems
        self.joined = self._read_join()

    def files(self, part: str) -> list[tuple[Path, str | None]]:
        """Return a part's files, a pattern's in the order of their names, and their groups."""
        found: list[str] = []
        for pattern in getattr(self.layout.files, part):
            if not glob.has_magic(pattern):
                found.append(pattern)
                continue
            names = sorted(glob.glob(pattern, root_dir=self.folder))
            if not names:
                self.problems.append(f"{self.folder / pattern}: no file has such a name")
            found += [Path(name).as_posix() for name in names]
        files = [self.folder / name for name in found]
        if not self.layout.group.from_file_name:
            return [(file, None) for file in files]
        return list(zip(files, groups_from_paths(found), strict=True))

    def rows(self, file: Path, part: str, group: str | None) -> Iterator[tuple[str, Row]]:
        """Yield (part, row) for each valid row of a file, whose name may say the group."""
        before = len(self.problems)
        table = self._read(file)
        columns = None if table is None else self._columns(table, part)
        if table is None or columns is None:
            return
        if not table.records:
            if len(self.problems) == before:
                self.problems.append(f"{file}: no rows below the header")
            return
        parsed: list[tuple[str, Row]] = []
        for record in table.records:
            row = self._row(f"{file}, {record.position}", record, columns, group, part)
            if row is not None:
                parsed.append(row)
        yield from self._without_missing(file, parsed, len(self.problems) > before)

    def _without_missing(
        self, file: Path, rows: list[tuple[str, Row]], has_problems: bool
    ) -> list[tuple[str, Row]]:
        """Return the rows that may stay: all but those that lack the label that others have."""
        drop = self.layout.rows.without_label == "drop"
        test_labels = [math.isnan(row.label) for part, row in rows if part == "test"]
        is_partial = 0 < sum(test_labels) < len(test_labels)
        if is_partial and not drop:
            self.problems.append(
                f"{file}: {sum(test_labels)} of {len(test_labels)} rows have no label;"
                " give all labels or leave the column out"
            )
        kept = [
            (part, row)
            for part, row in rows
            if not (drop and math.isnan(row.label) and (part != "test" or is_partial))
        ]
        if len(kept) < len(rows) and not has_problems:
            self.findings.dropped["label"] += len(rows) - len(kept)
        return kept

    def _read(self, file: Path) -> RawTable | None:
        table = read_rows(file, self.layout.files.text_format, self.problems)
        if table is None:
            return None
        self.findings.contents.append((file.name, table.content))
        if self.joined is None:
            return table
        return self._join(table, *self.joined)

    def _read_join(self) -> tuple[RawTable, dict[str, Record]] | None:
        files = self.layout.files
        if not files.join:
            return None
        table = read_rows(self.folder / files.join, files.text_format, self.problems)
        if table is None:
            return None
        self.findings.contents.append((files.join, table.content))
        if files.join_on not in table.columns:
            self.problems.append(
                f"{table.file}: column {files.join_on} is missing (the header is"
                f" {excerpt(','.join(table.columns))})"
            )
            return None
        by_key: dict[str, Record] = {}
        for record in table.records:
            key = _as_text(record.values.get(files.join_on))
            if key in by_key:
                self.problems.append(
                    f"{table.file}, {record.position}: {files.join_on} {excerpt(key)!r} occurs"
                    " twice"
                )
            by_key[key] = record
        return table, by_key

    def _join(self, table: RawTable, other: RawTable, by_key: Mapping[str, Record]) -> RawTable:
        """Add the other file's columns to the rows with its keys."""
        on = self.layout.files.join_on
        added = [name for name in other.columns if name not in table.columns]
        records = []
        for record in table.records:
            match = by_key.get(_as_text(record.values.get(on)))
            if match is None:
                key = excerpt(_as_text(record.values.get(on)))
                self.problems.append(
                    f"{table.file}, {record.position}: no row of {other.file.name} has {on} {key!r}"
                )
                continue
            values = {name: match.values.get(name) for name in added}
            records.append(Record(record.position, {**record.values, **values}))
        return RawTable(table.file, (*table.columns, *added), records, table.content)

    def _columns(self, table: RawTable, part: str) -> dict[str, str] | None:
        """Return the file's column for each field, or None with a line on what is wrong."""
        columns = self.layout.columns
        candidates = {field: getattr(columns, field) for field in _FIELDS}
        candidates["label"] = (self.target,)
        found = {
            field: next((name for name in names if name in table.columns), "")
            for field, names in candidates.items()
        }
        may_lack = (
            {"label"} if part == "test" or self.layout.rows.without_label == "drop" else set()
        )
        missing = [
            " or ".join(candidates[field])
            for field, name in found.items()
            if candidates[field] and not name and field not in may_lack
        ]
        if missing:
            self.problems.append(_missing_columns(table, missing))
            return None
        known = {name for field in _FIELDS for name in getattr(columns, field)}
        known.add(self.layout.files.join_on)
        extra = sorted(set(table.columns) - known)
        if extra and columns.others == "error" and self.joined is None:
            listed = ",".join(name for field in _FIELDS for name in getattr(columns, field))
            self.problems.append(
                f"{table.file}, line 1: unexpected column {excerpt(', '.join(extra))};"
                f" the columns are {listed}"
            )
            return None
        return {field: name for field, name in found.items() if name}

    def _row(
        self,
        position: str,
        record: Record,
        columns: Mapping[str, str],
        group: str | None,
        part: str,
    ) -> tuple[str, Row] | None:
        """Return the part and the row, or None with a line for each value that is wrong."""
        before = len(self.problems)
        values = {field: record.values.get(name) for field, name in columns.items()}
        if self.layout.rows.without_text == "drop" and not _has_texts(values):
            self.findings.dropped["text"] += 1
            return None
        text = self._text(position, values["text"], columns["text"])
        second = ""
        if "second_text" in columns:
            second = self._text(position, values["second_text"], columns["second_text"])
        if group is None and "group" in columns:
            group = _as_text(values["group"])
        named_group = self._group(position, group, columns.get("group", "group"))
        if "split" in columns:
            part = self._part(position, values["split"], columns["split"])
        label = self._label(position, values.get("label"), columns.get("label", "label"), part)
        weight = 1.0
        if named_group is None:
            self.findings.dropped["group"] += 1
            return None
        if "weight" in columns:
            weight = self._weight(position, values["weight"], columns["weight"])
        if len(self.problems) > before:
            return None
        return part, Row(text, second, label, named_group, weight)

    def _text(self, position: str, value: Value, column: str) -> str:
        text, name = _as_text(value).strip(), _named("text", column)
        if not text:
            self.problems.append(f"{position}: the {name} is empty")
        elif len(text) > LONGEST_TEXT:
            self.problems.append(
                f"{position}: a {name} of {len(text)} characters; is a quotation mark left open?"
            )
        return text

    def _group(self, position: str, text: str | None, column: str) -> str | None:
        """Return the group as it is stored: a language's tag, or the text on one line.

        None if the row is to be left out.
        """
        kind = self.layout.group.kind
        if text is None or kind == "none":
            return UNGROUPED
        without = self.layout.rows.without_group
        if without != "error" and not text.strip():
            return {"keep": NO_LANGUAGE if kind == "language" else NO_GROUP}.get(without)
        if kind == "language":
            tag = parse_tag(text)
            if tag is None:
                self.problems.append(
                    f"{position}: unknown language {text[:40]!r}; use an English name, an ISO"
                    " 639 code or a tag such as fr-CA"
                )
            return tag or ""
        name = " ".join(text.split())
        if not name:
            self.problems.append(f"{position}: the {_named('group', column)} is empty")
        elif len(name) > LONGEST_GROUP:
            self.problems.append(
                f"{position}: the {_named('group', column)} {excerpt(name[:40])!r}... has"
                f" {len(name)} characters, more than {LONGEST_GROUP}"
            )
        return f"group {name}" if name in _SUBSETS else name

    def _part(self, position: str, value: Value, column: str) -> str:
        word = _as_text(value).strip()
        part = PART_WORDS.get(word.lower(), "")
        if not part:
            self.problems.append(
                f"{position}: the {_named('split', column)} {excerpt(word)!r} is none of"
                f" {', '.join(PART_WORDS)}"
            )
        return part

    def _label(self, position: str, value: Value, column: str, part: str) -> float:
        name = _named("label", column)
        if self._is_empty(value):
            if part != "test" and self.layout.rows.without_label == "error":
                self.problems.append(f"{position}: the {name} is empty")
            return math.nan
        label = self._number(position, value, name)
        lowest, highest = self.layout.label_range
        if label is not None and not lowest <= label <= highest:
            self.problems.append(
                f"{position}: the {name} {excerpt(_as_text(value).strip())} is outside {lowest:g}"
                f" to {highest:g}"
            )
            return math.nan
        return math.nan if label is None else label

    def _is_empty(self, value: Value) -> bool:
        text = _as_text(value).strip()
        return not text or text in self.layout.rows.empty

    def _weight(self, position: str, value: Value, column: str) -> float:
        name = _named("weight", column)
        weight = self._number(position, value, name)
        if weight is not None and not 0 < weight < math.inf:
            self.problems.append(f"{position}: the {name} {weight:g} is not a number above 0")
        return 1.0 if weight is None else weight

    def _number(self, position: str, value: Value, name: str) -> float | None:
        if isinstance(value, int | float):
            return float(value)
        text = _as_text(value).strip()
        try:
            return parse_number(text, self.layout.files.decimal)
        except ValueError:
            hint = ""
            if "," in text and self.layout.files.decimal == ".":
                hint = '; files.decimal = "," reads decimal commas' if self._is_described else ""
            self.problems.append(f"{position}: the {name} {text[:40]!r} is not a number{hint}")
            return None

    @property
    def _is_described(self) -> bool:
        return bool(self.layout.columns.others == "ignored" or self.layout.task.name)


def _has_texts(values: Mapping[str, Value]) -> bool:
    """Tell if the text, and the second of a pair, are there."""
    texts = [values[name] for name in ("text", "second_text") if name in values]
    return all(_as_text(text).strip() for text in texts)


#: The sign that typesetting and some locales write for a hyphen.
_MINUS: Final = "\N{MINUS SIGN}"


def parse_number(text: str, decimal: str) -> float:
    """Return a number written with this decimal mark. Raises ValueError."""
    if decimal == ",":
        if "." in text:
            raise ValueError(text)
        text = text.replace(",", ".")
    # Python alone reads 1_000.
    if "_" in text:
        raise ValueError(text)
    return float(text.replace(_MINUS, "-"))


def _missing_columns(table: RawTable, missing: Sequence[str]) -> str:
    delimiter = next((d for d in (";", "\t", "|") if d in table.columns[0]), None)
    hint = f"; the delimiter looks like {delimiter!r}, expected a comma" if delimiter else ""
    header = excerpt(",".join(table.columns))
    return (
        f"{table.file}, line 1: column {', '.join(sorted(missing))} is missing (the header is"
        f" {header}){hint}"
    )


def _named(role: str, column: str) -> str:
    """Name a value by its role, and by its column where that has another name."""
    return role if column in (role, "language") else f"{role} (column {column})"


def _as_text(value: Value) -> str:
    return "" if value is None else str(value)
