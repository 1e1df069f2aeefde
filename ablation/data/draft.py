"""Draft a `corpus.toml`: look at files, guess what they hold, and say why.

A guess comes from the values. Of names, only those of parts (train, dev, test), the words "text"
and "label", and pairs such as sentence1 and sentence2 count. What can't be told is left open for
the user.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ablation.core.counting import counted
from ablation.core.errors import UsageError
from ablation.core.slugs import slug
from ablation.data.columns import Column, are_languages, look_at, outward, uses_decimal_commas
from ablation.data.formats import (
    DELIMITED,
    ENDINGS,
    RawTable,
    TextFormat,
    ending,
    read_rows,
    stem,
)
from ablation.data.languages import language_name, parse_tag
from ablation.data.layout import (
    CORPUS_FILE,
    PART_WORDS,
    CorpusLayout,
    groups_from_paths,
    parse_layout,
)
from ablation.data.sniffing import (
    SURE_ENCODINGS,
    UNNAMED,
    non_ascii_sample,
    sniff_format,
)

PARTS: Final = ("train", "dev", "test")
#: A pair's columns end in 1 and 2, or a and b.
_PAIR: Final = re.compile(r"(.+?)[_ ]?([12ab])", re.IGNORECASE)
_PAIR_ENDS: Final = {"1": "2", "a": "b", "A": "B"}
_VALUES_SHOWN: Final = 8
#: Larger whole numbers are written with an exponent.
_LARGEST_WRITTEN_OUT: Final = 1e15
#: Files that the library `datasets` writes beside those of rows.
_NO_ROWS: Final = ("dataset_dict.json", "dataset_info.json", "dataset_infos.json", "state.json")
_NO_TABLE: Final = "no rows of several columns"
#: Values that are all different and no longer than this are names rather than texts.
_SHORTEST_TEXT: Final = 20


@dataclass(frozen=True)
class Choices:
    """A user's own words, which win over guesses; None or () where there are none."""

    text: str | None = None
    second_text: str | None = None
    label: tuple[str, ...] = ()
    group: str | None = None
    group_kind: str | None = None
    weight: str | None = None
    label_range: tuple[float, float] | None = None


NO_CHOICES: Final = Choices()


@dataclass
class Draft:
    """A drafted description.

    Attributes:
        text: The `corpus.toml`, with the reason of each guess as a comment.
        sentences: The guesses in words.
        open_questions: Decisions that only the user can take.
        source: The file or folder that was looked at.
    """

    text: str
    sentences: tuple[str, ...]
    open_questions: tuple[str, ...]
    source: Path

    @property
    def layout(self) -> CorpusLayout:
        """The layout. Raises UsageError while there are open questions."""
        if self.open_questions:
            hint = f"`ablation data init {self.source}` writes a {CORPUS_FILE} to complete"
            raise UsageError([f"{self.source}: {q}; {hint}" for q in self.open_questions])
        return parse_layout(self.text, f"the draft of {self.source}")


@dataclass(frozen=True)
class _Sniffed:
    """A file that could be read, its part ("" if nothing says it), and how it was read."""

    table: RawTable
    part: str
    text_format: TextFormat


@dataclass(frozen=True)
class _Found:
    """Files by part, the columns that are neither text nor label, and the files of no part."""

    parts: Mapping[str, Sequence[_Sniffed]]
    columns: Mapping[str, Column]
    others: Sequence[_Sniffed]


@dataclass
class _Page:
    """The lines of the draft, table by table."""

    tables: dict[str, list[str]] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)

    def set(self, table: str, key: str, value: Any, reason: str = "") -> None:
        lines = self.tables.setdefault(table, [])
        lines += [f"# {line}" for line in reason.splitlines()]
        lines.append(f"{key} = {_toml(value)}")
        if reason:
            self.sentences.append(f"guessed {table}.{key} = {_toml(value)}: {reason}")

    def set_join(self, table: RawTable, key: str, folder: Path) -> None:
        """Join another file's columns to the rows with its keys."""
        path = _relative(table.file, folder)
        self.set("files", "join", path, f"it has further columns for each {key}")
        self.set("files", "join_on", key)

    def remark(self, table: str, text: str) -> None:
        self.tables.setdefault(table, []).append(f"# {text}")

    def ask(self, table: str, key: str, value: Any, question: str) -> None:
        self.tables.setdefault(table, []).extend(
            [f"# DECIDE: {question}", f"{key} = {_toml(value)}"]
        )
        self.questions.append(question)

    def text(self) -> str:
        head = (
            "# A draft by `ablation data init`: every line is a guess that you may change.\n"
            "# Then check it with `ablation data` and this folder.\n"
        )
        parts = [f"[{name}]\n" + "\n".join(lines) for name, lines in self.tables.items()]
        return head + "\n" + "\n\n".join(parts) + "\n"


