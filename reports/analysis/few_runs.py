"""Exact tests and intervals for a handful of runs, which hold with ties and without normality.

Each test knows the smallest p that it can reach. Where that is not below the level, the answer is
"undecided", whatever the values.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from reports.analysis.inference import ALPHA, LEVEL, NO_INTERVAL, Interval

Floats = NDArray[np.float64]
Direction = Literal["below", "above", "undecided"]

#: All sign patterns are enumerated up to this many pairs, random ones are drawn beyond.
MOST_ENUMERATED: Final = 15
_RESAMPLES: Final = 9_999


@dataclass(frozen=True)
class ExactTest:
    """A two-sided p, and the smallest that the test could give for this many runs."""

    p: float
    smallest: float

    def can_decide(self, alpha: float = ALPHA) -> bool:
        """Return whether any outcome would fall below the level."""
        return bool(self.smallest < alpha)


def clopper_pearson(count: int, runs: int, level: float = LEVEL) -> Interval:
    """Return the exact interval of a rate from `count` of `runs`; NO_INTERVAL without runs.

    Clopper and Pearson (1934), "The use of confidence or fiducial limits", Biometrika 26.
    """
    if not runs:
        return NO_INTERVAL
    interval = stats.binomtest(count, runs).proportion_ci(level, method="exact")
    return Interval(float(interval.low), float(interval.high))


def share_above(differences: Floats, level: float = LEVEL) -> Interval:
    """Return the exact interval of the share of differences (seeds,) above 0.

    Clopper and Pearson's; a difference of 0 counts for the upper end alone.
    """
    runs, above = len(differences), int((differences > 0).sum())
    ties = int((differences == 0).sum())
    low = clopper_pearson(above, runs, level).low
    return Interval(low, clopper_pearson(above + ties, runs, level).high)


def fisher(first: tuple[int, int], second: tuple[int, int]) -> ExactTest:
    """Test that two rates are equal, each given as (count, runs), by Fisher's exact test.

    The smallest p is that of "all of one against none of the other". NaN if a side has no runs.
    """
    if not (first[1] and second[1]):
        return ExactTest(float("nan"), float("nan"))
    table = np.array([[count, runs - count] for count, runs in (first, second)])
    extreme = np.array([[first[1], 0], [0, second[1]]])
    return ExactTest(
        float(stats.fisher_exact(table).pvalue), float(stats.fisher_exact(extreme).pvalue)
    )


def sign_flip(differences: Floats, *, null: float = 0.0, seed: int = 0) -> ExactTest:
    """Test that paired differences are symmetric about `null`, by flipping their signs.

    Args:
        differences: (pairs,). Pairs at `null` carry no sign and are left out.
        null: The mean under the hypothesis, for example minus a margin.
        seed: Of the random patterns, for more than `MOST_ENUMERATED` pairs.

    Returns:
        The p of the mean (Fisher's paired permutation test, 1935, "The Design of Experiments",
        section 21); 1 where all pairs are at `null`, NaN without pairs. The smallest p is 2 to the
        power of 1 - pairs.
    """
    shifted = np.asarray(differences, dtype=np.float64) - null
    if not len(shifted):
        return ExactTest(float("nan"), float("nan"))
    # Differences of decimals that should be equal differ in their last digits.
    size = float(np.max(np.abs(shifted)))
    informative = shifted[np.abs(shifted) > 1e-12 * max(1.0, size)]
    pairs = len(informative)
    if pairs < 2:
        return ExactTest(1.0, 1.0)
    exact = pairs <= MOST_ENUMERATED
    result = stats.permutation_test(
        (informative,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**pairs if exact else _RESAMPLES,
        rng=np.random.default_rng(seed),
    )
    smallest = 2.0 ** (1 - pairs)
    if not exact:
        smallest = max(smallest, 2 / (_RESAMPLES + 1))
    return ExactTest(float(result.pvalue), smallest)


def subset_mean_interval(values: Floats, level: float = LEVEL) -> Interval:
    """Return the interval of a centre of symmetry that the sign-flip test of the mean implies.

    The means of all non-empty subsets cut the line into 2^n parts, each of which holds the centre
    with probability 2^-n: Hartigan (1969), "Using subsample values as typical values", JASA 64.
    NO_INTERVAL below six values at 95 %, as no exact interval is narrower than the line, and above
    `MOST_ENUMERATED` (Student's interval serves there).
    """
    n = len(values)
    outside = math.floor((1 - level) / 2 * 2**n + 1e-9)
    if not 1 <= n <= MOST_ENUMERATED or outside < 1 or not np.isfinite(values).all():
        return NO_INTERVAL
    patterns = (np.arange(1, 2**n)[:, None] >> np.arange(n)) & 1
    means = np.sort(patterns @ values / patterns.sum(axis=1))
    return Interval(float(means[outside - 1]), float(means[-outside]))


def runs_to_decide(alpha: float = ALPHA) -> int:
    """Return the number of pairs from which a sign-flip test can fall below the level."""
    return next(n for n in range(1, 64) if 2.0 ** (1 - n) < alpha)


def decide(differences: Floats, *, margin: float = 0.0, alpha: float = ALPHA) -> Direction:
    """Return whether paired differences lie below or above -margin, if that is certain.

    Args:
        differences: (pairs,).
        margin: How far below 0 they are claimed to be, for example log 2 for a factor of two.
        alpha: The level, two-sided, after division by the family's size.
    """
    test = sign_flip(differences, null=-margin)
    if not (test.can_decide(alpha) and test.p < alpha):
        return "undecided"
    return "below" if float(np.mean(differences)) < -margin else "above"


def decide_rates(
    first: tuple[int, int], second: tuple[int, int], alpha: float = ALPHA
) -> Direction:
    """Return whether the first rate, (count, runs), is certainly above or below the second."""
    test = fisher(first, second)
    if not (test.can_decide(alpha) and test.p < alpha):
        return "undecided"
    return "above" if first[0] * second[1] > second[0] * first[1] else "below"


def paired_runs_for_rates(alpha: float = ALPHA) -> int:
    """Return the runs a side from which Fisher's test can fall below the level at all."""
    return next(n for n in range(1, 64) if fisher((n, n), (0, n)).smallest < alpha)
