"""Which labelled rows train a model and which choose it: the paper's Dev1 and Dev2 (Section 4.1).

A split depends on the corpus and on `split_seed` alone, so that all variants and all seeds share
it and every comparison between them is paired. Rows with exactly the same text (MINT has 36 that
repeat another) stay on one side.
"""

import difflib
import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ablation.core.errors import UsageError
from ablation.data.corpus import Corpus
from ablation.data.languages import ordered, require_language
from ablation.data.seeding import seed_for

DEV_SHARE = 0.2
HELD_OUT_LANGUAGES = 2


@dataclass(frozen=True)
class Split:
    """Row numbers of the training file. `unseen` names the languages that no training row has."""

    name: str
    train: np.ndarray
    dev: np.ndarray
    unseen: tuple[str, ...]


def parse_splits(text: str, corpus: Corpus, split_seed: int) -> list[str]:
    """Split names from a comma-separated list; `dev2:all` stands for every pair of languages.

    `dev2` draws its two languages with `split_seed`, `dev2:fr+it` names them. Raises UsageError.
    """
    names: list[str] = []
    for asked in (part.strip().lower() for part in text.split(",") if part.strip()):
        if asked == "dev2:all":
            pairs = itertools.combinations(corpus.training_languages, HELD_OUT_LANGUAGES)
            names += [f"dev2:{'+'.join(pair)}" for pair in pairs]
        elif asked.startswith("dev2:"):
            names.append(f"dev2:{'+'.join(_named_pair(asked, corpus))}")
        elif asked in ("dev1", "dev2"):
            names.append(asked)
        else:
            near = difflib.get_close_matches(asked, ["dev1", "dev2", "dev2:all"], n=1)
            hint = (
                f"did you mean {near[0]!r}?"
                if near
                else "known are dev1, dev2, dev2:fr+it, dev2:all"
            )
            raise UsageError(f"unknown split {asked!r}: {hint}")
    if not names:
        raise UsageError("no splits given; known are dev1, dev2, dev2:fr+it, dev2:all")
    for name in names:
        make_split(
            corpus, name, split_seed
        )  # too few rows or languages show before anything is trained
    return list(dict.fromkeys(names))


def make_split(corpus: Corpus, name: str, split_seed: int) -> Split:
    """The split called `name` (as `parse_splits` returns it). Raises UsageError if a side is too small."""
    unseen: tuple[str, ...] = ()
    if name != "dev1":
        unseen = _named_pair(name, corpus) if ":" in name else _drawn_pair(corpus, split_seed)
    frame = corpus.train
    held_out = frame["language"].isin(unseen).to_numpy()
    # A text that also stands in a held-out language may not train, or the dev rows would leak.
    held_out = held_out | frame["text"].isin(set(frame["text"][held_out])).to_numpy()
    dev = held_out | _seeded_share(
        frame, ~held_out, seed_for("split", split_seed, name.split(":")[0])
    )
    split = Split(name, np.flatnonzero(~dev), np.flatnonzero(dev), unseen)
    _assert_sound(frame, split)
    return split


def _seeded_share(frame: pd.DataFrame, eligible: np.ndarray, seed: int) -> np.ndarray:
    """A mask with about `DEV_SHARE` of the eligible rows, whole groups of equal texts at a time."""
    groups = pd.factorize(frame["text"])[0]
    rank = np.random.default_rng(seed).permutation(groups.max() + 1)[groups]
    order = np.flatnonzero(eligible)
    order = order[np.argsort(rank[order], kind="stable")]
    wanted = round(DEV_SHARE * len(order))
    if wanted:
        last = rank[order[wanted - 1]]  # take the whole of the last group
        return np.asarray(eligible & (rank <= last))
    return np.zeros(len(frame), dtype=bool)


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
            f"split {name!r}: no labelled rows in {', '.join(missing)}; there are {', '.join(languages)}"
        )
    return tuple(ordered(pair))


def _require_enough(languages: list[str]) -> None:
    if len(languages) < HELD_OUT_LANGUAGES + 2:
        raise UsageError(
            f"Dev2 holds out two languages and trains on at least two more; the corpus "
            f"has {', '.join(languages)}: use --splits dev1"
        )


def _assert_sound(frame: pd.DataFrame, split: Split) -> None:
    train, dev = frame.iloc[split.train], frame.iloc[split.dev]
    if len(train) < 10 or len(dev) < 5:
        raise UsageError(
            f"split {split.name!r}: {len(train)} training and {len(dev)} development rows are too few"
        )
    if set(train["text"]) & set(dev["text"]):
        raise AssertionError(f"split {split.name!r} leaks: a text stands on both sides")
    if set(train["language"]) & set(split.unseen):
        raise AssertionError(f"split {split.name!r} leaks: a held-out language is in training")
