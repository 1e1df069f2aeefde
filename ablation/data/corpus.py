"""Read and check a corpus: a folder in MINT's format, or files that a `corpus.toml` describes.

MINT's format is a folder with `train.csv` (columns `text`, `label`, `language`) and optionally
`test.csv` and `dev.csv` (the same columns; without `label` there are no test scores). Labels are
intimacy scores from 1 (not intimate) to 5. Each problem is one line with file, line and value, and
all problems are reported together.
"""

import hashlib
import json
import unicodedata
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib.resources import files
from pathlib import Path
from typing import Final

import pandas as pd

from ablation.config.schema import EqualTexts
from ablation.core.counting import counted
from ablation.core.errors import UsageError
from ablation.core.slugs import slug
from ablation.data.draft import draft_layout
from ablation.data.formats import ARCHIVES, ENDINGS, ending, excerpt
from ablation.data.hub import PREFIX, fetch, is_hub
from ablation.data.languages import ordered
from ablation.data.layout import CORPUS_FILE, MINT_LAYOUT, CorpusLayout, read_layout
from ablation.data.reference import find_reference
from ablation.data.rows import Findings, choose_target, read_parts

#: A fifth of the rows is held out; a correlation over fewer than six rows is meaningless.
FEWEST_ROWS: Final = 30
#: More groups than this are no languages or domains, but numbers of rows or authors.
MOST_GROUPS: Final = 200
#: The word for every target of a corpus.
ALL_TARGETS: Final = "all"
#: The name of the corpus that comes with this package.
DEMO: Final = "demo"
_PROBLEMS_SHOWN: Final = 20
#: Keys of later versions: at their defaults they are no part of a corpus's digest.
_ADDED: Final = (("files", "surplus", "error"), ("rows", "without_group", "error"))


@dataclass(frozen=True)
class Corpus:
    """Labelled training rows and, if given, test rows.

    Both frames have the columns `text` (str), `label` (float64 within `layout.label_range`) and
    `language` (the group: a language's tag, another text, or `rows.UNGROUPED`), and `second_text`
    (str) and `weight` (float64, above 0) if the layout has them. They are indexed by the row's
    number from 0: in its file, if there is only one.

    Attributes:
        name: The layout's name or the folder's, with the target if there are several; or "demo".
        train: The labelled rows; those of development files, if there are any, stand last.
        test: The test rows; their labels are all NaN if the file has none.
        digest: SHA-256 over names and bytes of the files, and over the layout if it is not MINT's.
        synthetic: True for the demo corpus, whose scores are no benchmark.
        layout: Files, columns, labels and groups.
        given_dev: The number of rows of development files at the end of `train`.
        remarks: Sentences on what was left out or guessed.
    """

    name: str
    train: pd.DataFrame
    test: pd.DataFrame | None
    digest: str
    synthetic: bool
    layout: CorpusLayout = MINT_LAYOUT
    given_dev: int = 0
    remarks: tuple[str, ...] = ()
    _keys: dict[EqualTexts, pd.Series] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def reference(self) -> str | None:
        """The corpus, such as "MINT", whose printed figures apply to these rows; None if none."""
        return find_reference(self.train, self.test)

    @cached_property
    def train_digest(self) -> str:
        """SHA-256 over what training and selection see: the labelled rows, and their scale."""
        digest = hashlib.sha256()
        digest.update(json.dumps([self.layout.label_range, self.given_dev]).encode())
        for column in sorted(self.train.columns):
            values = self.train[column]
            plain = values.map(float.hex) if values.dtype == "float64" else values
            digest.update(json.dumps([column, plain.tolist()]).encode())
        return digest.hexdigest()

    @property
    def has_test_labels(self) -> bool:
        """Tell if test scores can be computed."""
        return self.test is not None and bool(self.test["label"].notna().all())

    @property
    def training_rows(self) -> pd.DataFrame:
        """Return the labelled rows without those of development files."""
        return self.train.iloc[: len(self.train) - self.given_dev]

    @property
    def training_languages(self) -> list[str]:
        """Return the groups with labelled training rows, which the paper calls "seen"."""
        return ordered(set(self.training_rows["language"]))

    def text_keys(self, equal_texts: EqualTexts = "normalised") -> pd.Series:
        """Return the `text_key` of each labelled row's (first) text."""
        if equal_texts not in self._keys:
            self._keys[equal_texts] = _keys(self.train, equal_texts)
        return self._keys[equal_texts]


