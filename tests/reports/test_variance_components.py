"""Uncertainty by sources of variance: against published examples, scipy, and textbook formulas."""

import numpy as np
import pytest
from scipy import stats

from reports.analysis import inference
from reports.analysis import variance_components as vc

LSAT = np.array([576, 635, 558, 578, 666, 580, 555, 661, 651, 605, 653, 575, 545, 572, 594.0])
GPA = np.array(
    [3.39, 3.30, 2.81, 3.03, 3.44, 3.07, 3.00, 3.43, 3.36, 3.13, 3.12, 2.74, 2.76, 2.88, 2.96]
)


def component(factor: vc.Factor, variance: float, df: float) -> vc.Component:
    return vc.Component(factor, np.asarray(variance), np.asarray(df))


def test_jackknife_of_the_law_schools_is_efrons() -> None:
    """Efron (1982), table 3.2: r = .776, jackknife standard error .142."""
    r, influence = vc.pearson_influence(GPA, LSAT)
    error = np.sqrt(np.sum(vc.stratified(influence) ** 2)) / len(GPA)
    assert float(r) == pytest.approx(0.776, abs=5e-4)
    assert float(error) == pytest.approx(0.142, abs=1e-3)


def test_influence_is_that_of_leaving_each_row_out() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 12))
    r, influence = vc.pearson_influence(x, y)
    without = [stats.pearsonr(np.delete(x, i), np.delete(y, i)).statistic for i in range(12)]
    np.testing.assert_allclose(influence, 11 * (float(r) - np.array(without)), atol=1e-12)


def test_the_influence_of_a_weighted_row_is_that_of_leaving_it_out() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 12))
    weight = rng.integers(1, 5, 12).astype(float)
    r, influence = vc.pearson_influence(x, y, weight)

    def repeated(rows: np.ndarray) -> float:
        times = weight[rows].astype(int)
        return float(stats.pearsonr(np.repeat(x[rows], times), np.repeat(y[rows], times)).statistic)

    rows = np.arange(12)
    assert float(r) == pytest.approx(repeated(rows))
    assert inference.pearsons(x[:, None], y, weight)[0] == pytest.approx(repeated(rows))
    without = [repeated(np.delete(rows, i)) for i in range(12)]
    np.testing.assert_allclose(influence, 11 * (float(r) - np.array(without)), atol=1e-12)
    same = vc.pearson_influence(x, y, np.full(12, 3.0))[1]
    np.testing.assert_allclose(same, vc.pearson_influence(x, y)[1], atol=1e-12)


def test_rows_variance_of_a_difference_is_olkin_and_finns() -> None:
    """Olkin and Finn (1990), the large-sample variance of r12 - r13 for normal variables."""
    r12, r13, r23, n = 0.6, 0.5, 0.7, 20_000
    covariance = np.array([[1, r12, r13], [r12, 1, r23], [r13, r23, 1]])
    label, a, b = np.random.default_rng(1).multivariate_normal(np.zeros(3), covariance, n).T
    _, influence = vc.pearson_influence(np.stack([a, b]), label)
    variance = np.sum(vc.stratified(influence[0] - influence[1]) ** 2) / n**2
    shared = (2 * r23 - r12 * r13) * (1 - r12**2 - r13**2 - r23**2) / 2 + r23**3
    expected = ((1 - r12**2) ** 2 + (1 - r13**2) ** 2 - 2 * shared) / n
    assert variance == pytest.approx(expected, rel=0.03)


def test_interval_of_a_correlation_is_fishers() -> None:
    x, y = LSAT, GPA
    result = stats.pearsonr(x, y)
    r = float(result.statistic)
    half_width = stats.norm.ppf(0.975) * (1 - r**2) / np.sqrt(len(x) - 3)
    interval = vc.correlation_interval(r, half_width)
    expected = result.confidence_interval()
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("r", "half_width"), [(0.9, 1e3), (-0.5, 20.0), (0.0, 1e9)])
def test_intervals_stay_in_range(r: float, half_width: float) -> None:
    score, difference = vc.correlation_interval(r, half_width), vc.contrast_interval(r, half_width)
    assert -1 <= score.low <= r <= score.high <= 1
    assert -2 <= difference.low <= r <= difference.high <= 2


@pytest.mark.parametrize("r", [1.0, -1.0, np.nan])
def test_no_interval_of_a_perfect_correlation(r: float) -> None:
    assert np.isnan(vc.correlation_interval(r, 0.1).low)


