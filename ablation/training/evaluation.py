"""Predictions, and Pearson's r pooled over rows, per language, and averaged over languages.

The task's official score pools the rows of several languages. It differs from the mean over the
languages where these have different score levels, so both are computed. A correlation that does not
exist (constant predictions, fewer than two rows) is missing, never replaced by a number. Rank
correlation, concordance and errors stand beside Pearson's r in a run's record.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Final

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float32, Real

from ablation.config.schema import Precision
from ablation.data.rows import UNGROUPED
from ablation.training.batching import Texts, collate, prediction_batches
from ablation.training.model import IntimacyRegressor
from ablation.training.parallel import count_pieces, run_in_pieces
from ablation.training.precision import autocast

#: Rows predicted at a time: many, since no gradients are kept.
EVALUATION_BATCH: Final = 128


def pearson(
    prediction: Real[np.ndarray, " rows"],
    label: Real[np.ndarray, " rows"],
    weight: Real[np.ndarray, " rows"] | None = None,
) -> float | None:
    """Return Pearson's r in [-1, 1], or None if it does not exist.

    Predictions or labels that differ by less than 1e-9 of their size (1e-9 below a size of 1) count
    as constant. With weights (above 0), means and covariances are weighted.
    """
    if len(prediction) < 2 or not (np.isfinite(prediction).all() and np.isfinite(label).all()):
        return None
    if _is_constant(prediction) or _is_constant(label):
        return None
    if weight is None:
        return float(np.corrcoef(prediction.astype(np.float64), label.astype(np.float64))[0, 1])
    covariance = np.cov(prediction.astype(np.float64), label.astype(np.float64), aweights=weight)
    return float(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))


def _is_constant(values: Real[np.ndarray, " rows"]) -> bool:
    """Say whether values differ by rounding alone; squares of such differences may be 0."""
    return bool(np.ptp(values) <= 1e-9 * max(1.0, float(np.abs(values).max())))


def scores(predictions: pd.DataFrame, seen: Collection[str]) -> dict[str, float]:
    """Compute every correlation of a table of predictions.

    Args:
        predictions: A table with the columns `language`, `label` and `prediction`, and `weight` if
            rows are weighted.
        seen: The training languages.

    Returns:
        `pearson`, `pearson_seen` and `pearson_unseen` over pooled rows, `mean_pearson` and so on as
        means over the languages, and `pearson_en` and so on for single languages. Correlations that
        do not exist are missing, and so are means over languages of which one has none.
    """
    by_language = {
        str(language): _pearson_of(rows)
        for language, rows in predictions.groupby("language")
        if language != UNGROUPED
    }
    is_seen = predictions["language"].isin(list(seen)).to_numpy()
    subsets = {"": np.ones(len(predictions), dtype=bool), "_seen": is_seen, "_unseen": ~is_seen}
    metrics: dict[str, float | None] = {}
    for suffix, mask in subsets.items():
        rows = predictions[mask]
        metrics[f"pearson{suffix}"] = _pearson_of(rows)
        correlations = [by_language.get(language) for language in sorted(set(rows["language"]))]
        known = [r for r in correlations if r is not None]
        is_complete = bool(known) and len(known) == len(correlations)
        metrics[f"mean_pearson{suffix}"] = float(np.mean(known)) if is_complete else None
    metrics |= {f"pearson_{language}": r for language, r in by_language.items()}
    return {name: value for name, value in metrics.items() if value is not None}


def spearman(
    prediction: Real[np.ndarray, " rows"],
    label: Real[np.ndarray, " rows"],
    weight: Real[np.ndarray, " rows"] | None = None,
) -> float | None:
    """Return Spearman's rank correlation in [-1, 1], ties at their mean rank; None as `pearson`.

    Ranks are those among the rows; weights enter the correlation of the ranks.
    """
    if pearson(prediction, label) is None:
        return None
    # Imported here: it takes as long as a tenth of a plan, which needs no ranks.
    from scipy.stats import rankdata

    return pearson(rankdata(prediction), rankdata(label), weight)


def concordance(
    prediction: Real[np.ndarray, " rows"],
    label: Real[np.ndarray, " rows"],
    weight: Real[np.ndarray, " rows"] | None = None,
) -> float | None:
    """Return Lin's concordance correlation coefficient in [-1, 1]; None as `pearson`.

    Lin (1989), "A concordance correlation coefficient to evaluate reproducibility", Biometrics 45,
    equation 3, with moments over n.
    """
    if pearson(prediction, label) is None:
        return None
    x, y = prediction.astype(np.float64), label.astype(np.float64)
    shift = _mean(x, weight) - _mean(y, weight)
    x, y = x - _mean(x, weight), y - _mean(y, weight)
    return 2 * _mean(x * y, weight) / (_mean(x**2, weight) + _mean(y**2, weight) + shift**2)


def rmse(
    prediction: Real[np.ndarray, " rows"],
    label: Real[np.ndarray, " rows"],
    weight: Real[np.ndarray, " rows"] | None = None,
) -> float | None:
    """Return the root mean squared error on the labels' scale; None without rows or labels."""
    errors = prediction.astype(np.float64) - label
    known = len(errors) and np.isfinite(errors).all()
    return float(np.sqrt(_mean(errors**2, weight))) if known else None