def draft_layout(
    source: Path, choices: Choices = NO_CHOICES, *, beside: Path | None = None, hub: str = ""
) -> Draft:
    """Look at a folder or a file of rows and draft its description.

    Args:
        source: The folder or the file.
        choices: The user's own words.
        beside: The folder that the description will be in; that of the files if None.
        hub: The pinned name of a data set whose files are in `source`.

    Raises:
        UsageError: Nothing there can be read as rows, or a column that is named does not exist.
    """
    folder = source if source.is_dir() else source.parent
    base = beside or folder
    problems: list[str] = []
    sniffed = list(_sniff_all(source, problems))
    if not sniffed:
        known = ", ".join(ENDINGS)
        nothing = f"no file of rows in it ({known})" if source.is_dir() else _NO_TABLE
        raise UsageError(problems or f"{source}: {nothing}")
    page = _Page()
    parts, others = _assign_parts(sniffed)
    parts = _in_one_format(parts)
    left_out = _without_texts(parts)
    name = hub.partition("@")[0].rpartition("/")[2] or _name_of(source)
    page.set("task", "name", slug(name))
    page.remark("task", 'reference = "a citation or address"')
    page.remark("task", 'measures = "words for what the labels measure"')
    if hub:
        page.set("files", "hub", hub)
    _draft_files(page, base, parts)
    _draft_contents(page, base, parts, others, choices)
    for problem in [*problems, *left_out]:
        page.remark("files", f"left out: {problem}")
    return Draft(page.text(), tuple(page.sentences), tuple(page.questions), source)


def _name_of(source: Path) -> str:
    """Return the folder's name, or the file's own unless that says a part, such as train.csv."""
    folder = source if source.is_dir() else source.parent
    is_named = source.is_file() and not _part_of(source, folder)
    return stem(source.name) if is_named else folder.resolve().name


def _sniff_all(source: Path, problems: list[str]) -> Iterator[_Sniffed]:
    if source.is_file():
        files, folder = [source], source.parent
    else:
        folder = source
        files = sorted(
            file
            for pattern in ("*", "*/*", "*/*/*")
            for file in source.glob(pattern)
            if file.is_file() and ending(file) in ENDINGS and file.name not in _NO_ROWS
        )
    for file in files:
        found: list[str] = []
        text_format = sniff_format(file)
        table = read_rows(file, text_format, found)
        # A text file of one column is a README rather than rows.
        if table is not None and table.records and len(table.columns) > 1:
            # A single file is what there is to train on, whatever its name is.
            part = _part_of(file, folder) if source.is_dir() else "train"
            yield _Sniffed(table, part, text_format)
        elif ending(file) != ".txt":
            problems += found[:1] or [f"{file}: {_NO_TABLE}"]


def _in_one_format(
    parts: Mapping[str, Sequence[_Sniffed]],
) -> dict[str, list[_Sniffed]]:
    """Read all delimited files as the first training file, since a description has one format."""
    first = parts["train"][0]
    return {
        part: [_as_first(one, first.text_format) for one in files] for part, files in parts.items()
    }


def _without_texts(parts: dict[str, list[_Sniffed]]) -> list[str]:
    """Take files of labels alone out of the parts, and return a line for each."""
    columns = look_at([one.table for one in parts["train"]], ".")
    texts = {name for name, column in columns.items() if column.may_be_text}
    lines = []
    for part in ("dev", "test"):
        for one in [one for one in parts[part] if texts and not texts & set(one.table.columns)]:
            parts[part].remove(one)
            lines.append(f"{one.table.file}: has none of the columns {', '.join(sorted(texts))}")
    return lines


def _as_first(one: _Sniffed, text_format: TextFormat) -> _Sniffed:
    file = one.table.file
    if ending(file) not in DELIMITED or one.text_format == text_format:
        return one
    table = read_rows(file, text_format, [])
    return one if table is None or not table.records else replace(one, table=table)