def test_few_rows_and_few_labels_give_no_interval() -> None:
    assert "2 distinct rows" in str(vc.too_few_rows(np.array([1.0, 5.0])))
    assert "2 distinct labels" in str(vc.too_few_rows(np.tile([1.0, 5.0], 50)))
    copies = np.repeat(np.arange(10), 20)
    assert "10 distinct rows" in str(vc.too_few_rows(np.linspace(1, 5, 200), copies))
    assert vc.too_few_rows(np.linspace(1, 5, vc.LEAST_ROWS)) is None


def test_one_component_gives_students_interval() -> None:
    differences = np.array([0.02, 0.01, 0.04])
    design = vc.Design(("seeds",), frozenset({"seeds"}))
    uncertainty = vc.analyse(design, differences)
    expected = stats.ttest_1samp(differences, 0)
    interval = expected.confidence_interval()
    assert uncertainty.half_width() == pytest.approx((interval.high - interval.low) / 2)
    assert uncertainty.p(differences.mean()) == pytest.approx(expected.pvalue)


def test_crossed_factors_follow_the_anova() -> None:
    """Var(mean) = (MS_a + MS_b - MS_ab) / ab; Searle, Casella and McCulloch (1992), section 4.3."""
    values = np.array([[1.0, 2.0, 4.0], [2.0, 5.0, 9.0], [0.0, 3.0, 3.0], [7.0, 2.0, 8.0]])
    a, b = values.shape
    by_a, by_b, grand = values.mean(axis=1), values.mean(axis=0), values.mean()
    ms_a, ms_b = b * by_a.var(ddof=1), a * by_b.var(ddof=1)
    residual = values - by_a[:, None] - by_b + grand
    ms_ab = np.sum(residual**2) / ((a - 1) * (b - 1))
    design = vc.Design(("splits", "seeds"), frozenset({"splits", "seeds"}))
    assert vc.analyse(design, values).variance == pytest.approx((ms_a + ms_b - ms_ab) / (a * b))


def test_the_row_by_seed_part_counts_once() -> None:
    """Seeds that differ by their rows' luck alone add nothing to the rows' variance."""
    rng = np.random.default_rng(2)
    noise = rng.standard_normal((400, 5, 200))  # data sets, seeds, rows; no main effects
    uncertainty = vc.analyse(vc.SEEDS_AND_ROWS, noise.mean(axis=-1), noise)
    assert uncertainty.variance.mean() == pytest.approx(1 / 1000, rel=0.1)


def test_fixed_factors_are_averaged_over() -> None:
    values = np.array([[0.01, 0.03], [0.05, 0.02]])
    fixed = vc.Design(("splits", "seeds"), frozenset({"seeds"}))
    plain = vc.Design(("seeds",), frozenset({"seeds"}))
    assert vc.analyse(fixed, values).variance == pytest.approx(
        vc.analyse(plain, values.mean(axis=0)).variance
    )


def test_random_languages_carry_their_rows() -> None:
    with pytest.raises(ValueError, match="nested"):
        vc.Design(("languages", "seeds"), frozenset({"rows", "languages"}))


def test_one_seed_has_no_variance() -> None:
    uncertainty = vc.analyse(vc.SEEDS_AND_ROWS, np.array([0.1]), np.ones((1, 9)))
    assert np.isnan(uncertainty.variance)
    assert np.isnan(uncertainty.half_width())


def test_a_component_without_degrees_of_freedom_gives_neither_interval_nor_p() -> None:
    rows = component("rows", 9e-9, 1000)
    for unknown in (component("seeds", 1e-9, 0), component("seeds", np.nan, np.nan)):
        with np.errstate(all="raise"):
            uncertainty = vc.Uncertainty((rows, unknown))
            assert np.isnan(uncertainty.half_width())
            assert np.isnan(uncertainty.p(0.02))


def test_pooling_over_two_variants_is_the_paired_t() -> None:
    scores = np.array([[0.61, 0.63, 0.60], [0.64, 0.65, 0.66]])
    pooled = vc.pooled_seeds(scores, [-1.0, 1.0])
    assert pooled.variance == pytest.approx((scores[1] - scores[0]).var(ddof=1) / 3)
    assert pooled.df == pytest.approx(2)