def load_corpus(source: str, target: str = "") -> Corpus:
    """Read a corpus.

    Args:
        source: "demo", a folder with a `corpus.toml` or in MINT's format, a `corpus.toml`, or a
            single file of rows or "hub:org/name", whose columns are guessed.
        target: The label column, if the layout has several.

    Raises:
        UsageError: The corpus is invalid; one line for each problem.
    """
    folder, layout, remarks = _find(source)
    is_mint_format = layout == MINT_LAYOUT
    if is_mint_format:
        layout = _with_existing_files(folder)
    column = choose_target(layout, target, source)
    findings = Findings()
    parts = read_parts(folder, layout, column, findings)
    problems = findings.problems
    train = pd.concat([parts["train"], *([parts["dev"]] if "dev" in parts else [])])
    if not problems:
        problems += _corpus_problems(folder / layout.files.train[0], parts)
    if problems:
        raise UsageError(_shortened(problems))
    name = layout.task.name or slug(folder.resolve().name) or "corpus"
    if len(layout.columns.label) > 1:
        name = f"{name}-{slug(column)}"
    dropped = [
        f"{counted(count, 'row')} without a {what}: left out"
        for what, count in findings.dropped.items()
    ]
    return Corpus(
        name=DEMO if source == DEMO else name,
        train=train.reset_index(drop=True),
        test=parts.get("test"),
        digest=_digest(findings, None if is_mint_format else layout, column),
        synthetic=source == DEMO,
        layout=layout,
        given_dev=len(parts.get("dev", ())),
        remarks=(*remarks, *dropped),
    )


def list_targets(source: str, target: str) -> list[str]:
    """Return the targets that a text such as "V,A" or "all" names, each to be loaded by itself.

    Args:
        source: The corpus.
        target: One of its label columns, several with commas, "all", or "" for the only one.

    Raises:
        UsageError: There is no such corpus or target.
    """
    names = [name.strip() for name in target.split(",") if name.strip()]
    if not target or (len(names) == 1 and names != [ALL_TARGETS]):
        return [target]
    layout = _find(source)[1]
    if target in layout.columns.label:
        return [target]
    if names == [ALL_TARGETS]:
        return list(layout.columns.label)
    return [choose_target(layout, name, source) for name in dict.fromkeys(names)]


