"""Pearson pooled, per language and averaged; what does not exist is missing."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ablation.training.ensemble import average, select_members
from ablation.training.evaluation import (
    agreement,
    concordance,
    mae,
    pearson,
    rmse,
    scores,
    spearman,
)
from reports.analysis import agreement as reported


def table(rows: list[tuple[str, float, float]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["language", "label", "prediction"])


@given(st.integers(0, 10_000), st.integers(3, 60))
def test_pearson_is_that_of_scipy(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=rows), rng.normal(size=rows)
    assert pearson(a, b) == pytest.approx(stats.pearsonr(a, b).statistic)


@pytest.mark.parametrize(
    ("prediction", "label"),
    [
        ([2.0, 2.0, 2.0], [1.0, 2.0, 3.0]),
        ([1.0, 2.0], [3.0, 3.0]),
        ([1.0], [2.0]),
        ([], []),
        ([1.0, np.nan, 2.0], [1, 2, 3]),
    ],
)
def test_where_there_is_no_correlation_there_is_no_number(
    prediction: list[float], label: list[float]
) -> None:
    assert pearson(np.array(prediction), np.array(label, dtype=float)) is None


def test_predictions_that_differ_by_rounding_alone_are_constant() -> None:
    prediction = np.full(10, 2.0, dtype=np.float32)
    prediction[3] = np.nextafter(np.float32(2), np.float32(3))
    assert pearson(prediction.astype(np.float64), np.arange(10.0)) is not None
    assert pearson(np.array([2.0, 2.0 + 1e-12, 2.0]), np.arange(3.0)) is None


def test_pooling_rows_is_not_averaging_languages() -> None:
    frame = table(
        [("en", 1, 1), ("en", 2, 2), ("en", 3, 3), ("fr", 1, 11), ("fr", 2, 12), ("fr", 3, 13)]
    )
    result = scores(frame, ["en", "fr"])
    assert (
        result["pearson_en"] == result["pearson_fr"] == result["mean_pearson"] == pytest.approx(1)
    )
    assert result["pearson"] == pytest.approx(
        np.corrcoef(frame["prediction"], frame["label"])[0, 1]
    )
    assert result["pearson"] < 0.2


def test_the_mean_over_languages_weighs_each_alike() -> None:
    rows = [("en", 1, 1), ("en", 2, 3), ("en", 3, 2), ("fr", 1, 1), ("fr", 2, 2)]
    result = scores(table(rows), ["en", "fr"])
    assert result["mean_pearson"] == result["mean_pearson_seen"] == pytest.approx(0.75)


def test_seen_and_unseen_rows_are_told_apart() -> None:
    frame = table(
        [("en", 1, 1), ("en", 2, 3), ("en", 3, 2), ("ko", 1, 3), ("ko", 2, 2), ("ko", 3, 1)]
    )
    result = scores(frame, ["en"])
    assert result["pearson_seen"] == pytest.approx(0.5)
    assert result["pearson_unseen"] == result["mean_pearson_unseen"] == pytest.approx(-1)


def test_figures_that_do_not_exist_are_missing() -> None:
    result = scores(table([("en", 1, 1), ("en", 2, 2), ("ko", 1, 2), ("ko", 2, 2)]), ["en"])
    assert "pearson_ko" not in result
    assert "pearson_unseen" not in result
    assert "mean_pearson" not in result
    assert result["pearson_en"] == pytest.approx(1)


class TestEnsemble:
    LABEL = np.array([1.0, 2.0, 3.0, 4.0])

    def test_two_models_whose_errors_cancel_are_both_chosen(self) -> None:
        error = np.array([1, -1, 1, -1])
        up, down = self.LABEL + error, self.LABEL - error
        members = select_members(
            {"up": up, "down": down, "noise": np.array([3.0, 1.0, 4.0, 1.0])}, self.LABEL
        )
        assert members == {"up": 1, "down": 1}
        np.testing.assert_allclose(average({"up": up, "down": down}, members), self.LABEL)

    def test_a_perfect_model_stays_alone(self) -> None:
        assert select_members({"bad": -self.LABEL, "good": self.LABEL}, self.LABEL) == {"good": 1}

    def test_of_equal_models_the_first_is_taken(self) -> None:
        assert select_members({"a": self.LABEL, "b": self.LABEL}, self.LABEL) == {"a": 1}

    def test_a_member_counts_as_often_as_it_was_selected(self) -> None:
        np.testing.assert_allclose(
            average({"a": np.array([0.0]), "b": np.array([4.0])}, {"a": 3, "b": 1}), [1.0]
        )

    def test_models_without_any_correlation_can_not_be_combined(self) -> None:
        with pytest.raises(ValueError, match="nothing to select from"):
            select_members({"flat": np.full(4, 2.0)}, self.LABEL)

    @given(st.integers(0, 10_000), st.integers(1, 6))
    def test_on_development_rows_it_is_never_worse_than_its_best_member(
        self, seed: int, models: int
    ) -> None:
        rng = np.random.default_rng(seed)
        label = rng.normal(size=30)
        predictions = {f"m{i}": label * rng.normal() + rng.normal(size=30) for i in range(models)}
        combined = average(predictions, select_members(predictions, label))
        best = max(np.corrcoef(p, label)[0, 1] for p in predictions.values())
        assert np.corrcoef(combined, label)[0, 1] >= best - 1e-9


@given(st.integers(0, 10_000), st.integers(3, 60))
def test_rank_correlation_and_errors_are_those_of_scipy_and_numpy(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=rows).round(1), rng.normal(size=rows).round(1)  # with ties
    if np.ptp(a) and np.ptp(b):
        assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    assert rmse(a, b) == pytest.approx(np.linalg.norm(a - b) / np.sqrt(rows))
    assert mae(a, b) == pytest.approx(abs(a - b).sum() / rows)


def test_concordance_falls_with_a_shift_and_a_stretch_alone() -> None:
    """Lin (1989): the correlation times a factor for the shift and the ratio of the scales."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    y = x + rng.normal(size=200)
    r, v, u = pearson(x, y), x.std() / y.std(), (x.mean() - y.mean()) / np.sqrt(x.std() * y.std())
    assert concordance(x, y) == pytest.approx(r * 2 / (v + 1 / v + u**2))
    assert concordance(x, x) == pytest.approx(1)
    shifted, stretched = concordance(x, x + 1), concordance(x, 2 * x)
    assert shifted is not None
    assert stretched is not None
    assert shifted < 0.9
    assert stretched < 0.9