def mae(
    prediction: Real[np.ndarray, " rows"],
    label: Real[np.ndarray, " rows"],
    weight: Real[np.ndarray, " rows"] | None = None,
) -> float | None:
    """Return the mean absolute error on the labels' scale; None without rows or labels."""
    errors = prediction.astype(np.float64) - label
    known = len(errors) and np.isfinite(errors).all()
    return _mean(np.abs(errors), weight) if known else None


def _mean(values: np.ndarray, weight: np.ndarray | None) -> float:
    return float(np.average(values, weights=weight))


#: Measures of agreement beside Pearson's r by name.
AGREEMENT: Final[Mapping[str, Callable[..., float | None]]] = {
    "spearman": spearman,
    "concordance": concordance,
    "rmse": rmse,
    "mae": mae,
}
#: Those of which less is better.
ERRORS: Final = frozenset({"rmse", "mae"})


def agreement(predictions: pd.DataFrame, seen: Collection[str]) -> dict[str, float]:
    """Compute every measure of `AGREEMENT` of a table of predictions.

    Args:
        predictions: A table with the columns `language`, `label` and `prediction`, and `weight` if
            rows are weighted.
        seen: The training languages.

    Returns:
        For example `rmse`, `rmse_seen` and `rmse_unseen` over pooled rows, and `rmse_en` and so on
        for single languages; those that do not exist are missing.
    """
    is_seen = predictions["language"].isin(list(seen)).to_numpy()
    subsets = {"": predictions, "_seen": predictions[is_seen], "_unseen": predictions[~is_seen]}
    subsets |= {f"_{language}": rows for language, rows in predictions.groupby("language")}
    metrics = {
        f"{name}{suffix}": measure(
            rows["prediction"].to_numpy(), rows["label"].to_numpy(), _weight_of(rows)
        )
        for suffix, rows in subsets.items()
        for name, measure in AGREEMENT.items()
    }
    return {name: value for name, value in metrics.items() if value is not None}


def _pearson_of(rows: pd.DataFrame) -> float | None:
    return pearson(rows["prediction"].to_numpy(), rows["label"].to_numpy(), _weight_of(rows))


def _weight_of(rows: pd.DataFrame) -> np.ndarray | None:
    return rows["weight"].to_numpy(np.float64) if "weight" in rows else None


def predict(
    model: IntimacyRegressor, texts: Texts, precision: Precision = "float32"
) -> Float32[np.ndarray, " rows"]:
    """Predict every row of `texts`, in their order, without dropout.

    Leaves the model in evaluation mode.
    """
    device = next(model.parameters()).device
    model.eval()
    result = np.empty(len(texts), dtype=np.float32)

    def predict_rows(indices: np.ndarray) -> None:
        batch = collate(texts, indices, device)
        with torch.inference_mode(), autocast(device, precision):
            output = model(batch.ids, batch.lengths, batch.hidden)
        result[indices] = output.prediction.cpu().numpy()

    for indices in prediction_batches(texts, EVALUATION_BATCH):
        run_in_pieces(predict_rows, indices, count_pieces(model))
    return result


def prediction_table(
    texts: Texts, languages: list[str], prediction: Float[np.ndarray, " rows"]
) -> pd.DataFrame:
    """Return the columns `row`, `language`, `label` (NaN without one) and `prediction`.

    Weighted rows have a column `weight` as well.
    """
    table = pd.DataFrame(
        {
            "row": texts.row,
            "language": [languages[i] for i in texts.language],
            "label": texts.label,
            "prediction": prediction.astype(np.float64),
        }
    )
    return table if texts.weight is None else table.assign(weight=texts.weight)