def _part_of(file: Path, folder: Path) -> str:
    """Return the part that a file's name or its folder's name says, "" for neither."""
    relative = file.relative_to(folder)
    names = [stem(file.name), *(parent.name for parent in relative.parents)]
    for name in names:
        words = re.split(r"[^a-z]+", name.lower())
        parts = {PART_WORDS[word] for word in words if word in PART_WORDS}
        if len(parts) == 1:
            return parts.pop()
    return ""


def _assign_parts(
    sniffed: Sequence[_Sniffed],
) -> tuple[dict[str, list[_Sniffed]], list[_Sniffed]]:
    """Return the files of each part, and the files of none."""
    parts: dict[str, list[_Sniffed]] = {part: [] for part in PARTS}
    rest: list[_Sniffed] = []
    for one in sniffed:
        (parts[one.part] if one.part else rest).append(one)
    if parts["train"]:
        return parts, rest
    if not rest:
        raise UsageError(
            f"{sniffed[0].table.file.parent}: no training rows: only dev or test files"
        )
    # The files with the most rows in all that have the same columns.
    alike: dict[tuple[str, ...], list[_Sniffed]] = {}
    for one in rest:
        alike.setdefault(one.table.columns, []).append(one)
    train = max(alike.values(), key=_likelihood_of_training)
    parts["train"] = train
    return parts, [one for one in rest if one not in train]


def _likelihood_of_training(files: Sequence[_Sniffed]) -> tuple[bool, int]:
    """Rank files that have the same columns: those with numbers first, then by rows."""
    tables = [one.table for one in files]
    has_label = any(column.may_be_label for column in look_at(tables, ".").values())
    return has_label, sum(len(table.records) for table in tables)


def _draft_files(page: _Page, folder: Path, parts: Mapping[str, Sequence[_Sniffed]]) -> None:
    for part, files in parts.items():
        if not files:
            continue
        rows = sum(len(one.table.records) for one in files)
        names = _patterns(folder, [one.table.file for one in files])
        reason = f"{rows:,} rows in {len(files)} file{'s' * (len(files) > 1)}"
        page.set("files", part, names[0] if len(names) == 1 else names, reason)
    # The format is one for all files; the first training file decides.
    first = parts["train"][0]
    file, text_format = first.table.file, first.text_format
    if ending(file) in DELIMITED:
        if text_format.delimiter:
            page.set("files", "delimiter", text_format.delimiter, "gives the most columns")
        if text_format.quoting == "none":
            reason = "quotation marks are part of the texts: read as CSV, rows would be lost"
            page.set("files", "quoting", "none", reason)
        if text_format.header:
            reason = "the first line is a row, so there is no line of names: name the columns"
            page.set("files", "header", list(text_format.header), reason)
        if text_format.surplus == "ignored":
            reason = "some lines have further fields at their end"
            page.set("files", "surplus", "ignored", reason)
        if text_format.encoding != "utf-8":
            _draft_encoding(page, file, text_format.encoding)
    if _decimal(parts) == ",":
        page.set("files", "decimal", ",", "numbers are written with commas")


def _draft_encoding(page: _Page, file: Path, encoding: str) -> None:
    """Set the encoding, or leave it open if it is told by what the file seems to say alone."""
    if encoding in SURE_ENCODINGS:
        sample = non_ascii_sample(file, encoding)
        reason = f"the file is not UTF-8; so read, it has {_toml(sample)}" if sample else ""
        page.set("files", "encoding", encoding, reason or "the file is not UTF-8")
        return
    question = (
        f"files.encoding: the file is not UTF-8; read as {encoding} it has"
        f" {_toml(non_ascii_sample(file, encoding))}"
    )
    page.ask("files", "encoding", encoding, question)


def _patterns(folder: Path, files: Sequence[Path]) -> list[str]:
    """Return one pattern for several files that are all in one folder, else their names."""
    names = [_relative(file, folder) for file in files]
    parents = {file.parent for file in files}
    if len(files) > 1 and len(parents) == 1:
        parent = parents.pop()
        suffix = "".join(files[0].suffixes)
        if sorted(parent.glob(f"*{suffix}")) == sorted(files):
            return [_relative(parent / f"*{suffix}", folder)]
    return names


def _relative(file: Path, folder: Path) -> str:
    """Write a path as seen from a folder, which need not hold it."""
    try:
        return Path(os.path.relpath(file, folder)).as_posix()
    except ValueError:  # on another drive of Windows
        return file.absolute().as_posix()