def test_a_run_logs_what_its_report_computes() -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "language": np.repeat(["en", "fr", "ko"], 20),
            "label": rng.uniform(1, 5, 60),
            "prediction": rng.uniform(1, 5, 60),
        }
    )
    logged = agreement(frame, ["en", "fr"])
    masks = {
        "": np.full(60, True),
        "_seen": np.arange(60) < 40,
        "_unseen": np.arange(60) >= 40,
        "_fr": (frame["language"] == "fr").to_numpy(),
    }
    for suffix, mask in masks.items():
        predictions, label = frame["prediction"].to_numpy()[mask, None], frame["label"][mask]
        for name in ("spearman", "concordance", "rmse", "mae"):
            (value,) = getattr(reported, name)(predictions, label.to_numpy())
            assert logged[f"{name}{suffix}"] == pytest.approx(value)


def test_a_weight_is_a_row_that_occurs_so_often() -> None:
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(
        {
            "language": np.repeat(["en", "fr"], 10),
            "label": rng.uniform(1, 5, 20),
            "prediction": rng.uniform(1, 5, 20),
            "weight": rng.integers(1, 4, 20).astype(np.float64),
        }
    )
    often = frame.loc[frame.index.repeat(frame["weight"].astype(int))].drop(columns="weight")
    weighted, repeated = agreement(frame, ["en"]), agreement(often, ["en"])
    plain = agreement(frame.drop(columns="weight"), ["en"])
    for name in ("concordance", "rmse", "mae", "rmse_seen", "mae_unseen"):
        assert weighted[name] == pytest.approx(repeated[name])
        assert weighted[name] != pytest.approx(plain[name])
    columns = frame["prediction"].to_numpy()[:, None], frame["label"].to_numpy()
    for name in ("spearman", "concordance", "rmse", "mae"):
        (value,) = getattr(reported, name)(*columns, frame["weight"].to_numpy())
        assert weighted[name] == pytest.approx(value)


def test_measures_that_do_not_exist_are_missing() -> None:
    constant = table([("en", 1.0, 2.0), ("en", 3.0, 2.0)])
    found = agreement(constant, ["en"])
    assert {name for name in found if name.endswith("_en")} == {"rmse_en", "mae_en"}
    assert not [name for name in found if name.endswith("_unseen")]
    unlabelled = table([("en", np.nan, 2.0), ("en", 3.0, 2.5)])
    assert agreement(unlabelled, ["en"]) == {}
