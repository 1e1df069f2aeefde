"""Exact tests for a handful of runs: against R, Fisher's own examples, and enumeration."""

import numpy as np
import pytest

from reports.analysis import few_runs as fr

#: Darwin's maize: cross- minus self-fertilised height in eighths of an inch; Fisher (1935), 17.
MAIZE = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48.0])


def test_clopper_pearson_is_rs() -> None:
    """binom.test(0, 3) and binom.test(1, 3) in R."""
    none, one = fr.clopper_pearson(0, 3), fr.clopper_pearson(1, 3)
    assert (none.low, none.high) == pytest.approx((0, 0.7075982), abs=1e-7)
    assert (one.low, one.high) == pytest.approx((0.008403759, 0.9057007), abs=1e-7)
    assert np.isnan(fr.clopper_pearson(0, 0).low)


def test_fisher_of_the_lady_tasting_tea() -> None:
    test = fr.fisher((3, 4), (1, 4))
    assert test.p == pytest.approx(0.4857143, abs=1e-7)
    assert test.smallest == pytest.approx(2 / 70)


def test_three_runs_a_side_decide_no_collapse() -> None:
    assert fr.fisher((1, 3), (0, 3)).p == 1
    assert not fr.fisher((3, 3), (0, 3)).can_decide()
    assert fr.decide_rates((3, 3), (0, 3)) == "undecided"
    assert fr.paired_runs_for_rates() == 4
    assert fr.decide_rates((5, 5), (0, 5)) == "above"
    assert fr.decide_rates((0, 5), (5, 5)) == "below"


def test_sign_flips_of_darwins_maize() -> None:
    """Fisher (1935), section 21: 863 of 32,768 patterns in one tail."""
    test = fr.sign_flip(MAIZE)
    assert test.p == pytest.approx(2 * 863 / 32768)
    assert test.smallest == 2**-14


@pytest.mark.parametrize("pairs", [1, 2, 3, 4, 5])
def test_few_equal_differences_decide_nothing(pairs: int) -> None:
    differences = np.full(pairs, -10.0)
    assert fr.decide(differences) == "undecided"
    assert fr.sign_flip(differences).p == pytest.approx(2.0 ** (1 - pairs))


def test_six_equal_differences_decide() -> None:
    assert fr.runs_to_decide() == 6
    assert fr.decide(np.full(6, -10.0)) == "below"
    assert fr.decide(np.full(6, -10.0), margin=20) == "above"
    assert fr.decide(np.full(6, -10.0), margin=10) == "undecided"


def test_ties_carry_no_sign() -> None:
    with_ties = fr.sign_flip(np.array([3.0, 1.0, 2.0, 0.0, 0.0]))
    assert with_ties == fr.sign_flip(np.array([3.0, 1.0, 2.0]))
    assert fr.sign_flip(np.zeros(4)).p == 1


def test_many_pairs_are_resampled() -> None:
    rng = np.random.default_rng(0)
    test = fr.sign_flip(rng.standard_normal(40) + 1)
    assert test.p <= 3e-4
    assert test.smallest == pytest.approx(2e-4)


def test_sign_flip_holds_its_level_with_ties() -> None:
    rng = np.random.default_rng(1)
    steps = 10.0 * rng.integers(-2, 3, (300, 7))  # a logging grid of ten steps, no true difference
    rejected = np.mean([fr.decide(values) != "undecided" for values in steps])
    assert rejected <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_subset_means_cover_exactly() -> None:
    rng = np.random.default_rng(2)
    values = rng.standard_t(3, (4000, 6))
    held = np.mean([0 in fr.subset_mean_interval(v) for v in values])
    assert held == pytest.approx(1 - 2 / 64, abs=0.009)
    assert np.isnan(fr.subset_mean_interval(values[0, :5]).low)


def test_subset_means_are_the_duals_of_sign_flips() -> None:
    values = np.array([0.3, 1.9, -0.4, 2.2, 0.8, 1.1, 1.7])
    interval = fr.subset_mean_interval(values)
    assert fr.sign_flip(values, null=interval.low - 1e-6).p < 0.05
    assert fr.sign_flip(values, null=interval.low + 1e-6).p > 2 / 128
    assert fr.sign_flip(values, null=interval.high + 1e-6).p < 0.05


def test_the_share_of_better_seeds_has_an_exact_interval() -> None:
    """Three of three leaves 29 % possible, since .29³ is .025."""
    every = fr.share_above(np.array([0.1, 0.2, 0.3]))
    assert (every.low, every.high) == (pytest.approx(0.025 ** (1 / 3)), 1.0)
    tied = fr.share_above(np.array([0.0, 0.2, -0.3]))
    assert tied.low == fr.clopper_pearson(1, 3).low
    assert tied.high == fr.clopper_pearson(2, 3).high
    assert np.isnan(fr.share_above(np.empty(0)).low)
