"""Splits of the labelled rows by name: training rows and development rows.

Dev1 and Dev2 are the paper's (Section 4.1). A split depends only on the corpus and on `split_seed`.
All variants and seeds share it, so that every comparison between them is paired. Rows with equal
texts (`data.equal_texts`, see `text_key`; MINT has 36 that repeat another) stay on one side; of a
pair, the first text counts.

A name may say its own seed instead: `dev1@3` is Dev1 as `split_seed` 3 draws it. Splits that differ
in the draw alone are of one kind (`draw_kind`), and are averaged over.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd

from ablation.config.schema import EqualTexts
from ablation.core.counting import counted
from ablation.core.errors import UsageError
from ablation.core.slugs import slug
from ablation.core.suggest import did_you_mean
from ablation.data.corpus import Corpus
from ablation.data.languages import ordered, parse_tag, require_language
from ablation.data.seeding import seed_for

#: Share of the rows that Dev1 holds out, and Dev2 and hold of the rows in groups that train.
DEV_SHARE: Final = 0.2
#: Groups that Dev2 keeps out of training.
HELD_OUT_LANGUAGES: Final = 2
FEWEST_TRAINING_ROWS: Final = 10
#: Groups that have to be left for training beside held-out ones.
_FEWEST_TRAINING_GROUPS: Final = 2
MOST_FOLDS: Final = 100
MOST_DRAWS: Final = 100
#: Splits that a seed draws anew, and that may be averaged over.
DRAWN: Final = ("dev1", "dev2", "hold")
#: Holds out each group in turn.
LEAVE_ONE_OUT: Final = "leave-one-out"
#: Splits with groups behind a colon, which differ in these alone.
_OF_GROUPS: Final = ("dev2", LEAVE_ONE_OUT)
_DRAWS: Final = re.compile(r"(?P<name>.*)@(?P<seeds>[\d\s+-]+)", re.DOTALL)
#: Stands for the splits that suit the corpus, see `default_splits`.
AUTO: Final = "auto"
#: Names that a user can give; any groups of the corpus can stand for fr and it.
NAMES: Final = (
    "dev1",
    "dev2",
    "dev2:fr+it",
    "dev2:all",
    "dev1@0-4",
    "hold:3",
    "hold:fr+it+es",
    LEAVE_ONE_OUT,
    "kfold:5",
    "given",
    AUTO,
)


@dataclass(frozen=True)
class Split:
    """A split of the labelled rows.

    Attributes:
        name: Such as "dev1", "dev2:fr+it", "hold:3", "leave-one-out:fr", "kfold:5:1" or "given".
        train: Numbers of the training rows, ascending, int64 (training rows,).
        dev: Numbers of the development rows, ascending, int64 (development rows,). Of `given`
            these are the development file's; rows of it are in no other split.
        unseen: Groups that no training row has, although development rows do.
    """

    name: str
    train: np.ndarray
    dev: np.ndarray
    unseen: tuple[str, ...]


def default_splits(corpus: Corpus) -> tuple[tuple[str, ...], str]:
    """Return the splits that suit a corpus, and a sentence on why it is these.

    The corpus's own development rows are used if it has any, else a fifth of the rows (Dev1); two
    groups are held out as well (Dev2) if two others remain.
    """
    groups = corpus.training_languages
    first = "given" if corpus.given_dev else "dev1"
    why = "the corpus's own development rows" if corpus.given_dev else "a fifth of the rows"
    if len(groups) >= HELD_OUT_LANGUAGES + _FEWEST_TRAINING_GROUPS:
        return (first, "dev2"), f"{first} ({why}) and dev2 (two of {len(groups)} groups held out)"
    few = "no groups" if len(groups) == 1 else f"{len(groups)} groups"
    return (first,), f"{first} ({why}); not dev2, which needs four groups: there are {few}"


def select_splits(
    requested: Iterable[str],
    corpus: Corpus,
    split_seed: int,
    equal_texts: EqualTexts = "normalised",
) -> list[str]:
    """Return the names of the requested splits, in one spelling and without repeats.

    Args:
        requested: Names such as "dev1". `dev2` draws its two groups, `dev2:fr+it` names them,
            `dev2:all` stands for every pair of the corpus's groups. `hold:3` draws three groups,
            `hold:A+B` names any number. `leave-one-out` stands for a split for each group,
            `kfold:5` for five folds, `given` for the corpus's own development rows, and `auto` for
            `default_splits`. `dev1@0-4` stands for the five draws of these split seeds,
            `dev1@0+7` for two; Dev2 and hold alike.
        corpus: The corpus to split; it decides which groups can be held out.
        split_seed: The seed of the draws that name none.
        equal_texts: Texts that stay on one side, see `text_key`.

    Raises:
        UsageError: A name is unknown, or one of the splits is too small.
    """
    names: list[str] = []
    for name in (name.strip() for name in requested):
        names += _drawn(name, corpus, split_seed)
    if not names:
        raise UsageError(f"no splits given; known are {', '.join(NAMES)}")
    unique = list(dict.fromkeys(names))
    for name in unique:
        # Reports too few rows before anything is trained.
        make_split(corpus, name, split_seed, equal_texts)
    return unique


def draw_kind(name: str) -> str:
    """Return what a split is a draw of: "dev1" of dev1@3, "dev2" of dev2:fr+it, "hold:3" of hold:3.

    Splits of one kind differ in a draw alone, or in the group that is held out ("leave-one-out" of
    leave-one-out:fr). The others, such as folds, are of their own kinds.
    """
    base = name.partition("@")[0]
    kind = base.partition(":")[0]
    return kind if kind in _OF_GROUPS else base


def by_kind(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Group splits by their kind, in the order of their names."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(draw_kind(name), []).append(name)
    return {kind: tuple(splits) for kind, splits in kinds.items()}


def _drawn(name: str, corpus: Corpus, split_seed: int) -> list[str]:
    """Return the splits that a requested name stands for, with a seed each where it names some."""
    found = _DRAWS.fullmatch(name)
    if found is None:
        return _expanded(name, corpus)
    kind = found["name"].partition(":")[0].lower().strip()
    if kind not in DRAWN:
        raise UsageError(f"split {name!r}: a seed draws {', '.join(DRAWN)} only")
    expanded = _expanded(found["name"].strip(), corpus)
    seeds = _split_seeds(name, found["seeds"])
    return [base if seed == split_seed else f"{base}@{seed}" for seed in seeds for base in expanded]


def _split_seeds(name: str, text: str) -> list[int]:
    """Return the seeds of a text such as "0-4" or "0+7"."""
    seeds: dict[int, None] = {}
    for part in text.split("+"):
        bounds = [bound.strip() for bound in part.split("-")]
        if len(bounds) > 2 or not all(b.isascii() and b.isdecimal() for b in bounds):
            raise UsageError(f"split {name!r}: give split seeds such as dev1@3, dev1@0-4, dev1@0+7")
        first, last = int(bounds[0]), int(bounds[-1])
        if not 0 <= last - first < MOST_DRAWS:
            raise UsageError(f"split {name!r}: give up to {MOST_DRAWS} seeds, such as dev1@0-4")
        seeds |= dict.fromkeys(range(first, last + 1))
    return list(seeds)


def _expanded(name: str, corpus: Corpus) -> list[str]:
    """Return the splits that a requested name stands for."""
    kind, colon, argument = name.partition(":")
    kind, argument = kind.lower().strip(), argument.strip()
    if kind not in {known.partition(":")[0] for known in NAMES}:
        raise UsageError(f"unknown split {name!r}: {did_you_mean(name, NAMES)}")
    if kind == AUTO and not colon:
        return list(default_splits(corpus)[0])
    if kind == LEAVE_ONE_OUT:
        return [f"{kind}:{_spelled(group)}" for group in _left_out(name, argument, corpus)]
    if kind == "kfold":
        return _folds_named(name, argument)
    if kind == "dev2" and argument.lower() == "all":
        _require_enough(name, corpus.training_languages, HELD_OUT_LANGUAGES)
        pairs = itertools.combinations(corpus.training_languages, HELD_OUT_LANGUAGES)
        return [f"dev2:{'+'.join(map(_spelled, pair))}" for pair in pairs]
    if kind in ("dev2", "hold") and argument and not argument.isdecimal():
        groups = _named_groups(name, argument, corpus)
        return [f"{kind}:{'+'.join(map(_spelled, groups))}"]
    if kind == "hold":
        if not argument:
            raise UsageError(f"split {name!r}: say how many groups, such as hold:3, or which")
        _require_enough(name, corpus.training_languages, int(argument))
        return [f"{kind}:{int(argument)}"]
    if colon:
        raise UsageError(f"unknown split {name!r}: {did_you_mean(name, NAMES)}")
    return [kind]


def make_split(
    corpus: Corpus, name: str, split_seed: int, equal_texts: EqualTexts = "normalised"
) -> Split:
    """Return the split with a name from `select_splits`. Raises UsageError if it is too small."""
    rows = _Rows(corpus, corpus.text_keys(equal_texts))
    base, at, seed = name.partition("@")
    split = _MAKERS[base.partition(":")[0]](rows, base, int(seed) if at else split_seed)
    split = replace(split, name=name)
    _check(rows, split)
    return split


@dataclass(frozen=True)
class _Rows:
    """The labelled rows to split; `all_keys` are equal where texts count as equal."""

    corpus: Corpus
    all_keys: pd.Series

    @property
    def keys(self) -> pd.Series:
        """Return the keys without those of development files."""
        return self.all_keys.iloc[: len(self.corpus.training_rows)]


def _dev1(rows: _Rows, name: str, split_seed: int) -> Split:
    return _held_out(rows, name, (), seed_for("split", split_seed, "dev1"))


def _dev2(rows: _Rows, name: str, split_seed: int) -> Split:
    _, _, argument = name.partition(":")
    if argument:
        groups = _named_groups(name, argument, rows.corpus)
    else:
        seed = seed_for("held-out languages", split_seed)
        groups = _drawn_groups(name, rows.corpus, HELD_OUT_LANGUAGES, seed)
    return _held_out(rows, name, groups, seed_for("split", split_seed, "dev2"))


def _hold(rows: _Rows, name: str, split_seed: int) -> Split:
    _, _, argument = name.partition(":")
    if argument.isdecimal():
        seed = seed_for("held-out groups", split_seed, argument)
        groups = _drawn_groups(name, rows.corpus, int(argument), seed)
    else:
        groups = _named_groups(name, argument, rows.corpus)
    return _held_out(rows, name, groups, seed_for("split", split_seed, "hold"))


def _leave_one_out(rows: _Rows, name: str, split_seed: int) -> Split:
    """Hold one group out, and train on all rows of the others."""
    _, _, argument = name.partition(":")
    (group,) = _left_out(name, argument, rows.corpus)
    dev = rows.corpus.training_rows["language"].eq(group).to_numpy()
    return _from_masks(name, _with_equal_texts(rows, dev), (group,))


def _kfold(rows: _Rows, name: str, split_seed: int) -> Split:
    """Take one of k folds: groups of equal texts, dealt out so that each has all groups alike."""
    _, folds, fold = name.split(":")
    keys = rows.keys
    # Equal texts in several groups count for the group that has the first of them.
    first = ~keys.duplicated().to_numpy()
    number = pd.factorize(keys)[0]
    stratum = pd.factorize(rows.corpus.training_rows["language"])[0][first]
    rng = np.random.default_rng(seed_for("folds", split_seed, folds))
    fold_of = np.empty(len(stratum), dtype=np.int64)
    dealt = 0
    for value in range(stratum.max() + 1):
        members = rng.permutation(np.flatnonzero(stratum == value))
        # Dealing goes on where the last group ended, so that small groups do not all fill fold 1.
        fold_of[members] = (dealt + np.arange(len(members))) % int(folds)
        dealt += len(members)
    return _from_masks(name, fold_of[number] == int(fold) - 1, ())


def _given(rows: _Rows, name: str, split_seed: int) -> Split:
    """Take the corpus's own development rows; training rows with a text of theirs are left out."""
    corpus, first = rows.corpus, len(rows.keys)
    if not corpus.given_dev:
        raise UsageError(
            "split 'given': the corpus has no development rows of its own: name files.dev or"
            " columns.split in its corpus.toml, or use --splits dev1"
        )
    shared = rows.keys.isin(set(rows.all_keys.iloc[first:])).to_numpy()
    dev_groups = set(corpus.train["language"].iloc[first:])
    train = np.flatnonzero(~shared)
    unseen = ordered(dev_groups - set(corpus.train["language"].iloc[train]))
    return Split(name, train, np.arange(first, len(corpus.train)), tuple(unseen))