def _draft_contents(
    page: _Page,
    folder: Path,
    parts: Mapping[str, Sequence[_Sniffed]],
    others: Sequence[_Sniffed],
    choices: Choices,
) -> None:
    train = [one.table for one in parts["train"]]
    columns = look_at(train, _decimal(parts))
    _require_columns(columns, choices, [one.table for one in others])
    joined = _find_join(parts["train"], others) if _lacks_texts(columns, choices) else None
    if joined is not None:
        page.set_join(*joined, folder)
        columns |= {k: v for k, v in look_at([joined[0]], ".").items() if k not in columns}
    split = next((c for c in columns.values() if c.says_part), None)
    if len(parts["train"]) == 1 and split and not (parts["dev"] or parts["test"]):
        page.set("columns", "split", split.name, f"its values are {_listed(split)}")
    texts = _draft_texts(page, columns, choices)
    others_than_texts = {name: c for name, c in columns.items() if name not in texts}
    labels = _draft_labels(page, others_than_texts, choices)
    tables = {part: [one.table for one in files] for part, files in parts.items()}
    rest = {name: c for name, c in columns.items() if name not in (*texts, *labels)}
    _draft_group(page, folder, _Found(parts, rest, [] if joined else others), choices)
    if choices.weight:
        page.set("columns", "weight", choices.weight, "as you said")
    page.set("columns", "others", "ignored", "further columns are not read")
    _draft_scale(page, tables, labels, choices, _decimal(parts))
    _draft_missing(page, tables, texts, [columns[name] for name in labels if name in columns])


def _lacks_texts(columns: Mapping[str, Column], choices: Choices) -> bool:
    """Tell if what the training files have instead of texts are names, such as those of texts."""
    if choices.text is not None:
        return choices.text not in columns
    texts = [column for column in columns.values() if column.may_be_text]
    return all(_is_name(column) for column in texts)


def _is_name(column: Column) -> bool:
    """Tell if all values are different and short."""
    return len(column.values) == column.filled and column.mean_length <= _SHORTEST_TEXT


def _require_columns(
    columns: Mapping[str, Column], choices: Choices, others: Sequence[RawTable]
) -> None:
    """Raise UsageError for a column that the user names and no file has."""
    known = {*columns, *(name for table in others for name in table.columns)}
    named = [choices.text, choices.second_text, *choices.label, choices.group, choices.weight]
    if missing := [name for name in named if name and name not in known]:
        listed = ", ".join(columns)
        raise UsageError(f"no column {', '.join(missing)}: the training rows have {listed}")


def _draft_texts(page: _Page, columns: Mapping[str, Column], choices: Choices) -> list[str]:
    candidates = sorted(
        (c for c in columns.values() if c.may_be_text), key=lambda c: (c.are_codes, -c.mean_length)
    )
    # Of columns that are no texts, names such as column1 and column2 say nothing.
    pair = _pair(candidates[:2])
    if choices.text:
        text, reason = choices.text, "as you said"
    elif pair:
        text, reason = pair[0], f"{pair[0]} and {pair[1]} are named as a pair"
    elif "text" in columns:
        text, reason = "text", "its name"
    elif candidates:
        text = candidates[0].name
        reason = f"the longest texts, {candidates[0].mean_length:.0f} characters on average"
    else:
        page.ask("columns", "text", "", f"columns.text: no column of texts in {', '.join(columns)}")
        return []
    page.set("columns", "text", text, reason)
    if choices.second_text:
        page.set("columns", "second_text", choices.second_text, "as you said")
        return [text, choices.second_text]
    if pair and not choices.text:
        page.set("columns", "second_text", pair[1], "the second of the pair")
        return list(pair)
    for other in candidates:
        many = len(other.values) > other.filled / 4 and not other.may_be_group
        if other.name != text and many and not _is_name(other):
            example = json.dumps(next(iter(other.values))[:40], ensure_ascii=False)
            page.remark(
                "columns",
                f"second_text = {_toml(other.name)}  # if texts are pairs; such as {example}",
            )
    return [text]


def _pair(candidates: Sequence[Column]) -> tuple[str, str] | None:
    names = {column.name for column in candidates}
    for column in candidates:
        match = _PAIR.fullmatch(column.name)
        if match and match[2] in _PAIR_ENDS and match[1] != UNNAMED:
            second = column.name[: match.start(2)] + _PAIR_ENDS[match[2]]
            if second in names:
                return column.name, second
    return None


