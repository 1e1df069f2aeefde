"""Agreement beyond Pearson: against scipy and by hand."""

import numpy as np
import pytest
from scipy import stats

from reports.analysis import agreement as ag


def test_spearman_is_scipys_with_ties() -> None:
    rng = np.random.default_rng(0)
    predictions, label = np.round(rng.standard_normal((40, 3)), 1), rng.integers(1, 6, 40) / 1.0
    expected = [stats.spearmanr(predictions[:, i], label).statistic for i in range(3)]
    np.testing.assert_allclose(ag.spearman(predictions, label), expected, atol=1e-12)


def test_errors_by_hand() -> None:
    predictions, label = np.array([[1.0], [2.0], [6.0]]), np.array([1.0, 4.0, 5.0])
    assert ag.rmse(predictions, label)[0] == pytest.approx(np.sqrt(5 / 3))
    assert ag.mae(predictions, label)[0] == pytest.approx(1.0)


def test_concordance_by_hand() -> None:
    """A shift by 1: 2 (2/3) / (2/3 + 2/3 + 1) = 4/7; a stretch by 2 about the mean: 4/5."""
    label = np.array([1.0, 2.0, 3.0])
    predictions = np.column_stack([label, label + 1, 2 * (label - 2) + 2, -label + 4, [2, 2, 2]])
    np.testing.assert_allclose(ag.concordance(predictions, label), [1, 4 / 7, 4 / 5, -1, 0])


def test_concordance_is_pearson_times_bias_correction() -> None:
    """Lin (1989): 2 / (v + 1 / v + u²), v the ratio of scales, u the shift over their mean."""
    rng = np.random.default_rng(1)
    label = rng.standard_normal(50)
    x = 0.6 * label + 0.5 * rng.standard_normal(50) + 0.3
    ratio = x.std() / label.std()
    shift = (x.mean() - label.mean()) / np.sqrt(x.std() * label.std())
    expected = stats.pearsonr(x, label).statistic * 2 / (ratio + 1 / ratio + shift**2)
    assert ag.concordance(x[:, None], label)[0] == pytest.approx(expected)


@pytest.mark.parametrize("figure", [ag.spearman, ag.rmse, ag.mae, ag.concordance])
def test_nothing_without_rows(figure: object) -> None:
    assert callable(figure)
    assert np.isnan(figure(np.empty((0, 2)), np.empty(0))).all()


def test_constant_predictions_have_no_rank_correlation() -> None:
    assert np.isnan(ag.spearman(np.ones((5, 1)), np.arange(5.0))[0])