_MAKERS: Final[Mapping[str, Callable[[_Rows, str, int], Split]]] = {
    "dev1": _dev1,
    "dev2": _dev2,
    "hold": _hold,
    LEAVE_ONE_OUT: _leave_one_out,
    "kfold": _kfold,
    "given": _given,
}


def _held_out(rows: _Rows, name: str, unseen: tuple[str, ...], seed: int) -> Split:
    """Hold out whole groups, and a share of the rows of the others."""
    held_out = rows.corpus.training_rows["language"].isin(unseen).to_numpy()
    held_out = _with_equal_texts(rows, held_out)
    return _from_masks(name, held_out | _seeded_share(rows.keys, ~held_out, seed), unseen)


def _with_equal_texts(rows: _Rows, held_out: np.ndarray) -> np.ndarray:
    """Add rows whose text also occurs among held-out rows: if they trained, it would leak."""
    keys = rows.keys
    return np.asarray(held_out | keys.isin(set(keys[held_out])).to_numpy())


def _from_masks(name: str, dev: np.ndarray, unseen: tuple[str, ...]) -> Split:
    return Split(name, np.flatnonzero(~dev), np.flatnonzero(dev), unseen)


def _seeded_share(keys: pd.Series, eligible: np.ndarray, seed: int) -> np.ndarray:
    """Draw about `DEV_SHARE` of the `eligible` rows, whole groups of equal texts at a time.

    `eligible` and the result are masks over the rows, bool (rows,); `keys` are their `text_key`.
    """
    groups = pd.factorize(keys)[0]
    rank = np.random.default_rng(seed).permutation(groups.max() + 1)[groups]
    order = np.flatnonzero(eligible)
    order = order[np.argsort(rank[order], kind="stable")]
    count = round(DEV_SHARE * len(order))
    if count == 0:
        return np.zeros(len(keys), dtype=bool)
    last_rank = rank[order[count - 1]]  # the last group is taken whole
    return np.asarray(eligible & (rank <= last_rank))


