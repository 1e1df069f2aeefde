"""The statistics against scipy, a published worked example, and simulation."""

import numpy as np
import pytest
from scipy import stats

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


def test_pairs_of_columns_each_have_scipys_pearson() -> None:
    x, y = correlated(np.random.default_rng(3), 40, 0.3, 3)
    x[1] = 7.0  # constant
    expected = [stats.pearsonr(x[i], y[i]).statistic if i != 1 else np.nan for i in range(3)]
    np.testing.assert_allclose(inference.paired_pearsons(x.T, y.T), expected, atol=1e-14)
    assert np.isnan(inference.paired_pearsons(x.T[:1], y.T[:1])).all()


def test_bootstrap_agrees_with_scipys() -> None:
    x, y = correlated(np.random.default_rng(1), 300, 0.6)
    draws = inference.bootstrap_pearson(x.T, y[0], seed=0, resamples=4000)[0, :, 0]
    theirs = stats.bootstrap(
        (x[0], y[0]),
        lambda a, b: stats.pearsonr(a, b).statistic,
        paired=True,
        vectorized=False,
        n_resamples=1000,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    ours = inference.percentile_interval(draws)
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.012)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.012)
    assert draws.std() == pytest.approx(theirs.standard_error, rel=0.1)


def test_bootstrap_is_seeded_paired_and_blind_to_offsets() -> None:
    x, y = correlated(np.random.default_rng(2), 3000, 0.5)
    both = np.column_stack([x[0], 1e4 + 3 * x[0]])
    draws = inference.bootstrap_pearson(both, y[0], seed=7, resamples=2000)[
        0
    ]  # several chunks of weights
    assert draws[:, 0] == pytest.approx(draws[:, 1], abs=1e-9)
    assert np.array_equal(draws, inference.bootstrap_pearson(both, y[0], seed=7, resamples=2000)[0])
    assert not np.array_equal(
        draws, inference.bootstrap_pearson(both, y[0], seed=8, resamples=2000)[0]
    )


def test_strata_keep_their_rows_and_subsets_pool_them() -> None:
    rng = np.random.default_rng(10)
    x, y = correlated(rng, 400, 0.5)
    strata = np.repeat([0, 1, 2], [50, 150, 200])
    draws = inference.bootstrap_pearson(
        x.T, y[0], seed=1, resamples=1500, strata=strata, subsets=[[0], [1, 2], [0, 1, 2], []]
    )
    assert draws.shape == (4, 1500, 1)
    for i, rows in enumerate([slice(0, 50), slice(50, 400), slice(0, 400)]):
        assert draws[i].mean() == pytest.approx(inference.pearson(x[0, rows], y[0, rows]), abs=0.02)
    assert draws[0].std() > draws[1].std() > draws[2].std()
    assert np.isnan(draws[3]).all()
    # A stratum's own draws do not depend on what else is asked for.
    alone = inference.bootstrap_pearson(
        x.T, y[0], seed=1, resamples=1500, strata=strata, subsets=[[0]]
    )
    assert alone[0] == pytest.approx(draws[0])


def test_rows_and_seeds_together_cover_in_1000_cases() -> None:
    """Cover a true mean difference of 0.02 with four seeds: rows and seeds vary by case."""
    rng = np.random.default_rng(11)
    covered = rejected = 0
    for _ in range(1000):
        row_error = rng.normal(0, 0.01)
        per_seed = 0.02 + row_error + rng.normal(0, 0.01, 4)
        draws = per_seed.mean() + rng.normal(0, 0.01, 400)
        combined = inference.combine(draws, per_seed)
        covered += 0.02 in combined.interval
        rejected += inference.combine(draws - 0.02, per_seed - 0.02).p < 0.05
    assert 930 <= covered <= 970
    assert 30 <= rejected <= 70


def test_one_seed_gives_nothing_over_seeds() -> None:
    combined = inference.combine(np.random.default_rng(0).normal(0, 1, 100), np.array([0.1]))
    assert np.isnan([combined.p, combined.interval.low, combined.standard_error]).all()
    assert inference.combine(np.zeros(10), np.zeros(3)).p == 1


def test_bootstrap_without_a_correlation() -> None:
    y = np.arange(10.0)
    assert np.isnan(
        inference.bootstrap_pearson(np.full((10, 1), 2.0), y, seed=0, resamples=50)
    ).all()
    assert np.isnan(inference.bootstrap_pearson(np.ones((1, 2)), y[:1], seed=0, resamples=50)).all()
    assert np.isnan(inference.percentile_interval(np.full(100, np.nan)).low)
    assert np.isnan(inference.bootstrap_p(np.full(10, np.nan), 0.1))


def test_an_interval_needs_nine_tenths_of_its_draws() -> None:
    draws = np.linspace(0, 1, 101)
    interval = inference.percentile_interval(draws)
    assert (interval.low, interval.high) == pytest.approx((0.025, 0.975))
    few, many = (np.concatenate([draws, np.full(n, np.nan)]) for n in (11, 12))
    assert np.isfinite(inference.percentile_interval(few).low)
    assert np.isnan(inference.percentile_interval(many).low)
    per_seed = np.array([0.4, 0.6])
    assert np.isfinite(inference.combine(few, per_seed).p)
    assert np.isnan(inference.combine(many, per_seed).p)


