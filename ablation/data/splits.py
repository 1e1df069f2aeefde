"""The paper's development splits Dev1 and Dev2 (Section 4.1): training rows and development rows.

A split depends only on the corpus and on `split_seed`. All variants and seeds share it, so that
every comparison between them is paired. Rows with equal texts (`text_key`; MINT has 36 that repeat
another) stay on one side.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from ablation.core.errors import UsageError
from ablation.core.suggest import did_you_mean
from ablation.data.corpus import Corpus, text_key
from ablation.data.languages import ordered, require_language
from ablation.data.seeding import seed_for

#: Share of the rows that Dev1 holds out, and Dev2 of the rows in languages that train.
DEV_SHARE: Final = 0.2
#: Languages that Dev2 keeps out of training.
HELD_OUT_LANGUAGES: Final = 2
FEWEST_TRAINING_ROWS: Final = 10
#: Names that a user can give; any two languages of the corpus can stand for French and Italian.
NAMES: Final = ("dev1", "dev2", "dev2:fr+it", "dev2:all")


@dataclass(frozen=True)
class Split:
    """A split of the labelled rows.

    Attributes:
        name: "dev1", "dev2" or, with named languages, for example "dev2:fr+it".
        train: Row numbers in the training file, ascending, int64 (training rows,).
        dev: All other row numbers, ascending, int64 (development rows,).
        unseen: ISO codes of the languages that no training row has; empty for Dev1.
    """

    name: str
    train: np.ndarray
    dev: np.ndarray
    unseen: tuple[str, ...]


def select_splits(requested: Iterable[str], corpus: Corpus, split_seed: int) -> list[str]:
    """Return the names of the requested splits, in one spelling and without repeats.

    Args:
        requested: Names such as "dev1". `dev2` draws its two languages, `dev2:fr+it` names them,
            `dev2:all` stands for every pair of the corpus's languages.
        corpus: The corpus to split; it decides which languages can be held out.
        split_seed: The seed of the draws.

    Raises:
        UsageError: A name is unknown, or one of the splits is too small.
    """
    names: list[str] = []
    for name in (name.strip().lower() for name in requested):
        if name == "dev2:all":
            pairs = itertools.combinations(corpus.training_languages, HELD_OUT_LANGUAGES)
            names += [f"dev2:{'+'.join(pair)}" for pair in pairs]
        elif name.startswith("dev2:"):
            names.append(f"dev2:{'+'.join(_named_pair(name, corpus))}")
        elif name in ("dev1", "dev2"):
            names.append(name)
        else:
            raise UsageError(f"unknown split {name!r}: {did_you_mean(name, NAMES)}")
    if not names:
        raise UsageError(f"no splits given; known are {', '.join(NAMES)}")
    unique = list(dict.fromkeys(names))
    for name in unique:
        make_split(corpus, name, split_seed)  # reports too few rows before anything is trained
    return unique


def make_split(corpus: Corpus, name: str, split_seed: int) -> Split:
    """Return the split with a name from `select_splits`. Raises UsageError if it is too small."""
    unseen: tuple[str, ...] = ()
    if name != "dev1":
        unseen = _named_pair(name, corpus) if ":" in name else _drawn_pair(corpus, split_seed)
    frame = corpus.train
    keys = frame["text"].map(text_key)
    held_out = frame["language"].isin(unseen).to_numpy()
    # A text that also occurs in a held-out language must not train: a development row would leak.
    held_out = held_out | keys.isin(set(keys[held_out])).to_numpy()
    dev = held_out | _seeded_share(
        keys, ~held_out, seed_for("split", split_seed, name.split(":")[0])
    )
    split = Split(name, np.flatnonzero(~dev), np.flatnonzero(dev), unseen)
    _check(frame, split)
    return split


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


def _drawn_pair(corpus: Corpus, split_seed: int) -> tuple[str, ...]:
    languages = corpus.training_languages
    _require_enough(languages)
    rng = np.random.default_rng(seed_for("held-out languages", split_seed))
    return tuple(ordered(set(rng.choice(languages, HELD_OUT_LANGUAGES, replace=False).tolist())))


def _named_pair(name: str, corpus: Corpus) -> tuple[str, ...]:
    languages = corpus.training_languages
    _require_enough(languages)
    pair = {require_language(part) for part in name.split(":", 1)[1].split("+")}
    if len(pair) != HELD_OUT_LANGUAGES:
        raise UsageError(f"split {name!r}: name two different languages, such as dev2:fr+it")
    if missing := sorted(pair - set(languages)):
        raise UsageError(
            f"split {name!r}: no labelled rows in {', '.join(missing)};"
            f" the corpus has {', '.join(languages)}"
        )
    return tuple(ordered(pair))


def _require_enough(languages: list[str]) -> None:
    if len(languages) < HELD_OUT_LANGUAGES + 2:
        raise UsageError(
            f"Dev2 holds out two languages and trains on at least two more; the corpus "
            f"has {', '.join(languages)}: use --splits dev1"
        )


def _check(frame: pd.DataFrame, split: Split) -> None:
    train, dev = frame.iloc[split.train], frame.iloc[split.dev]
    if len(train) < FEWEST_TRAINING_ROWS:
        raise UsageError(
            f"split {split.name!r}: {len(train)} training rows are too few;"
            f" at least {FEWEST_TRAINING_ROWS} are needed"
        )
    if set(train["text"].map(text_key)) & set(dev["text"].map(text_key)):
        raise AssertionError(f"split {split.name!r} leaks: a text is on both sides")
    if set(train["language"]) & set(split.unseen):
        raise AssertionError(f"split {split.name!r} leaks: a held-out language is in training")
