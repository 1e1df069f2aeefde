"""Plan an experiment: the power of the test that decides a claim, by seeds, splits and rows.

The variances come from a pilot (`Sources.of_pilot`) or are stated. The test is the one of
`variance_components.Uncertainty` at the level that the claim's family leaves it. More seeds
shrink the seeds' part of the variance only, so that some claims can't be decided by seeds.
"""

import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from ablation.core.counting import counted
from reports.analysis.inference import ALPHA, POWER
from reports.analysis.variance_components import Component, Factor, Floats, Uncertainty

#: Plans look no further than this.
MOST_SEEDS: Final = 1000
MOST_SPLITS: Final = 200
MOST_ROWS: Final = 10_000_000
#: Values of each estimated variance over which the power is averaged, at equal probabilities.
_NODES: Final[Mapping[Factor, int]] = {"rows": 5, "seeds": 200, "splits": 60, "languages": 15}


@dataclass(frozen=True)
class Sources:
    """Variances of one estimate by source, for one level of each factor.

    Attributes:
        rows: Variance for one row; divided by the number of rows.
        seeds: Variance between the estimates of two seeds on one split, on the pilot's rows. More
            splits divide it, as if a seed did something else on each.
        splits: Variance between splits beyond that of their seeds; 0 if the split is fixed.
        seed_df: Degrees of freedom from which `seeds` was estimated; infinite if it was stated.
        languages: The part of the variance that no number of seeds, splits or rows shrinks; None
            unless languages are random.
    """

    rows: float
    seeds: float
    splits: float = 0.0
    seed_df: float = float("inf")
    languages: Component | None = None

    @classmethod
    def of_pilot(cls, uncertainty: Uncertainty, levels: Mapping[Factor, int]) -> "Sources":
        """Take the variances from a pilot's uncertainty.

        Args:
            uncertainty: Of the pilot's estimate, without leading axes.
            levels: How many rows, seeds, splits the pilot averaged over.
        """
        by_factor = {c.factor: c for c in uncertainty.components}
        variance = {f: float(c.variance) * levels[f] for f, c in by_factor.items() if f in levels}
        seed_df = float(by_factor["seeds"].df) if "seeds" in by_factor else float("inf")
        return cls(
            variance.get("rows", 0.0),
            variance.get("seeds", 0.0) * levels.get("splits", 1),
            variance.get("splits", 0.0),
            seed_df,
            by_factor.get("languages"),
        )

    def cautious(self, confidence: float = 0.80) -> "Sources":
        """Return the sources with the upper confidence limit of the seed variance.

        A pilot of three seeds knows its variance to a factor of nine; a plan that takes it as known
        is too small half of the time. Browne (1995), "On the use of a pilot sample for sample size
        determination", Statistics in Medicine 14.
        """
        if not np.isfinite(self.seed_df):
            return self
        limit = self.seeds * self.seed_df / stats.chi2.ppf(1 - confidence, self.seed_df)
        return replace(self, seeds=float(limit))


@dataclass(frozen=True)
class Size:
    """The size of an experiment; arrays broadcast against each other."""

    seeds: NDArray[np.int64] | int
    rows: NDArray[np.int64] | int
    splits: NDArray[np.int64] | int = 1


def power(effect: float, sources: Sources, size: Size, alpha: float = ALPHA) -> Floats:
    """Return the power of the two-sided test of "no effect", in [0, 1], for each size.

    Args:
        effect: The true effect.
        sources: The variances.
        size: Seeds, rows and splits; sizes with a single seed (or a single random split) have no
            test and power 0.
        alpha: The level of this one test, after division by the family's size.

    The estimate is normal and independent of its estimated variances, which are multiples of
    chi-squares. Given these, the report's interval has a known length; the power is the mean over
    their distribution of the probability that the interval leaves 0 out. The interval's floor
    (`Uncertainty.floor`) is left out, since the row-by-seed part is no source of its own.
    """
    seeds, rows, splits = np.broadcast_arrays(
        *(np.asarray(x, dtype=np.float64) for x in (size.seeds, size.rows, size.splits))
    )
    parts = [
        Component("rows", sources.rows / rows, np.maximum(rows - 1, 1.0)),
        Component("seeds", sources.seeds / (seeds * splits), np.maximum(seeds - 1, 1.0)),
    ]
    tested = seeds > 1
    if sources.splits > 0:
        parts.append(Component("splits", sources.splits / splits, np.maximum(splits - 1, 1.0)))
        tested = tested & (splits > 1)
    if sources.languages is not None:
        parts.append(sources.languages)
    sd = Uncertainty(tuple(parts)).standard_error[..., *(None,) * len(parts)]
    drawn = [_estimated(part, axis, len(parts)) for axis, part in enumerate(parts)]
    critical = Uncertainty(tuple(drawn)).half_width(1 - alpha)
    with np.errstate(divide="ignore", invalid="ignore"):
        beyond = special.ndtr((abs(effect) - critical) / sd)
        beyond = beyond + special.ndtr((-abs(effect) - critical) / sd)
    beyond = np.where(sd > 0, beyond, float(effect != 0))
    return np.where(tested, beyond.mean(axis=tuple(range(-len(parts), 0))), 0.0)