def _draft_labels(page: _Page, columns: Mapping[str, Column], choices: Choices) -> list[str]:
    candidates = [c for c in columns.values() if c.may_be_label and c.name != choices.weight]
    names = [c.name for c in candidates]
    if choices.label:
        chosen, reason = list(choices.label), "as you said"
    elif "label" in names:
        chosen, reason = ["label"], "its name"
    elif len(candidates) == 1:
        chosen, reason = names, "the only column of numbers that is no running number"
    elif candidates and _have_one_scale(candidates):
        chosen, reason = names, "columns of numbers on one scale: several targets, see --target"
    else:
        listed = ", ".join(f"{c.name} ({_range_text(_ends([c]))})" for c in candidates)
        question = f"columns.label: name the column to predict: {listed or _no_numbers(columns)}"
        page.ask("columns", "label", "", question)
        return []
    page.set("columns", "label", chosen[0] if len(chosen) == 1 else chosen, reason)
    return chosen


def _no_numbers(columns: Mapping[str, Column]) -> str:
    """Say why no column can be the label, with the reason for three that have short values."""
    short = [c for c in columns.values() if c.values and c.mean_length <= _SHORTEST_TEXT]
    first = sorted(short, key=lambda column: column.name != "label")[:3]
    reasons = [f"{column.name} ({column.why_no_label})" for column in first]
    return "no column of numbers" + (f"; {', '.join(reasons)}" if reasons else "")


def _draft_group(page: _Page, folder: Path, found: _Found, choices: Choices) -> None:
    parts, columns, others = found.parts, found.columns, found.others
    paths = [_relative(one.table.file, folder) for one in parts["train"]]
    of_files = set(groups_from_paths(paths))
    groups: list[str] = []
    if choices.group_kind == "none":
        page.set("group", "kind", "none", "as you said")
        return
    is_each_its_own = len(of_files) == len(parts["train"]) > 1 and "" not in of_files
    if choices.group is None and is_each_its_own:
        groups = sorted(of_files)
        page.set("group", "from_file_name", True, f"a file for each group: {', '.join(groups)}")
    else:
        candidates = [c for c in columns.values() if c.may_be_group]
        joined = None
        if not candidates or (choices.group and choices.group not in columns):
            joined = _find_join(parts["train"], others)
        if joined:
            page.set_join(*joined, folder)
            candidates = [c for c in look_at([joined[0]], ".").values() if c.may_be_group]
        if choices.group:
            candidates = sorted(candidates, key=lambda c: c.name != choices.group)
            if not candidates or candidates[0].name != choices.group:
                page.set("columns", "group", choices.group, "as you said")
                page.set("group", "kind", choices.group_kind or "domain", "any text")
                return
        if not candidates:
            page.set("group", "kind", "none", "no column of a few short texts")
            return
        if candidates[0].filled < candidates[0].rows:
            missing = candidates[0].rows - candidates[0].filled
            reason = f"{counted(missing, 'training row')} without a group"
            page.set("rows", "without_group", "keep", reason)
        groups = sorted(candidates[0].values)
        others_named = [c.name for c in candidates[1:]]
        reason = "as you said" if choices.group else f"its values are {_listed(candidates[0])}"
        if others_named and not choices.group:
            reason += f"; or {', '.join(others_named)}"
        names = _other_names(candidates[0], parts)
        if names:
            reason += f"; {', '.join(names)} in another file"
        name = candidates[0].name
        page.set("columns", "group", [name, *names] if names else name, reason)
    if choices.group_kind:
        kind, reason = choices.group_kind, "as you said"
    elif are_languages(groups):
        kind, reason = "language", f"read as languages: {', '.join(map(_language, groups))}"
    else:
        kind, reason = "domain", "other texts than languages"
    page.set("group", "kind", kind, reason)
    page.remark("group", f'names = {{ {_toml(groups[0])} = "name for reports" }}')


def _language(group: str) -> str:
    """Say which language a group is read as, such as "amh = Amharic"; a question mark for none."""
    tag = parse_tag(group) or group
    name = language_name(tag)
    return f"{group} = {name if name != tag else '?'}"


def _other_names(group: Column, parts: Mapping[str, Sequence[_Sniffed]]) -> list[str]:
    """Return the names of the group's column in files that lack it: columns of its values."""
    lacking = [
        one.table
        for part in ("dev", "test")
        for one in parts[part]
        if group.name not in one.table.columns
    ]
    names = [
        column.name
        for table in lacking
        for column in look_at([table], ".").values()
        if column.values and set(column.values) <= set(group.values)
    ]
    return list(dict.fromkeys(names))