def test_bootstrap_p_counts_the_data_once_and_is_two_sided() -> None:
    draws = np.array([1.0, 2.0, 3.0, 4.0, 5.0])  # around their mean: -2 to 2
    assert inference.bootstrap_p(draws, 3.0) == pytest.approx(1 / 6)
    assert inference.bootstrap_p(draws, 2.0) == pytest.approx(3 / 6)
    assert inference.bootstrap_p(draws, -2.0) == pytest.approx(3 / 6)


def test_row_interval_covers_in_1000_cases() -> None:
    rng = np.random.default_rng(3)
    x, y = correlated(rng, 200, 0.6, size=1000)
    covered = 0
    for case in range(1000):
        interval = inference.percentile_interval(
            inference.bootstrap_pearson(x[case][:, None], y[case], seed=case, resamples=400)[
                0, :, 0
            ]
        )
        covered += 0.6 in interval
    assert 930 <= covered <= 970


def test_paired_test_rejects_five_percent_under_no_difference() -> None:
    rng = np.random.default_rng(4)
    bootstrap = williams = 0
    for case in range(1000):
        y = rng.standard_normal(200)
        both = 0.6 * y[:, None] + 0.8 * rng.standard_normal((200, 2))
        draws = inference.bootstrap_pearson(both, y, seed=case, resamples=400)[0]
        r = [inference.pearson(both[:, i], y) for i in range(2)]
        bootstrap += inference.bootstrap_p(draws[:, 0] - draws[:, 1], r[0] - r[1]) < 0.05
        williams += (
            inference.williams(r[0], r[1], inference.pearson(both[:, 0], both[:, 1]), 200)[1] < 0.05
        )
    assert 30 <= bootstrap <= 70
    assert 30 <= williams <= 70


def test_williams_on_steigers_example() -> None:
    # Steiger (1980), N = 103; R's psych::r.test prints t = 0.89, p = 0.37.
    t, p = inference.williams(0.5, 0.4, 0.1, 103)
    assert t == pytest.approx(0.89, abs=0.005)
    assert p == pytest.approx(0.37, abs=0.005)
    assert inference.williams(0.4, 0.5, 0.1, 103)[0] == -t
    # Three degrees of freedom fewer than rows: with 5 rows Student's t has 2, whose tail is known.
    t, p = inference.williams(0.5, 0.4, 0.1, 5)
    assert p == pytest.approx(1 - t / np.sqrt(2 + t * t))


def test_williams_without_an_answer() -> None:
    assert np.isnan(inference.williams(0.5, 0.5, 1.0, 100)).all()
    assert np.isnan(inference.williams(0.5, 0.4, 0.1, 3)).all()
    assert np.isnan(inference.williams(float("nan"), 0.4, 0.1, 30)).all()


def test_holm_worked_example() -> None:
    # Holm (1979): sorted p times (m, m - 1, ...), made monotone.
    assert inference.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    adjusted = inference.holm([0.02, float("nan"), 0.03])
    assert adjusted[0] == pytest.approx(0.04)
    assert np.isnan(adjusted[1])
    assert all(np.isnan(inference.holm([float("nan")])))
    assert inference.holm([]) == []


def test_seed_interval_is_scipys_and_covers() -> None:
    values = np.array([0.61, 0.64, 0.62, 0.66])
    theirs = stats.ttest_1samp(values, 0).confidence_interval()
    assert (
        inference.seed_interval(values).low,
        inference.seed_interval(values).high,
    ) == pytest.approx((theirs.low, theirs.high))
    samples = np.random.default_rng(5).normal(0.6, 0.01, (1000, 4))
    assert 930 <= sum(0.6 in inference.seed_interval(s) for s in samples) <= 970
    assert 930 <= sum(s[3] in inference.prediction_interval(s[:3]) for s in samples) <= 970
    assert np.isnan(inference.seed_interval(values[:1]).low)
    assert np.isnan(inference.prediction_interval(values[:1]).low)


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
    assert inference.detectable_over_rows(rng.normal(0, 0.01, 100_000)) == pytest.approx(
        0.028, abs=0.0005
    )
    sample = np.array([-1.0, 0, 1, 2, -2])
    sample = sample / sample.std(ddof=1)
    shift = inference.detectable_over_seeds(sample)
    found = stats.ttest_1samp(rng.normal(shift, 1, (4000, 5)), 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.02)
    assert np.isnan(inference.detectable_over_seeds(sample[:1]))
    assert np.isnan(inference.detectable_over_rows(np.array([0.1])))


def test_seeds_needed() -> None:
    n = inference.seeds_needed(1.0, 1.0)
    assert n == 10  # a paired t test with d = 1, 5%, 80%: 10 pairs in Cohen's tables
    assert inference.seeds_needed(0.0, 1.0) is None
    assert inference.seeds_needed(1e-6, 1.0) is None


def test_bootstrap_means_are_means() -> None:
    values = np.random.default_rng(8).normal(2, 1, (400, 2))
    draws = inference.bootstrap_means(values, seed=0)
    assert draws.mean(axis=0) == pytest.approx(values.mean(axis=0), abs=0.01)
    assert draws.std(axis=0) == pytest.approx(values.std(axis=0) / 20, rel=0.1)
