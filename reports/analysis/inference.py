"""Correlations, intervals over seeds, and what a sample could show: arrays in, numbers out.

Two units of resampling are kept apart everywhere: *rows* (would other texts give another
correlation, with these trained models?) and *seeds* (would another training?). An interval over
one says nothing about the other.
"""

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.power import TTestPower

Floats = NDArray[np.float64]

RESAMPLES: Final = 2000
LEVEL: Final = 0.95
ALPHA: Final = 0.05
POWER: Final = 0.80
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


def pearsons(predictions: Floats, label: Floats, weight: Floats | None = None) -> Floats:
    """Return Pearson's r of many models: (rows, models) and (rows,) to (models,).

    With weights (rows,), above 0, means and products of deviations are weighted.

    `scipy.stats.pearsonr` agrees to the last digits but takes a millisecond for each model.
    """
    if len(label) < 2 or not np.isfinite(label).all() or _are_constant(label[:, None])[0]:
        return np.full(predictions.shape[1], np.nan)
    exists = np.asarray(np.isfinite(predictions).all(axis=0))
    exists[exists] = ~_are_constant(predictions[:, exists])
    if weight is None:
        x, y = predictions[:, exists] - predictions[:, exists].mean(axis=0), label - label.mean()
    else:
        root = np.sqrt(weight)
        x = root[:, None] * (
            predictions[:, exists] - np.average(predictions[:, exists], axis=0, weights=weight)
        )
        y = root * (label - np.average(label, weights=weight))
    r = np.full(predictions.shape[1], np.nan)
    # Normalised first: the product of two sums of squares could leave the range of the numbers.
    r[exists] = np.clip((y / np.linalg.norm(y)) @ (x / np.linalg.norm(x, axis=0)), -1, 1)
    return r


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


def seed_interval(values: Floats, level: float = LEVEL) -> Interval:
    """Return Student's t interval of the mean over seeds (seeds,); none below two seeds."""
    if len(values) < 2:
        return NO_INTERVAL
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1) * stats.sem(values))
    return Interval(float(values.mean()) - half, float(values.mean()) + half)


def probability_of_improvement(better: Floats, worse: Floats) -> float:
    """Return P(a run of `better` scores above one of `worse`), ties half, by Mann-Whitney's U.

    Arrays (seeds,), which need not be paired. Agarwal et al. (2021), "Deep RL at the edge of the
    statistical precipice". NaN if one of them is empty.
    """
    if not len(better) or not len(worse):
        return float("nan")
    return float(stats.mannwhitneyu(better, worse).statistic / (len(better) * len(worse)))


def holm(p_values: Floats) -> Floats:
    """Return p values (tests,) adjusted for their number, at most 1.

    Holm (1979), "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6. `statsmodels`' function gives the same, and collects garbage at each call: a
    quarter of a second with a thousand runs in memory.
    """
    order = np.argsort(p_values)
    stepped = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def wilcoxon_floor(pairs: int) -> float:
    """Return the smallest p of an exact two-sided Wilcoxon signed-rank test of `pairs` pairs."""
    return min(1.0, 2.0 ** (1 - pairs))


def pairs_for_wilcoxon(alpha: float = ALPHA) -> int:
    """Return the fewest pairs with which that test can fall below `alpha` at all."""
    return next(n for n in range(1, 64) if wilcoxon_floor(n) < alpha)


def detectable_over_rows(standard_error: float) -> float:
    """Return the difference that 80% of samples with this standard error show at the 5% level."""
    return float((stats.norm.ppf(1 - ALPHA / 2) + stats.norm.ppf(POWER)) * standard_error)


def detectable_over_seeds(differences: Floats) -> float:
    """Return it for a paired t test over seeds, differences (seeds,); NaN below two seeds."""
    if len(differences) < 2 or np.ptp(differences) == 0:
        return float("nan")
    return _detectable_effect(len(differences)) * float(differences.std(ddof=1))


@functools.cache
def _detectable_effect(pairs: int) -> float:
    """Return the standardised difference that this many pairs show with 80% power."""
    effect = TTestPower().solve_power(nobs=pairs, alpha=ALPHA, power=POWER, alternative="two-sided")
    return float(np.squeeze(effect))


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
