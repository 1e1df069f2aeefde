"""Intervals, paired tests and power: arrays in, numbers out.

Two units of resampling are kept apart everywhere: *rows* (would other texts give another
correlation, with these trained models?) and *seeds* (would another training?). An interval over
one says nothing about the other.
"""

import bisect
import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

Floats = NDArray[np.float64]

RESAMPLES: Final = 2000
LEVEL: Final = 0.95
ALPHA: Final = 0.05
POWER: Final = 0.80
#: Fewest runs whose count is read: with 0 of 3, a rate's one-sided 95% bound is still 63%.
FEW_RUNS: Final = 3
#: Bounds the memory of the resampling weights: rows times resamples at a time, 8 bytes each.
_WEIGHTS_AT_A_TIME: Final = 2_000_000


@dataclass(frozen=True)
class Interval:
    """A two-sided interval; NaN at both ends where the data can't give one."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return bool(self.low <= value <= self.high)

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


NO_INTERVAL: Final = Interval(float("nan"), float("nan"))


def pearson(prediction: Floats, label: Floats) -> float:
    """Return Pearson's r of two arrays (rows,), in [-1, 1]; NaN for constants or < 2 rows."""
    return float(pearsons(prediction[:, None], label)[0])


def pearsons(predictions: Floats, label: Floats) -> Floats:
    """Return Pearson's r of many models: (rows, models) and (rows,) to (models,).

    `scipy.stats.pearsonr` agrees to the last digits but takes a millisecond for each model.
    """
    if len(label) < 2 or not np.isfinite(label).all() or np.ptp(label) == 0:
        return np.full(predictions.shape[1], np.nan)
    exists = np.asarray(np.isfinite(predictions).all(axis=0))
    exists[exists] = ~_are_constant(predictions[:, exists])
    x, y = predictions[:, exists] - predictions[:, exists].mean(axis=0), label - label.mean()
    r = np.full(predictions.shape[1], np.nan)
    # Normalised first: the product of two sums of squares could leave the range of the numbers.
    r[exists] = np.clip((y / np.linalg.norm(y)) @ (x / np.linalg.norm(x, axis=0)), -1, 1)
    return r


