"""Comparisons on a corpus that no figures were printed for."""

import math

import numpy as np
import pytest
from scipy import stats

from reports.analysis.inference import NO_INTERVAL, Interval
from reports.analysis.own_task import Answer, Comparison, complete_folds, corrected_interval


def test_the_interval_over_folds_is_nadeau_and_bengios() -> None:
    differences = np.array([0.02, 0.05, -0.01, 0.04, 0.03])
    mean, interval, p = corrected_interval(differences)
    # Their corrected resampled t: (1/k + n_test/n_train) times the variance, with 1/4 for 5 folds.
    error = math.sqrt((1 / 5 + 1 / 4) * np.var(differences, ddof=1))
    assert mean == pytest.approx(0.026)
    assert interval.high - mean == pytest.approx(error * stats.t.ppf(0.975, 4))
    assert p == pytest.approx(2 * stats.t.sf(mean / error, 4))
    naive = stats.ttest_1samp(differences, 0.0).pvalue
    assert p > naive


def test_it_is_calibrated_where_folds_share_nothing_else() -> None:
    """The correction is for shared training rows; independent differences make it conservative."""
    draws = np.random.default_rng(0).normal(0, 1, (400, 5))
    rate = np.mean([corrected_interval(row)[2] < 0.05 for row in draws])
    assert rate < 0.05


def test_equal_differences_leave_no_doubt() -> None:
    assert corrected_interval(np.zeros(5))[2] == 1.0
    assert corrected_interval(np.full(5, 0.25))[2] == 0.0


@pytest.mark.parametrize(
    ("splits", "folds"),
    [
        ([f"kfold:3:{i}" for i in (1, 2, 3)], 3),
        (["dev1", *(f"kfold:3:{i}" for i in (1, 2, 3))], 3),
        (["kfold:3:1", "kfold:3:3"], 0),
        (["dev1"], 0),
    ],
)
def test_folds_are_averaged_if_all_are_there(splits: list[str], folds: int) -> None:
    assert len(complete_folds(splits)) == folds


@pytest.mark.parametrize(
    ("mean", "ends", "p", "answer"),
    [
        (0.02, (0.01, 0.03), 0.001, "better"),
        (-0.02, (-0.03, -0.01), 0.001, "worse"),
        (0.001, (-0.002, 0.004), 0.4, "no difference"),
        (0.001, (-0.02, 0.02), 0.9, "undecided"),
        (0.02, None, math.nan, "undecided"),
    ],
)
def test_an_answer_needs_a_test_and_an_interval(
    mean: float, ends: tuple[float, float] | None, p: float, answer: Answer
) -> None:
    interval = NO_INTERVAL if ends is None else Interval(*ends)
    comparison = Comparison(
        "mse", "epm", "test", mean, interval, p, p, "rows and seeds", (), title="MSE → EPM"
    )
    assert comparison.answer == answer
    assert str(comparison) == "MSE → EPM"