def _find_join(
    train: Sequence[_Sniffed], others: Sequence[_Sniffed]
) -> tuple[RawTable, str] | None:
    """Return a table with a row for each key of the training rows, and the key's name."""
    columns = look_at([one.table for one in train], ".")
    for one in others:
        of_other = look_at([one.table], ".")
        for name, column in of_other.items():
            is_key = len(column.values) == column.rows
            if is_key and name in columns and set(columns[name].values) <= set(column.values):
                return one.table, name
    return None


def _draft_scale(
    page: _Page,
    tables: Mapping[str, Sequence[RawTable]],
    labels: Sequence[str],
    choices: Choices,
    decimal: str,
) -> None:
    if choices.label_range:
        ends, reason = choices.label_range, "as you said"
    else:
        columns = look_at([table for part in PARTS for table in tables[part]], decimal)
        chosen = [columns[name] for name in labels if columns[name].numbers]
        if not chosen:
            page.ask("label", "lowest", 0, "label.lowest and label.highest: the scale's ends")
            page.set("label", "highest", 1)
            return
        ends = _scale(chosen)
        reason = f"labels go {_range_text(_ends(chosen))}; put the scale's own ends here"
    page.set("label", "lowest", ends[0], reason)
    page.set("label", "highest", ends[1])


def _draft_missing(
    page: _Page,
    tables: Mapping[str, Sequence[RawTable]],
    texts: Sequence[str],
    labels: Sequence[Column],
) -> None:
    labelled = [*tables["train"], *tables["dev"]]
    of_test = look_at(tables["test"], ".")
    unknown = {
        word
        for column in labels
        if (found := of_test.get(column.name)) is not None
        for word in (found.values if found.are_markers else ())
    }
    empty = sorted(unknown | {word for column in labels for word in column.empty})
    if empty:
        page.set("rows", "empty", empty, "words among the labels that are no numbers")
    for key, names, checked in (
        ("without_text", texts, [*labelled, *tables["test"]]),
        ("without_label", [column.name for column in labels], labelled),
    ):
        missing = [
            table.file.name
            for table in checked
            for record in table.records
            for name in names
            if name in table.columns or key == "without_label"
            if (value := record.values.get(name)) is None
            or not str(value).strip()
            or (key == "without_label" and str(value).strip() in empty)
        ]
        if missing:
            files = ", ".join(sorted(set(missing))[:3])
            reason = f"{len(missing):,} cells are empty, in {files}"
            page.set("rows", key, "drop", reason)


def _decimal(parts: Mapping[str, Sequence[_Sniffed]]) -> str:
    delimited = [one for one in parts["train"] if ending(one.table.file) in DELIMITED]
    # Between commas, 1,234 in quotation marks is a thousand rather than a decimal fraction.
    thousands = any(one.text_format.delimiter_of(one.table.file) == "," for one in delimited)
    tables = [one.table for one in delimited]
    return "," if uses_decimal_commas(tables, may_be_thousands=thousands) else "."


def _ends(columns: Sequence[Column]) -> tuple[float, float]:
    numbers = [number for column in columns for number in column.numbers or ()]
    return min(numbers), max(numbers)


def _scale(columns: Sequence[Column]) -> tuple[float, float]:
    return outward(*_ends(columns))


def _have_one_scale(columns: Sequence[Column]) -> bool:
    """Tell if the numbers of each column go over half or more of what all of them go over."""
    lowest, highest = _scale(columns)
    scales = [_scale([column]) for column in columns]
    return all(2 * (high - low) >= highest - lowest for low, high in scales)


def _range_text(ends: tuple[float, float]) -> str:
    return f"from {ends[0]:g} to {ends[1]:g}"


def _listed(column: Column) -> str:
    values = list(column.values)
    more = f" and {len(values) - _VALUES_SHOWN} more" if len(values) > _VALUES_SHOWN else ""
    return ", ".join(values[:_VALUES_SHOWN]) + more


def _toml(value: Any) -> str:
    """Write a value as TOML, whose strings are JSON's."""
    if isinstance(value, float) and value == int(value) and abs(value) < _LARGEST_WRITTEN_OUT:
        return str(int(value))
    return json.dumps(value, ensure_ascii=False)