def paired_pearsons(x: Floats, y: Floats) -> Floats:
    """Return r of each column of `x` with the same of `y`: (rows, pairs) twice to (pairs,)."""
    if len(x) < 2 or not x.shape[1]:
        return np.full(x.shape[1], np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy's, of columns that are constant
        r = np.asarray(stats.pearsonr(x, y, axis=0).statistic)
    return np.where(_are_constant(x) | _are_constant(y), np.nan, r)


def bootstrap_pearson(
    predictions: Floats,
    label: Floats,
    *,
    seed: int,
    resamples: int = RESAMPLES,
    strata: NDArray[np.int64] | None = None,
    subsets: Sequence[Sequence[int]] | None = None,
) -> Floats:
    """Return Pearson's r of each model on resampled rows, as (subsets, resamples, models).

    All models see the same resampled rows, so a difference of two of them is paired.
    `scipy.stats.bootstrap` draws anew for each statistic; here thousands share their draws.

    Args:
        predictions: (rows, models).
        label: (rows,).
        seed: Seed of the resampling.
        resamples: Number of bootstrap draws.
        strata: (rows,), numbers from 0. Rows are drawn within each, so a language keeps its size.
        subsets: The strata that each subset pools; one subset of everything by default.

    Returns:
        Correlations; NaN where r does not exist in a resample.
    """
    rows, models = predictions.shape
    strata = np.zeros(rows, dtype=np.int64) if strata is None else strata
    subsets = [range(int(strata.max(initial=-1)) + 1)] if subsets is None else subsets
    # Centred first: the sums of squares below would lose digits to a large mean.
    x, y = predictions - predictions.mean(axis=0), label - label.mean()
    columns = np.column_stack([np.ones(rows), y, y * y, x, x * x, x * y[:, None]])
    rng = np.random.default_rng(seed)
    result = np.full((len(subsets), resamples, models), np.nan)
    totals: dict[int, Floats] = {}
    # Stratum by stratum, so that only the pooled subsets' sums are held in memory.
    for stratum in sorted({s for subset in subsets for s in subset}):
        sums = _resampled_sums(columns[strata == stratum], rng, resamples)
        for i in (i for i, subset in enumerate(subsets) if stratum in subset):
            totals[i] = totals[i] + sums if i in totals else sums
            if stratum == max(subsets[i]):
                result[i] = _correlations(totals.pop(i), models)
                result[i][:, _are_constant(predictions[np.isin(strata, list(subsets[i]))])] = np.nan
    return result


def _correlations(sums: Floats, models: int) -> Floats:
    """Return r (resamples, models) from the sums of 1, y, y² and each model's x, x², xy."""
    n = sums[:, :1]
    if n[0, 0] < 2:
        return np.full((len(sums), models), np.nan)
    means = sums / n
    y, yy = means[:, 1:2], means[:, 2:3]
    x, xx, xy = (means[:, 3 + part * models : 3 + (part + 1) * models] for part in range(3))
    var_x, var_y = xx - x**2, yy - y**2
    with np.errstate(divide="ignore", invalid="ignore"):
        r = (xy - x * y) / np.sqrt(var_x * var_y)
    return np.where((var_x > 1e-15) & (var_y > 1e-15), np.clip(r, -1, 1), np.nan)


def bootstrap_means(values: Floats, *, seed: int, resamples: int = RESAMPLES) -> Floats:
    """Return means over resampled rows: (rows, columns) to (resamples, columns)."""
    rows = len(values)
    rng = np.random.default_rng(seed)
    at_a_time = max(1, _WEIGHTS_AT_A_TIME // max(rows, 1))
    parts = [
        _resample(rng, rows, min(at_a_time, resamples - start)) @ values
        for start in range(0, resamples, at_a_time)
    ]
    return np.concatenate(parts)


def percentile_interval(draws: Floats, level: float = LEVEL) -> Interval:
    """Return the central `level` of draws (resamples,); none if over a tenth of them is NaN."""
    known = draws[np.isfinite(draws)]
    if len(known) < 0.9 * len(draws) or not len(known):
        return NO_INTERVAL
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def bootstrap_p(draws: Floats, estimate: float) -> float:
    """Return the two-sided p of "the difference is 0" from paired draws (resamples,) of it.

    The draws, moved to a mean difference of 0, stand for the null; p is the share of them at least
    as far from 0 as `estimate`, counting the data themselves once (so p is never 0).
    """
    known = draws[np.isfinite(draws)]
    if not len(known) or not np.isfinite(estimate):
        return float("nan")
    beyond = np.abs(known - known.mean()) >= abs(estimate) - 1e-12
    return float((beyond.sum() + 1) / (len(known) + 1))


def williams(r12: float, r13: float, r23: float, rows: int) -> tuple[float, float]:
    """Return Williams' t and two-sided p for r12 = r13, correlations that share variable 1.

    Williams (1959), "The comparison of regression variables", JRSS B 21; the form that Steiger
    (1980), "Tests for comparing elements of a correlation matrix", Psychological Bulletin 87,
    recommends; `rows` - 3 degrees of freedom. NaN for fewer than 4 rows or models that agree fully.
    """
    determinant = 1 - r12**2 - r13**2 - r23**2 + 2 * r12 * r13 * r23
    if rows < 4 or not np.isfinite(determinant):
        return float("nan"), float("nan")
    mean = (r12 + r13) / 2
    scale = 2 * (rows - 1) / (rows - 3) * max(determinant, 0.0) + mean**2 * (1 - r23) ** 3
    if scale <= 0:
        return float("nan"), float("nan")
    t = (r12 - r13) * float(np.sqrt((rows - 1) * (1 + r23) / scale))
    return t, float(2 * stats.t.sf(abs(t), rows - 3))


def holm(p_values: Sequence[float]) -> list[float]:
    """Apply Holm's correction over a family; NaN stays NaN and does not count as a test."""
    p = np.asarray(p_values, dtype=float)
    known = np.isfinite(p)
    adjusted = np.full(len(p), np.nan)
    if known.any():
        adjusted[known] = multipletests(p[known], method="holm")[1]
    return [float(value) for value in adjusted]


def seed_interval(values: Floats, level: float = LEVEL) -> Interval:
    """Return Student's t interval of the mean over seeds (seeds,); none below two seeds."""
    if len(values) < 2:
        return NO_INTERVAL
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1) * stats.sem(values))
    return Interval(float(values.mean()) - half, float(values.mean()) + half)


def prediction_interval(values: Floats, level: float = LEVEL) -> Interval:
    """Return the interval of one more training's value (seeds,); none below two seeds."""
    if len(values) < 2:
        return NO_INTERVAL
    k = len(values)
    half = float(stats.t.ppf((1 + level) / 2, k - 1) * values.std(ddof=1) * np.sqrt(1 + 1 / k))
    return Interval(float(values.mean()) - half, float(values.mean()) + half)


@dataclass(frozen=True)
class Combined:
    """Uncertainty over rows and seeds together; all NaN below two seeds."""

    interval: Interval
    standard_error: float
    p: float