def _drawn_groups(name: str, corpus: Corpus, count: int, seed: int) -> tuple[str, ...]:
    groups = corpus.training_languages
    _require_enough(name, groups, count)
    rng = np.random.default_rng(seed)
    return tuple(ordered(set(rng.choice(groups, count, replace=False).tolist())))


def _named_groups(name: str, argument: str, corpus: Corpus) -> tuple[str, ...]:
    """Return the groups that a split's name lists; two different ones for Dev2."""
    known = corpus.training_languages
    kind, parts = name.partition(":")[0].lower(), argument.split("+")
    if kind == "dev2":
        _require_enough(name, known, HELD_OUT_LANGUAGES)
    groups = {_find_group(name, part, corpus) for part in parts}
    if kind == "dev2" and len(groups) != HELD_OUT_LANGUAGES:
        raise UsageError(f"split {name!r}: name two different languages, such as dev2:fr+it")
    _require_enough(name, known, len(groups))
    return tuple(ordered(groups))


def _find_group(name: str, text: str, corpus: Corpus) -> str:
    """Return the corpus's group that a text means: itself, in any case, or as `_spelled`."""
    known, wanted = corpus.training_languages, text.strip()
    if wanted in known:
        return wanted
    if corpus.layout.group.kind == "language":
        tag = parse_tag(wanted) or require_language(wanted)
        if tag in known:
            return tag
    else:
        for group in known:
            if wanted.casefold() in (group.casefold(), _spelled(group).casefold()):
                return group
    raise UsageError(
        f"split {name!r}: no labelled rows in {wanted}; the corpus has {', '.join(known)}"
    )


