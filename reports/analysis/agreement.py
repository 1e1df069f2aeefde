"""Agreement of predictions with labels beyond Pearson: rank, error, concordance.

Predictions are (rows, models), labels (rows,), results (models,), NaN where a figure does not
exist.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from reports.analysis.inference import pearsons

Floats = NDArray[np.float64]


def spearman(predictions: Floats, label: Floats) -> Floats:
    """Return Spearman's rank correlation, in [-1, 1], ties at their mean rank."""
    if len(label) < 2:
        return np.full(predictions.shape[1], np.nan)
    known = np.isfinite(predictions).all(axis=0)
    ranks = stats.rankdata(predictions, axis=0)
    return np.where(known, pearsons(ranks, stats.rankdata(label)), np.nan)


def rmse(predictions: Floats, label: Floats) -> Floats:
    """Return the root mean squared error, on the labels' scale."""
    if not len(label):
        return np.full(predictions.shape[1], np.nan)
    return np.asarray(np.sqrt(np.mean((predictions - label[:, None]) ** 2, axis=0)))


def mae(predictions: Floats, label: Floats) -> Floats:
    """Return the mean absolute error, on the labels' scale."""
    if not len(label):
        return np.full(predictions.shape[1], np.nan)
    return np.asarray(np.mean(np.abs(predictions - label[:, None]), axis=0))


def concordance(predictions: Floats, label: Floats) -> Floats:
    """Return Lin's concordance correlation coefficient, in [-1, 1].

    2 s_xy / (s_x² + s_y² + (mean x - mean y)²) with moments over n: Lin (1989), "A concordance
    correlation coefficient to evaluate reproducibility", Biometrics 45, equation 3. Unlike
    Pearson it counts a shifted or stretched prediction as an error; a constant prediction has 0.
    NaN for fewer than two rows or where both are the same constant.
    """
    if len(label) < 2:
        return np.full(predictions.shape[1], np.nan)
    x, y = predictions - predictions.mean(axis=0), label - label.mean()
    shift = predictions.mean(axis=0) - label.mean()
    spread = np.mean(x**2, axis=0) + np.mean(y**2) + shift**2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > 0, 2 * np.mean(x * y[:, None], axis=0) / spread, np.nan)
