"""Scores without the optimism of having chosen on the rows that are scored.

The epoch, and an ensemble's members, are chosen by a score on development rows. The same score of
the chosen one is then too high, more so the more candidates and the fewer rows there are. Nested
halves choose on one half of the rows, score the choice on the other, and swap: every row is scored
by a choice that did not see it. Cawley and Talbot (2010), "On over-fitting in model selection",
JMLR 11.
"""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ablation.config.variant_table import VariantTable
from reports.analysis.inference import pearsons
from reports.analysis.subsets import EvalSubset

Floats = NDArray[np.float64]
#: From (rows, candidates) and labels (rows,) to weights (candidates,) that sum to 1.
Rule = Callable[[Floats, Floats], Floats]

REPEATS: Final = 100
#: Why nothing is decided where an ensemble is scored on the rows that chose its members.
FLATTERED: Final = "these rows chose the ensemble's members, which flatters it"
#: As the ensemble has them.
ROUNDS: Final = 25


@dataclass(frozen=True)
class NestedScore:
    """A selected score, as it is reported and as it is on rows that did not select.

    Attributes:
        apparent: Chosen and scored on all rows.
        nested: Chosen on one half and scored on the other, averaged over both and all repeats.
        spread: Standard deviation of the nested score over repeats (another way of halving).
        chosen: (candidates,), the mean weight of each candidate over halves.
    """

    apparent: float
    nested: float
    spread: float
    chosen: Floats

    @property
    def optimism(self) -> float:
        """The apparent score minus the nested one."""
        return self.apparent - self.nested


def are_flattered(variants: Iterable[str], subset: EvalSubset, table: VariantTable) -> bool:
    """Tell if these rows chose the members of an ensemble among `variants`.

    Every run's epoch is chosen on its development rows, on both sides of a comparison alike. An
    ensemble's members are chosen there too, so that it can't be below the best of them.
    """
    rows = [table.variants[variant] for variant in variants if variant in table.variants]
    return not subset.is_test and any(row.combines_runs for row in rows)


def best_by_pearson(predictions: Floats, label: Floats) -> Floats:
    """Choose the candidate with the highest Pearson; the first of equals, none below NaN."""
    r = pearsons(predictions, label)
    weights = np.zeros(predictions.shape[1])
    weights[int(np.argmax(np.where(np.isfinite(r), r, -np.inf)))] = 1.0
    return weights


def greedy_ensemble(predictions: Floats, label: Floats) -> Floats:
    """Choose an ensemble as `ablation.training.ensemble.select_members` does, without torch.

    Each round adds the candidate that raises the Pearson of the sum most, with replacement; the
    shortest of the sums with the highest Pearson is kept. Caruana et al. (2004).
    """
    total = np.zeros(len(label))
    added: list[int] = []
    best, size = -np.inf, 0
    for _ in range(ROUNDS):
        r = pearsons(total[:, None] + predictions, label)
        if not np.isfinite(r).any():
            break
        added.append(int(np.nanargmax(r)))
        total = total + predictions[:, added[-1]]
        if r[added[-1]] > best + 1e-12:
            best, size = float(r[added[-1]]), len(added)
    counts = np.bincount(added[:size], minlength=predictions.shape[1])
    return np.asarray(counts / max(1, size), dtype=np.float64)


def nested_halves(
    predictions: Floats,
    label: Floats,
    *,
    choose: Rule = best_by_pearson,
    strata: NDArray[np.int64] | None = None,
    repeats: int = REPEATS,
    seed: int = 0,
) -> NestedScore:
    """Score a selection by nested halves.

    Args:
        predictions: (rows, candidates): epochs of a run, or members of an ensemble.
        label: (rows,).
        choose: The rule of selection; its weights are applied to the candidates' predictions.
        strata: (rows,), kept in proportion in both halves (languages).
        repeats: Ways of halving; an odd row goes to one half at random.
        seed: Of the halving.

    Returns:
        Pearson figures. A half has fewer rows to choose by than the whole, so `nested` leans a
        little low for the choice that was made on all rows. NaN below four rows.
    """
    rows, candidates = predictions.shape
    if rows < 4:
        nan = float("nan")
        return NestedScore(nan, nan, nan, np.full(candidates, np.nan))
    strata = np.zeros(rows, dtype=np.int64) if strata is None else strata
    halves = _halves(strata.astype(np.int64).tobytes(), repeats, seed)
    choosers = np.stack([halves, ~halves], axis=1).reshape(2 * repeats, rows)
    if choose is best_by_pearson:
        weights, scores = _choose_best(predictions, label, choosers)
    else:
        weights = np.array([choose(predictions[half], label[half]) for half in choosers])
        pairs = zip(choosers, weights, strict=True)
        scores = np.array([_score(predictions[~h], label[~h], weight) for h, weight in pairs])
    per_repeat = scores.reshape(repeats, 2).mean(axis=1)
    spread = float(per_repeat.std(ddof=1)) if repeats > 1 else float("nan")
    return NestedScore(
        _score(predictions, label, choose(predictions, label)),
        float(per_repeat.mean()),
        spread,
        np.asarray(np.mean(weights, axis=0)),
    )


def _choose_best(
    predictions: Floats, label: Floats, choosers: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Choose by `best_by_pearson` on each half and score on the other, all halves at once.

    Args:
        predictions: (rows, candidates).
        label: (rows,).
        choosers: (halves, rows); a half is followed by its other one.

    Returns:
        weights (halves, candidates) and scores (halves,).
    """
    x, y = predictions - predictions.mean(axis=0), label - label.mean()
    halves = choosers.astype(np.float64)
    n = halves.sum(axis=1, keepdims=True)
    sums, sum_y = halves @ x, halves @ y[:, None]
    spread = halves @ x**2 - sums**2 / n
    spread_y = halves @ (y**2)[:, None] - sum_y**2 / n
    # Rounding leaves a constant's spread a little off zero.
    size = np.maximum(1.0, np.abs(predictions).max(axis=0))
    spread = np.where(spread > n * (1e-9 * size) ** 2, spread, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        r = (halves @ (x * y[:, None]) - sums * sum_y / n) / np.sqrt(spread * spread_y)
    best = np.argmax(np.where(np.isfinite(r), r, -np.inf), axis=1)
    others = np.arange(len(r)) ^ 1
    return np.eye(predictions.shape[1])[best], np.clip(r[others, best], -1, 1)


def _score(predictions: Floats, label: Floats, weight: Floats) -> float:
    return float(pearsons((predictions @ weight)[:, None], label)[0])


@functools.lru_cache(maxsize=16)
def _halves(strata: bytes, repeats: int, seed: int) -> NDArray[np.bool_]:
    """Return which rows are in the first half of each repeat, (repeats, rows)."""
    rng, numbers = np.random.default_rng(seed), np.frombuffer(strata, dtype=np.int64)
    return np.array([_half(numbers, rng) for _ in range(repeats)])


def _half(strata: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return which rows are in the first half; every stratum is halved, to a row."""
    order = rng.permutation(len(strata))
    # A stable sort by stratum of shuffled rows: every second one, from a random start.
    ranked = order[np.argsort(strata[order], kind="stable")]
    half = np.zeros(len(strata), dtype=np.bool_)
    half[ranked[int(rng.integers(2)) :: 2]] = True
    return half