def _digest(findings: Findings, layout: CorpusLayout | None, target: str) -> str:
    digest = hashlib.sha256()
    if layout is not None:
        meaning = layout.model_dump(mode="json", exclude={"task": True, "group": {"names"}})
        del meaning["files"]["hub"]  # the files' contents count, not where they are
        for table, key, default in _ADDED:
            if meaning[table][key] == default:
                del meaning[table][key]
        digest.update(json.dumps([meaning, target], sort_keys=True).encode() + b"\0")
    for name, content in findings.contents:
        digest.update(name.encode() + b"\0" + len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


def _with_existing_files(folder: Path) -> CorpusLayout:
    """Return MINT's layout without optional files that the folder lacks."""
    named = MINT_LAYOUT.files
    existing = {
        part: tuple(name for name in getattr(named, part) if (folder / name).exists())
        for part in ("dev", "test")
    }
    return MINT_LAYOUT.model_copy(update={"files": named.model_copy(update=existing)})


def repeated_texts(frame: pd.DataFrame, equal_texts: EqualTexts = "normalised") -> int:
    """Return the number of rows whose text equals that of an earlier row, see `text_key`."""
    return int(_keys(frame, equal_texts).duplicated().sum())


def _keys(frame: pd.DataFrame, equal_texts: EqualTexts) -> pd.Series:
    return frame["text"].map(partial(text_key, equal_texts=equal_texts))


def text_key(text: str, equal_texts: EqualTexts = "normalised") -> str:
    """Return a key that is equal for texts that count as equal.

    By default these are texts that tokenizers read alike: Unicode's compatibility forms (NFKC),
    white space, and characters without a width make no difference; case does.

    Args:
        text: A text.
        equal_texts: "exact" tells all different texts apart, "ignoring_case" none that differ in
            case only.
    """
    if equal_texts == "exact":
        return text
    if equal_texts == "ignoring_case":
        return text_key(text_key(text).casefold())
    visible = "".join(
        character
        for character in unicodedata.normalize("NFKC", text)
        if unicodedata.category(character) != "Cf"
    )
    # Without any visible character, a text equals only itself.
    return " ".join(unicodedata.normalize("NFKC", visible).split()) or text


def _find(source: str) -> tuple[Path, CorpusLayout, tuple[str, ...]]:
    """Return the folder that `source` means, its layout, and what was guessed of it."""
    if source == DEMO:
        return Path(str(files("ablation.data") / DEMO)), MINT_LAYOUT, ()
    if is_hub(source):
        return _find_on_hub(source)
    try:
        path = Path(source).expanduser()
        is_folder, is_file = path.is_dir(), path.is_file()
    # The name may be too long, or name the home folder of an unknown user.
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{excerpt(source)}: {reason}") from error
    if is_file and path.suffix.lower() == ".toml":
        return _described(path)
    if is_file and ending(path) in ENDINGS:
        draft = draft_layout(path)
        return path.parent, draft.layout, draft.sentences
    if not is_folder:
        if is_file and path.name.lower().endswith(ARCHIVES):
            raise UsageError(f"{path}: an archive; unpack it and give the folder")
        obstacle = "is a file" if is_file else "does not exist"
        raise UsageError(
            f"{path}: {obstacle}; data is 'demo' or a folder with {CORPUS_FILE} or train.csv, or a"
            f" file of rows ({', '.join(ENDINGS)}; or compressed, such as .csv.gz)"
        )
    if (path / CORPUS_FILE).is_file():
        return _described(path / CORPUS_FILE)
    if not (path / "train.csv").is_file():
        raise UsageError(
            f"{path / 'train.csv'}: not found; the folder needs a train.csv (columns"
            f" text,label,language), or a {CORPUS_FILE}, which `ablation data init {path}` drafts"
        )
    return path, MINT_LAYOUT, ()


def _described(file: Path) -> tuple[Path, CorpusLayout, tuple[str, ...]]:
    layout = read_layout(file)
    if not layout.files.hub:
        return file.parent, layout, ()
    folder, _ = fetch(layout.files.hub)
    return folder, layout, ()


def _find_on_hub(source: str) -> tuple[Path, CorpusLayout, tuple[str, ...]]:
    """Return what `_find` does, of a data set that describes itself or is guessed."""
    folder, pinned = fetch(source)
    remarks: tuple[str, ...] = ()
    name = slug(source.removeprefix(PREFIX).partition("@")[0])
    if (folder / CORPUS_FILE).is_file():
        layout = read_layout(folder / CORPUS_FILE)
    else:
        draft = draft_layout(folder, hub=pinned)
        layout, remarks = draft.layout, draft.sentences
    task = layout.task.model_copy(update={"name": layout.task.name or name})
    return folder, layout.model_copy(update={"task": task}), (f"{source}: {pinned}", *remarks)


def _shortened(problems: list[str]) -> list[str]:
    if len(problems) <= _PROBLEMS_SHOWN:
        return problems
    hidden = len(problems) - _PROBLEMS_SHOWN
    return [*problems[:_PROBLEMS_SHOWN], f"... and {hidden} more problems"]


def _corpus_problems(file: Path, parts: dict[str, pd.DataFrame]) -> list[str]:
    """Return problems of the rows as a whole."""
    train, problems = parts["train"], []
    if len(train) < FEWEST_ROWS:
        problems.append(
            f"{file}: {counted(len(train), 'row')}, too few to split;"
            f" at least {FEWEST_ROWS} are needed"
        )
    elif train["label"].nunique() < 2:
        problems.append(
            f"{file}: every label is {train['label'].iloc[0]}; there is nothing to learn"
        )
    groups = {group for rows in parts.values() for group in rows["language"]}
    if len(groups) > MOST_GROUPS:
        problems.append(
            f"{file}: {len(groups)} different groups, such as {excerpt(min(groups))!r}; at most"
            f' {MOST_GROUPS} can be reported: name another column, or group.kind = "none"'
        )
    return problems
