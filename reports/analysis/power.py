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
from scipy import stats

from reports.analysis.inference import ALPHA, POWER
from reports.analysis.variance_components import Component, Factor, Floats, Uncertainty

#: Plans look no further than this.
MOST_SEEDS: Final = 1000
MOST_ROWS: Final = 10_000_000


@dataclass(frozen=True)
class Sources:
    """Variances of one estimate by source, for one level of each factor.

    Attributes:
        rows: Variance for one row; divided by the number of rows.
        seeds: Variance between the estimates of two seeds, on the pilot's rows.
        splits: Variance between splits beyond that of their seeds; 0 if the split is fixed.
        pooled_variants: How many variants share the estimate of the seed variance; 2 for a
            contrast's own.
    """

    rows: float
    seeds: float
    splits: float = 0.0
    pooled_variants: int = 2

    @classmethod
    def of_pilot(cls, uncertainty: Uncertainty, levels: Mapping[Factor, int]) -> "Sources":
        """Take the variances from a pilot's uncertainty.

        Args:
            uncertainty: Of the pilot's estimate, without leading axes.
            levels: How many rows, seeds, splits the pilot averaged over.
        """
        by_factor = {c.factor: c for c in uncertainty.components}
        variance = {f: float(c.variance) * levels[f] for f, c in by_factor.items() if f in levels}
        pooled = 2
        if "seeds" in by_factor and levels.get("seeds", 1) > 1:
            pooled = 1 + max(1, int(float(by_factor["seeds"].df) // (levels["seeds"] - 1)))
        return cls(
            variance.get("rows", 0.0),
            variance.get("seeds", 0.0),
            variance.get("splits", 0.0),
            pooled,
        )

    def cautious(self, seed_df: float, confidence: float = 0.80) -> "Sources":
        """Return the sources with the upper confidence limit of the seed variance.

        A pilot of three seeds knows its variance to a factor of nine; a plan that takes it as known
        is too small half of the time. Browne (1995), "On the use of a pilot sample for sample size
        determination", Statistics in Medicine 14.
        """
        return replace(self, seeds=self.seeds * seed_df / stats.chi2.ppf(1 - confidence, seed_df))


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

    The estimate over its standard error is taken as noncentral t with Satterthwaite's degrees of
    freedom. The test also takes each component by itself, so the smallest power counts.
    """
    seeds, rows, splits = np.broadcast_arrays(
        *(np.asarray(x, dtype=np.float64) for x in (size.seeds, size.rows, size.splits))
    )
    seed_df = (sources.pooled_variants - 1) * np.maximum(seeds - 1, 1e-9)
    parts = [
        Component("rows", sources.rows / rows, np.maximum(rows - 1, 1.0)),
        Component("seeds", sources.seeds / (seeds * splits), seed_df),
    ]
    tested = seeds > 1
    if sources.splits > 0:
        split_df = np.maximum(splits - 1, 1e-9)
        parts.append(Component("splits", sources.splits / splits, split_df))
        tested = tested & (splits > 1)
    total = Uncertainty(tuple(parts))
    result = _power(effect, total.standard_error, total.standard_error, total.df, alpha)
    for part in parts[1:]:
        alone = _power(effect, total.standard_error, np.sqrt(part.variance), part.df, alpha)
        result = np.minimum(result, np.where(part.df < 2, alone, 1.0))
    return np.where(tested, result, 0.0)


@dataclass(frozen=True)
class Need:
    """The smallest size that reaches the power, with what limits it.

    Attributes:
        seeds: With the rows and splits at hand; None if no number of seeds suffices.
        rows: With any number of seeds; only given where `seeds` is None. None if even
            `MOST_ROWS` do not suffice.
        limit: The power that is approached with ever more seeds on these rows and splits.
    """

    seeds: int | None
    rows: int | None
    limit: float

    def __str__(self) -> str:
        """Say what would decide, in a few words."""
        if self.seeds is not None:
            return f"{self.seeds} seeds on these rows"
        if self.rows is not None:
            return f"no number of seeds suffices on these rows; about {self.rows:,} rows would"
        return "no number of seeds or rows that can be planned suffices"


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
        size: The rows and splits at hand; its seeds are ignored.
        alpha: The level of this one test.
        target: The power wanted.
    """
    if not np.isfinite(effect) or effect == 0:
        return Need(None, None, alpha)
    rows, splits = int(size.rows), int(size.splits)

    def of_seeds(seeds: int) -> float:
        return float(power(effect, sources, Size(seeds, rows, splits), alpha))

    def of_rows(count: int) -> float:
        return float(power(effect, sources, Size(10 * MOST_SEEDS, count, splits), alpha))

    limit = of_seeds(100 * MOST_SEEDS)
    if of_seeds(MOST_SEEDS) >= target:
        return Need(_first(of_seeds, 2, MOST_SEEDS, target), None, limit)
    if of_rows(MOST_ROWS) >= target:
        return Need(None, _first(of_rows, rows, MOST_ROWS, target), limit)
    return Need(None, None, limit)


@dataclass(frozen=True)
class PowerCurve:
    """Power by seeds: `seeds` (points,), `power` (points,) and the limit that no seeds exceed."""

    seeds: NDArray[np.int64]
    power: Floats
    limit: float


def power_curve(
    effect: float,
    sources: Sources,
    size: Size,
    *,
    seeds: Sequence[int],
    alpha: float = ALPHA,
) -> PowerCurve:
    """Return the power for each of `seeds`, on the rows and splits of `size`."""
    counts = np.asarray(seeds, dtype=np.int64)
    values = power(effect, sources, Size(counts, size.rows, size.splits), alpha)
    many = Size(100 * MOST_SEEDS, size.rows, size.splits)
    return PowerCurve(counts, values, float(power(effect, sources, many, alpha)))


def detectable(
    sources: Sources, size: Size, *, alpha: float = ALPHA, target: float = POWER
) -> float:
    """Return the smallest effect that one experiment of this size shows with the target power."""
    high = 1e-6
    while float(power(high, sources, size, alpha)) < target:
        high *= 2
        if high > 1e6:
            return float("nan")
    low = high / 2
    for _ in range(40):
        middle = (low + high) / 2
        if float(power(middle, sources, size, alpha)) < target:
            low = middle
        else:
            high = middle
    return high


def _power(effect: float, sd: Floats, error: Floats, df: Floats, alpha: float) -> Floats:
    """Return P(|estimate| > t error) for an estimate of standard deviation `sd`."""
    df = np.minimum(df, 1e6)  # scipy's noncentral t is not defined for infinite df
    with np.errstate(divide="ignore", invalid="ignore"):
        critical = stats.t.ppf(1 - alpha / 2, df) * error / sd
        shift = np.abs(effect) / sd
        exact = stats.nct.sf(critical, df, shift) + stats.nct.cdf(-critical, df, shift)
        normal = stats.norm.sf(critical - shift)
    return np.where(sd > 0, np.where(np.isfinite(exact), exact, normal), float(effect != 0))


def _first(of_count: Callable[[int], float], low: int, high: int, target: float) -> int:
    """Return the smallest count from `low` to `high` at which the rising function reaches it."""
    return low + bisect.bisect_left(range(low, high), True, key=lambda n: of_count(n) >= target)
