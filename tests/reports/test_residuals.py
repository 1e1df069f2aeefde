"""Errors by label and language, EPM's gain, calibration, and the worst predictions, by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ablation.config.variants import TABLE_3
from reports.analysis import residuals
from reports.analysis.agreement import spearman
from reports.analysis.predictions import AlignedPredictions
from reports.analysis.residuals import Residuals
from reports.sections.errors import (
    agreement_by_group_table,
    agreement_table,
    build,
    gain_text,
    recalibrated_text,
)
from tests.reports.conftest import Made


def made(label: list[float], **of: list[list[float]]) -> Residuals:
    language = np.array(["en", "fr"] * (len(label) // 2) + ["en"] * (len(label) % 2))
    sample = AlignedPredictions(
        "test",
        ("a",),
        np.arange(len(label)),
        np.array(label),
        language,
        np.zeros((len(label), 1)),
        (),
    )
    return Residuals(
        sample, {name: np.array(values) for name, values in of.items()}, dict.fromkeys(of, ("a",))
    )


def test_labels_fall_into_half_points_and_5_into_the_last() -> None:
    assert made([1.0, 1.49, 1.5, 4.5, 5.0], mse=[[0] * 5]).bin.tolist() == [0, 0, 1, 7, 7]


def test_bias_and_rmse_are_means_over_seeds() -> None:
    found = made([1.0, 1.2], mse=[[1.0, -1.0], [2.0, 2.0]])
    row = residuals.by_label(found).iloc[0]
    assert row["bias"] == pytest.approx(1.0)
    assert row["rmse"] == pytest.approx((1.0 + 2.0) / 2)
    by_language = residuals.by_language(found).set_index("language")
    assert by_language.loc["en", "bias"] == pytest.approx(1.5)
    assert by_language.loc["fr", "bias"] == pytest.approx(0.5)


def test_the_gain_is_the_fall_of_the_squared_error_by_label() -> None:
    label = [1.0] * 20 + [4.6] * 20
    found = made(label, mse=[[0.5] * 20 + [2.0] * 20], epm=[[0.6] * 20 + [1.0] * 20])
    gain = residuals.gain_by_label(found, "mse", "epm").set_index("bin")
    assert gain.loc[1.0, "gain"] == pytest.approx(0.25 - 0.36)
    assert gain.loc[4.5, "gain"] == pytest.approx(3.0)
    assert gain.loc[4.5, "low"] == pytest.approx(3.0)
    assert np.isnan(gain.loc[2.0, "gain"])
    told = gain_text(gain.reset_index(), found.high_label)
    assert "falls by 3.000 on labels of 3 and above and rises by 0.110 below" in told
    assert "it falls in the bins from 4.5 and rises in" in told
    assert "rises in those from 1." in told
    assert residuals.gain_by_label(found, "mse", "epm+cl").empty


def test_a_shift_of_a_whole_run_is_no_gain_on_hard_samples() -> None:
    """Predictions that are higher by a constant order the rows alike."""
    label = [1.0] * 20 + [4.6] * 20
    residual = list(np.random.default_rng(0).normal(-0.5, 0.3, 40))
    found = made(label, mse=[residual], epm=[[r + 0.4 for r in residual]])
    raw = residuals.gain_by_label(found, "mse", "epm")
    left = residuals.gain_by_label(residuals.recalibrate(found), "mse", "epm")
    assert raw["gain"].abs().max() > 0.1
    assert left["gain"].dropna().to_numpy() == pytest.approx(0.0, abs=1e-12)
    assert "does not change on labels of 3" in recalibrated_text(left, found.high_label)


def test_the_report_says_what_is_left_of_a_gain_without_shift_and_scale(table_3: Made) -> None:
    """Finding 7: beside the raw gain."""
    inputs = table_3.inputs()
    assert inputs.residuals is not None
    left = residuals.recalibrate(inputs.residuals)
    gain = residuals.gain_by_label(left, "mse", "epm", seed=inputs.seed)
    assert recalibrated_text(gain, left.high_label) in list(build(inputs))


def test_calibration_compares_tenths_of_the_predictions_with_their_labels() -> None:
    label = list(np.linspace(1, 5, 100))
    frame = residuals.calibration(made(label, mse=[[0.5] * 100]))
    assert len(frame) == 10
    assert (frame["predicted"] - frame["label"]).to_numpy() == pytest.approx(0.5)


def test_the_worst_of_each_language_come_with_their_texts() -> None:
    found = made([1.0, 1.0, 2.0, 2.0, 3.0], mse=[[0.1, 0.2, -3.0, 0.4, 0.5]])
    texts = pd.DataFrame({"row": range(5), "text": list("abcde")})
    worst = residuals.worst_predictions(found, "mse", texts, per_language=1)
    assert worst[["language", "text"]].to_numpy().tolist() == [["en", "c"], ["fr", "d"]]
    assert worst["prediction"].tolist() == pytest.approx([-1.0, 2.4])


def test_the_gain_is_a_mean_over_rows_and_over_seeds() -> None:
    """A few large errors count as much as they are large; seeds are averaged after squaring."""
    mse = [[1.0] * 9 + [11.0], [3.0] * 9 + [1.0]]
    found = made([1.0] * 10, mse=mse, epm=[[0.0] * 10, [2.0] * 10])
    gain = residuals.gain_by_label(found, "mse", "epm").set_index("bin")
    by_row = np.array([(1 + 9) / 2] * 9 + [(121 + 1) / 2]) - 2
    assert gain.loc[1.0, "gain"] == pytest.approx(by_row.mean())
    assert gain.loc[1.0, "low"] == pytest.approx(3.0)
    assert gain.loc[1.0, "low"] < gain.loc[1.0, "gain"] < gain.loc[1.0, "high"]


def test_the_mean_gain_of_several_bins_weighs_them_by_their_rows() -> None:
    frame = pd.DataFrame({"bin": [1.0, 1.5, 2.0], "rows": [30, 10, 0], "gain": [1.0, 5.0, np.nan]})
    assert residuals.mean_gain(frame) == pytest.approx(2.0)
    assert np.isnan(residuals.mean_gain(frame[frame["rows"] == 0]))


def test_bins_with_few_rows_have_no_interval() -> None:
    found = made([1.0] * 4 + [2.0] * 5, mse=[[1.0] * 9], epm=[[0.5] * 9])
    gain = residuals.gain_by_label(found, "mse", "epm").set_index("bin")
    assert np.isfinite(gain.loc[1.0, "gain"])
    assert np.isnan(gain.loc[1.0, "low"])
    assert np.isfinite(gain.loc[2.0, "low"])


def test_other_measures_are_told_of_each_language() -> None:
    label = [1.0, 2.0, 2.0, 4.0, 3.0, 5.0]
    by_seed = np.array([[0.5, -0.5, 0.1, -1.0, 0.2, 0.4], [0.0, 1.5, -1.5, 0.2, 0.3, -0.1]])
    found = made(label, mse=by_seed.tolist())
    table = agreement_by_group_table(found, TABLE_3, "language")
    assert [column.title for column in table.columns][1:] == found.sample.languages
    for cell, language in zip(table.rows[0][1:], found.sample.languages, strict=True):
        rows = found.sample.language == language
        predictions = (np.array(label) + by_seed)[:, rows].T
        expected = 100 * spearman(predictions, np.array(label)[rows]).mean()
        assert cell.value == pytest.approx(expected)
        assert f"{np.abs(by_seed[:, rows]).mean():.2f}" in cell.below


def test_other_measures_are_means_over_seeds() -> None:
    label = [1.0, 2.0, 3.0, 5.0]
    by_seed = [[0.5, -0.5, 0.1, -1.0], [0.0, 1.5, -1.5, 0.2]]
    (row,) = agreement_table(made(label, mse=by_seed), TABLE_3).rows
    _, spearman, _, rmse, mae = (cell.value for cell in row)
    predictions = np.array(label) + np.array(by_seed)
    expected = np.mean([stats.spearmanr(label, p).statistic for p in predictions])
    assert spearman == pytest.approx(100 * expected)
    assert rmse == pytest.approx(np.sqrt(np.mean(np.square(by_seed), axis=1)).mean())
    assert mae == pytest.approx(np.abs(by_seed).mean())