def _left_out(name: str, argument: str, corpus: Corpus) -> list[str]:
    groups = corpus.training_languages
    _require_enough(name, groups, 1, left=1)
    return [_find_group(name, argument, corpus)] if argument else groups


def _spelled(group: str) -> str:
    """Write a group in a split's name, where "+", ":", "," and "@" have meanings of their own."""
    return group if not set(group) & set("+:,@") else slug(group)


def _folds_named(name: str, argument: str) -> list[str]:
    folds, colon, fold = argument.partition(":")
    if not folds.isdecimal() or not 2 <= int(folds) <= MOST_FOLDS:
        raise UsageError(f"split {name!r}: give 2 to {MOST_FOLDS} folds, such as kfold:5")
    if not colon:
        return [f"kfold:{int(folds)}:{i}" for i in range(1, int(folds) + 1)]
    if not fold.isdecimal() or not 1 <= int(fold) <= int(folds):
        raise UsageError(f"split {name!r}: folds are numbered from 1 to {int(folds)}")
    return [f"kfold:{int(folds)}:{int(fold)}"]


def _require_enough(
    name: str, groups: list[str], held_out: int, left: int = _FEWEST_TRAINING_GROUPS
) -> None:
    if held_out < 1 or len(groups) < held_out + left:
        title = "Dev2" if name.lower().startswith("dev2") else f"split {name!r}"
        count = {1: "one group", 2: "two groups"}.get(held_out, f"{held_out} groups")
        more = "one more" if left == 1 else "two more"
        raise UsageError(
            f"{title} holds out {count} and trains on at least {more}; the corpus has"
            f" {', '.join(groups)}: use --splits dev1"
        )


def _check(rows: _Rows, split: Split) -> None:
    corpus, keys = rows.corpus, rows.all_keys.to_numpy()
    if len(split.train) < FEWEST_TRAINING_ROWS:
        raise UsageError(
            f"split {split.name!r}: {counted(len(split.train), 'training row')}, too few;"
            f" at least {FEWEST_TRAINING_ROWS} are needed"
        )
    if set(keys[split.train]) & set(keys[split.dev]):
        raise AssertionError(f"split {split.name!r} leaks: a text is on both sides")
    if set(corpus.train["language"].iloc[split.train]) & set(split.unseen):
        raise AssertionError(f"split {split.name!r} leaks: a held-out language is in training")
