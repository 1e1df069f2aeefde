"""The statistics against scipy, a published worked example, and simulation."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from reports.analysis import inference


def correlated(
    rng: np.random.Generator, rows: int, r: float, size: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """(size, rows) of two normal variables with correlation r."""
    x = rng.standard_normal((size, rows))
    return x, r * x + np.sqrt(1 - r * r) * rng.standard_normal((size, rows))


def test_pearson_is_scipys() -> None:
    x, y = correlated(np.random.default_rng(0), 50, 0.4)
    assert inference.pearson(x[0], y[0]) == pytest.approx(
        stats.pearsonr(x[0], y[0]).statistic, abs=1e-15
    )


@pytest.mark.parametrize(
    "prediction", [np.full(20, 2.5), np.full(20, 2.5) + 1e-12 * np.arange(20), np.array([1.0])]
)
def test_no_pearson_of_constants(prediction: np.ndarray) -> None:
    assert np.isnan(inference.pearson(prediction, np.arange(len(prediction), dtype=float)))


def test_seed_interval_is_scipys_and_covers() -> None:
    values = np.array([0.61, 0.64, 0.62, 0.66])
    theirs = stats.ttest_1samp(values, 0).confidence_interval()
    assert (
        inference.seed_interval(values).low,
        inference.seed_interval(values).high,
    ) == pytest.approx((theirs.low, theirs.high))
    samples = np.random.default_rng(5).normal(0.6, 0.01, (1000, 4))
    assert 930 <= sum(0.6 in inference.seed_interval(s) for s in samples) <= 970
    assert np.isnan(inference.seed_interval(values[:1]).low)


def test_probability_of_improvement() -> None:
    assert inference.probability_of_improvement(np.array([3.0, 4.0]), np.array([1.0, 2.0])) == 1
    assert inference.probability_of_improvement(np.array([1.0, 2.0]), np.array([1.0, 2.0])) == 0.5
    assert inference.probability_of_improvement(
        np.array([2.0]), np.array([1.0, 3.0, 2.0])
    ) == pytest.approx(0.5)
    assert np.isnan(inference.probability_of_improvement(np.array([]), np.array([1.0])))


@pytest.mark.parametrize("pairs", range(1, 9))
def test_wilcoxon_floor_is_scipys(pairs: int) -> None:
    p = stats.wilcoxon(np.arange(1.0, pairs + 1), method="exact").pvalue
    assert inference.wilcoxon_floor(pairs) == pytest.approx(p)


def test_five_pairs_prove_nothing() -> None:
    assert inference.wilcoxon_floor(5) == 0.0625
    assert inference.pairs_for_wilcoxon() == 6


def test_detectable_differences_are_detected_in_80_percent() -> None:
    rng = np.random.default_rng(6)
    assert inference.detectable_over_rows(0.01) == pytest.approx(0.028, abs=0.0005)
    sample = np.array([-1.0, 0, 1, 2, -2])
    sample = sample / sample.std(ddof=1)
    shift = inference.detectable_over_seeds(sample)
    found = stats.ttest_1samp(rng.normal(shift, 1, (4000, 5)), 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.02)
    assert np.isnan(inference.detectable_over_seeds(sample[:1]))


def test_bootstrap_means_are_means() -> None:
    values = np.random.default_rng(8).normal(2, 1, (400, 2))
    draws = inference.bootstrap_means(values, seed=0)
    assert draws.mean(axis=0) == pytest.approx(values.mean(axis=0), abs=0.01)
    assert draws.std(axis=0) == pytest.approx(values.std(axis=0) / 20, rel=0.1)


def test_holm_is_statsmodels() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 2, 9, 30):
        p = np.round(rng.random(size) ** 3, 2)  # some are equal
        assert inference.holm(p).tolist() == multipletests(p, method="holm")[1].tolist()
