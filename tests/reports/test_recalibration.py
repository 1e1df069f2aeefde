"""A shift or a stretch of all predictions is no gain on any label."""

import numpy as np
import pytest

from reports.analysis import recalibration as rc


@pytest.fixture
def label() -> np.ndarray:
    return np.random.default_rng(0).uniform(1, 5, 200)


@pytest.fixture
def predictions(label: np.ndarray) -> np.ndarray:
    return label + np.random.default_rng(1).standard_normal((3, 200))


def test_shift_and_stretch_leave_no_trace(predictions: np.ndarray, label: np.ndarray) -> None:
    changed = 0.3 * predictions + 0.146
    np.testing.assert_allclose(rc.recalibrated(changed, label), rc.recalibrated(predictions, label))


def test_mean_and_scale_are_the_labels(predictions: np.ndarray, label: np.ndarray) -> None:
    result = rc.recalibrated(predictions, label)
    np.testing.assert_allclose(result.mean(axis=1), label.mean())
    np.testing.assert_allclose(result.std(axis=1), label.std())


def test_squared_error_follows_pearson(predictions: np.ndarray, label: np.ndarray) -> None:
    residuals = rc.recalibrated_residuals(predictions - label, label)
    r = [np.corrcoef(run, label)[0, 1] for run in predictions]
    expected = 2 * (1 - np.array(r)) * label.var()
    np.testing.assert_allclose((residuals**2).mean(axis=1), expected)


def test_a_constant_run_becomes_the_mean(label: np.ndarray) -> None:
    result = rc.recalibrated(np.full((1, 200), 2.5), label)
    np.testing.assert_allclose(result, label.mean())


def test_calibration_says_what_was_removed(label: np.ndarray) -> None:
    shift, stretch = rc.calibration(np.stack([label + 0.1, 0.5 * label]), label)
    np.testing.assert_allclose(shift, [0.1, -0.5 * label.mean()])
    np.testing.assert_allclose(stretch, [1, 0.5])