def combine(row_draws: Floats, per_seed: Floats, level: float = LEVEL) -> Combined:
    """Return the interval and p of a mean over seeds for other rows and other seeds alike.

    `row_draws` (resamples,) are bootstrap draws of the mean over seeds, `per_seed` (seeds,) its
    terms on the rows at hand. The two variances add; the degrees of freedom are Satterthwaite's
    (1946, "An approximate distribution of estimates of variance components"), the rows' taken as
    infinite. The part of the seeds' spread that the rows cause counts twice: the interval errs
    towards too wide.
    """
    known = row_draws[np.isfinite(row_draws)]
    k = len(per_seed)
    if (
        k < 2
        or not len(known)
        or len(known) < 0.9 * len(row_draws)
        or not np.isfinite(per_seed).all()
    ):
        return Combined(NO_INTERVAL, float("nan"), float("nan"))
    of_rows, of_seeds = float(known.var(ddof=1)), float(per_seed.var(ddof=1)) / k
    error = float(np.sqrt(of_rows + of_seeds))
    estimate = float(per_seed.mean())
    if error == 0:
        return Combined(Interval(estimate, estimate), 0.0, 1.0 if estimate == 0 else 0.0)
    freedom = (k - 1) * (of_rows + of_seeds) ** 2 / of_seeds**2 if of_seeds > 0 else np.inf
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * error
    return Combined(
        Interval(estimate - half, estimate + half),
        error,
        float(2 * stats.t.sf(abs(estimate) / error, freedom)),
    )


def probability_of_improvement(better: Floats, worse: Floats) -> float:
    """Return P(a run of `better` scores above one of `worse`), ties half, by Mann-Whitney's U.

    Arrays (seeds,), which need not be paired. Agarwal et al. (2021), "Deep RL at the edge of the
    statistical precipice". NaN if one of them is empty.
    """
    if not len(better) or not len(worse):
        return float("nan")
    return float(stats.mannwhitneyu(better, worse).statistic / (len(better) * len(worse)))


def wilcoxon_floor(pairs: int) -> float:
    """Return the smallest p of an exact two-sided Wilcoxon signed-rank test of `pairs` pairs."""
    return min(1.0, 2.0 ** (1 - pairs))


def pairs_for_wilcoxon(alpha: float = ALPHA) -> int:
    """Return the fewest pairs with which that test can fall below `alpha` at all."""
    return next(n for n in range(1, 64) if wilcoxon_floor(n) < alpha)


def detectable_over_rows(draws: Floats) -> float:
    """Return the difference that 80% of such samples of rows would show at the 5% level.

    `draws` (resamples,) are bootstrap draws of the difference; their spread is its standard error.
    """
    known = draws[np.isfinite(draws)]
    if len(known) < 2:
        return float("nan")
    return float((stats.norm.ppf(1 - ALPHA / 2) + stats.norm.ppf(POWER)) * known.std(ddof=1))


def detectable_over_seeds(differences: Floats) -> float:
    """Return it for a paired t test over seeds, differences (seeds,); NaN below two seeds."""
    if len(differences) < 2 or np.ptp(differences) == 0:
        return float("nan")
    return _detectable_effect(len(differences)) * float(differences.std(ddof=1))


def seeds_needed(difference: float, sd: float) -> int | None:
    """Return the seeds for 80% power of a paired t test; None if unknown or over 1000."""
    if not (np.isfinite(difference) and np.isfinite(sd)) or difference == 0 or sd == 0:
        return None
    power = TTestPower()
    # Power rises with n, so bisect; far above 80% it comes out as NaN, which is not below.
    seeds = (
        bisect.bisect_left(
            range(2, 1001),
            True,
            key=lambda n: not power.power(abs(difference) / sd, n, ALPHA) < POWER,
        )
        + 2
    )
    return seeds if seeds <= 1000 else None


@functools.cache
def _detectable_effect(pairs: int) -> float:
    """Return the standardised difference that this many pairs show with 80% power."""
    effect = TTestPower().solve_power(nobs=pairs, alpha=ALPHA, power=POWER, alternative="two-sided")
    return float(np.squeeze(effect))


def _resampled_sums(columns: Floats, rng: np.random.Generator, resamples: int) -> Floats:
    """Return sums over resampled rows, (rows, columns) to (resamples, columns)."""
    rows = len(columns)
    if not rows:
        return np.zeros((resamples, columns.shape[1]))
    at_a_time = max(1, _WEIGHTS_AT_A_TIME // rows)
    parts = [
        _resample(rng, rows, min(at_a_time, resamples - start)) @ columns
        for start in range(0, resamples, at_a_time)
    ]
    return rows * np.concatenate(parts)


def _resample(rng: np.random.Generator, rows: int, count: int) -> Floats:
    """Return the share of draws of each row: (count, rows), each line sums to 1."""
    drawn = rng.integers(rows, size=(count, rows)) + rows * np.arange(count)[:, None]
    return np.bincount(drawn.ravel(), minlength=count * rows).reshape(count, rows) / rows


def _are_constant(values: Floats) -> NDArray[np.bool_]:
    """Tell which columns of (rows, columns) are constant up to float32 noise."""
    if not len(values):
        return np.ones(values.shape[1], dtype=np.bool_)
    low, high = values.min(axis=0), values.max(axis=0)
    return np.asarray(high - low <= 1e-9 * np.maximum(1.0, np.maximum(np.abs(low), np.abs(high))))