def test_pooling_over_more_variants_gains_degrees_of_freedom() -> None:
    rng = np.random.default_rng(3)
    scores = 0.01 * rng.standard_normal((2000, 6, 2)) + 0.02 * rng.standard_normal((2000, 1, 2))
    difference = vc.pooled_seeds(scores, [1.0, -1.0, 0, 0, 0, 0])
    score = vc.pooled_seeds(scores, [1.0, 0, 0, 0, 0, 0])
    assert difference.df[0] == 5
    assert difference.variance.mean() == pytest.approx(0.01**2, rel=0.05)
    assert score.variance.mean() == pytest.approx((0.01**2 + 0.02**2) / 2, rel=0.08)
    assert (score.df >= 1 - 1e-9).all()


def test_a_variant_that_collapses_stops_pooling() -> None:
    steady = [np.array([0.60, 0.61, 0.62]), np.array([0.63, 0.64, 0.62])]
    assert vc.seed_variances_differ([*steady, np.array([0.60, 0.05, 0.61])]) < vc.POOLING_ALPHA
    assert vc.seed_variances_differ(steady) > vc.POOLING_ALPHA
    assert np.isnan(vc.seed_variances_differ([steady[0], steady[1][:1]]))


@pytest.mark.parametrize("df", [1.0, 1.4, 2.0, 9.0])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_p_is_the_dual_of_the_interval(df: float, level: float) -> None:
    uncertainty = vc.Uncertainty((component("rows", 1.0, 299), component("seeds", 2.0, df)))
    edge = uncertainty.half_width(level)
    assert uncertainty.p(edge) == pytest.approx(1 - level, rel=1e-6)


@pytest.mark.parametrize("ratio", [0.03, 0.1, 0.3, 1, 3, 10, 100])
@pytest.mark.parametrize("df", [1, 2, 3, 4, 6, 9])
def test_coverage_is_even_over_variance_ratios(df: int, ratio: float) -> None:
    """Integrated over the distribution of the seeds' variance, the rows' variance known."""
    shares = stats.chi2.ppf((np.arange(4000) + 0.5) / 4000, df) / df
    uncertainty = vc.Uncertainty(
        (
            vc.Component("rows", np.ones(4000), np.full(4000, 1e9)),
            vc.Component("seeds", ratio * shares, np.full(4000, float(df))),
        )
    )
    reach = uncertainty.half_width()
    coverage = stats.chi2.cdf(reach**2 / (1 + ratio), 1).mean()
    assert 0.943 < coverage < 0.971


@pytest.mark.parametrize("ratio", [0.1, 1, 3, 10, 30, 100])
@pytest.mark.parametrize("df", [1, 2, 3, 4, 5, 6, 9])
@pytest.mark.parametrize("level", [0.01, 0.05 / 8, 0.05 / 14])
def test_the_level_of_one_claim_of_a_family_is_kept_to_a_tenth(
    level: float, df: int, ratio: float
) -> None:
    """Integrated as above: at most 1.10 times the level, with four degrees of freedom."""
    shares = stats.chi2.ppf((np.arange(4000) + 0.5) / 4000, df) / df
    uncertainty = vc.Uncertainty(
        (
            vc.Component("rows", np.ones(4000), np.full(4000, 1e9)),
            vc.Component("seeds", ratio * shares, np.full(4000, float(df))),
        )
    )
    reach = uncertainty.half_width(1 - level)
    assert stats.chi2.sf(reach**2 / (1 + ratio), 1).mean() < 1.101 * level


def test_a_stratum_of_one_row_is_refused() -> None:
    with pytest.raises(ValueError, match="one row"):
        vc.stratified(np.zeros(3), np.array([0, 0, 1]))


def test_seeds_that_agree_by_chance_do_not_end_the_uncertainty_of_the_rows() -> None:
    """Two seeds with equal scores whose rows err in opposite ways: the rows alone say more."""
    rng = np.random.default_rng(3)
    influence = rng.normal(size=(1, 300))
    influence -= influence.mean()
    both = np.concatenate([influence, -0.2 * influence + 0.4 * rng.normal(size=(1, 300))])
    values = np.array([0.05, 0.05])
    uncertainty = vc.analyse(vc.SEEDS_AND_ROWS, values, both)
    rows = vc.analyse(vc.Design(("seeds",), frozenset({"rows"})), values, both)
    alone = float(rows.half_width())
    assert float(vc.Uncertainty(uncertainty.components).half_width()) < 0.7 * alone
    assert float(uncertainty.half_width()) == pytest.approx(0.7 * alone)
    # The interval and the p agree on where the end is.
    assert float(uncertainty.p(0.7 * alone)) == pytest.approx(0.05)
