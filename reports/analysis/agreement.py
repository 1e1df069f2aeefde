"""Agreement of predictions with labels beyond Pearson: rank, error, concordance.

Predictions are (rows, models), labels and weights (rows,), results (models,), NaN where a figure
does not exist. Without weights, every row counts once.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from reports.analysis.inference import pearsons

Floats = NDArray[np.float64]


def spearman(predictions: Floats, label: Floats, weight: Floats | None = None) -> Floats:
    """Return Spearman's rank correlation, in [-1, 1], ties at their mean rank."""
    if len(label) < 2:
        return np.full(predictions.shape[1], np.nan)
    known = np.isfinite(predictions).all(axis=0)
    ranks = stats.rankdata(predictions, axis=0)
    return np.where(known, pearsons(ranks, stats.rankdata(label), weight), np.nan)


def rmse(predictions: Floats, label: Floats, weight: Floats | None = None) -> Floats:
    """Return the root mean squared error, on the labels' scale."""
    if not len(label):
        return np.full(predictions.shape[1], np.nan)
    return np.asarray(np.sqrt(np.average((predictions - label[:, None]) ** 2, 0, weight)))


def mae(predictions: Floats, label: Floats, weight: Floats | None = None) -> Floats:
    """Return the mean absolute error, on the labels' scale."""
    if not len(label):
        return np.full(predictions.shape[1], np.nan)
    return np.asarray(np.average(np.abs(predictions - label[:, None]), 0, weight))


def concordance(predictions: Floats, label: Floats, weight: Floats | None = None) -> Floats:
    """Return Lin's concordance correlation coefficient, in [-1, 1].

    2 s_xy / (s_x² + s_y² + (mean x - mean y)²) with moments over n: Lin (1989), "A concordance
    correlation coefficient to evaluate reproducibility", Biometrics 45, equation 3. Unlike
    Pearson it counts a shifted or stretched prediction as an error; a constant prediction has 0.
    NaN for fewer than two rows or where both are the same constant.
    """
    if len(label) < 2:
        return np.full(predictions.shape[1], np.nan)
    centre, middle = np.average(predictions, 0, weight), np.average(label, 0, weight)
    x, y = predictions - centre, label - middle
    shift = centre - middle
    spread = np.average(x**2, 0, weight) + np.average(y**2, 0, weight) + shift**2
    with np.errstate(divide="ignore", invalid="ignore"):
        covariance = np.average(x * y[:, None], 0, weight)
        return np.where(spread > 0, 2 * covariance / spread, np.nan)
