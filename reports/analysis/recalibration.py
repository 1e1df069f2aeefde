"""Errors after each run's mean and scale are set to the labels'.

A prediction that is shifted or stretched as a whole has the same Pearson, but other errors by
label: a shift by +0.15 looks like a gain on high labels and a loss on low ones. What remains after
recalibration is about the order and spacing of the predictions alone.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def recalibrated(predictions: Floats, label: Floats) -> Floats:
    """Return predictions with the labels' mean and standard deviation.

    Args:
        predictions: (..., rows), one run along the last axis.
        label: (rows,).

    Returns:
        (..., rows). A constant run, which has no scale, becomes the labels' mean. The mean squared
        error is then 2 (1 - r) times the labels' variance, so it orders runs as Pearson does.
    """
    mean = predictions.mean(axis=-1, keepdims=True)
    spread = predictions.std(axis=-1, keepdims=True)
    varies = spread > 1e-9 * np.maximum(1.0, np.abs(mean))
    scale = np.where(varies, label.std() / np.where(varies, spread, 1.0), 0.0)
    return np.asarray(label.mean() + scale * (predictions - mean))


def recalibrated_residuals(residuals: Floats, label: Floats) -> Floats:
    """Return residuals (prediction minus label) after recalibration: (..., rows) to (..., rows)."""
    return recalibrated(residuals + label, label) - label


def calibration(predictions: Floats, label: Floats) -> tuple[Floats, Floats]:
    """Return each run's shift and stretch, which recalibration removes.

    Args:
        predictions: (..., rows).
        label: (rows,).

    Returns:
        shift (...,), mean prediction minus mean label, on the labels' scale; stretch (...,), the
        predictions' standard deviation over the labels' (NaN for constant labels).
    """
    spread = float(label.std())
    stretch = (
        predictions.std(axis=-1) / spread if spread else np.full(predictions.shape[:-1], np.nan)
    )
    return np.asarray(predictions.mean(axis=-1) - label.mean()), np.asarray(stretch)