@dataclass(frozen=True)
class Need:
    """The smallest size that reaches the power, with what limits it.

    Attributes:
        seeds: With the rows and splits at hand; None if no number of seeds suffices.
        splits: With the rows and seeds at hand; only given where `seeds` is None and splits are
            random.
        rows: With `MOST_SEEDS`; only given where neither suffices. None if even `MOST_ROWS` do
            not.
        limit: The power that is approached with ever more seeds on these rows and splits.
    """

    seeds: int | None = None
    splits: int | None = None
    rows: int | None = None
    limit: float = float("nan")

    def __str__(self) -> str:
        """Say what would decide, in a few words."""
        if self.seeds is not None:
            return f"{counted(self.seeds, 'seed')} on these rows"
        if self.splits is not None:
            return (
                "no number of seeds suffices on these splits;"
                f" {counted(self.splits, 'split')} would"
            )
        if self.rows is not None:
            return (
                "no number of seeds suffices on these rows;"
                f" about {counted(self.rows, 'row')} would"
            )
        return "no number of seeds, splits or rows suffices by itself"


def needed(
    effect: float,
    sources: Sources,
    size: Size,
    *,
    alpha: float = ALPHA,
    target: float = POWER,
) -> Need:
    """Return how many seeds show `effect` with the target power, or that none do.

    Args:
        effect: The true effect that is to be shown.
        sources: The variances.
        size: The rows and splits at hand; its seeds count only where splits are what is lacking.
        alpha: The level of this one test.
        target: The power wanted.
    """
    if not np.isfinite(effect) or effect == 0:
        return Need(limit=alpha)
    seeds, rows, splits = int(size.seeds), int(size.rows), int(size.splits)

    def of(seeds: int, rows: int, splits: int) -> float:
        return float(power(effect, sources, Size(seeds, rows, splits), alpha))

    limit = of(100 * MOST_SEEDS, rows, splits)
    if of(MOST_SEEDS, rows, splits) >= target:
        enough = _first(lambda n: of(n, rows, splits), 2, MOST_SEEDS, target)
        return Need(seeds=enough, limit=limit)
    if sources.splits > 0 and of(seeds, rows, MOST_SPLITS) >= target:
        enough = _first(lambda n: of(seeds, rows, n), 2, MOST_SPLITS, target)
        return Need(splits=enough, limit=limit)
    if of(MOST_SEEDS, MOST_ROWS, splits) >= target:
        enough = _first(lambda n: of(MOST_SEEDS, n, splits), rows, MOST_ROWS, target)
        return Need(rows=enough, limit=limit)
    return Need(limit=limit)


def power_of_all(powers: Sequence[Floats]) -> Floats:
    """Return a lower bound of the power to show all of several effects (Bonferroni)."""
    missed = sum(1 - np.asarray(one) for one in powers)
    return np.asarray(np.maximum(1 - missed, 0.0), dtype=np.float64)


def target_of_each(parts: int, target: float = POWER) -> float:
    """Return the power that each of `parts` effects needs so that all are shown with `target`."""
    return 1 - (1 - target) / parts


def _estimated(part: Component, axis: int, axes: int) -> Component:
    """Return a component's estimates at equal probabilities, along one of `axes` new axes."""
    count = _NODES[part.factor]
    upper = 1 - (np.arange(count) + 0.5) / count
    shape = [1] * axes
    shape[axis] = count
    lead = (..., *(None,) * axes)
    df = np.asarray(part.df)[lead]
    ratio = special.chdtri(df, upper.reshape(shape)) / df
    return Component(part.factor, np.asarray(part.variance)[lead] * ratio, df)


def _first(of_count: Callable[[int], float], low: int, high: int, target: float) -> int:
    """Return the smallest count from `low` to `high` at which the rising function reaches it."""
    return low + bisect.bisect_left(range(low, high), True, key=lambda n: of_count(n) >= target)
