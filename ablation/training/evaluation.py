"""From predictions to figures: Pearson's r pooled over rows, per language, and averaged over languages.

The task's official figure pools rows of several languages; it differs from the mean over the
languages where their score levels differ. Both are given. A correlation that does not exist
(constant predictions, fewer than two rows) is left out, never replaced by a number.
"""

from collections.abc import Collection

import numpy as np
import pandas as pd
import torch

from ablation.config.schema import Precision
from ablation.training.batching import Texts, by_length, collate
from ablation.training.model import IntimacyRegressor
from ablation.training.parallel import on_each_piece, pieces_for
from ablation.training.precision import autocast

#: Rows predicted at a time; large, since no gradients are kept.
EVALUATION_BATCH = 128


def pearson(prediction: np.ndarray, label: np.ndarray) -> float | None:
    """Pearson's r of two arrays (rows,), in [-1, 1]; None where it does not exist."""
    if len(prediction) < 2 or not (np.isfinite(prediction).all() and np.isfinite(label).all()):
        return None
    if np.ptp(prediction) <= 1e-9 * max(1.0, float(np.abs(prediction).max())) or np.ptp(label) == 0:
        return None
    return float(np.corrcoef(prediction.astype(np.float64), label.astype(np.float64))[0, 1])


def scores(predictions: pd.DataFrame, seen: Collection[str]) -> dict[str, float]:
    """The figures of one table of predictions (columns `language`, `label`, `prediction`).

    `pearson`, `pearson_seen` and `pearson_unseen` pool rows; `mean_pearson...` average over the
    languages; `pearson_en` and so on are single languages. `seen` are the training languages.
    Figures that do not exist are missing.
    """
    by_language = {
        str(language): pearson(rows["prediction"].to_numpy(), rows["label"].to_numpy())
        for language, rows in predictions.groupby("language")
    }
    is_seen = predictions["language"].isin(list(seen)).to_numpy()
    groups = {"": np.ones(len(predictions), dtype=bool), "_seen": is_seen, "_unseen": ~is_seen}
    figures: dict[str, float | None] = {}
    for suffix, mask in groups.items():
        rows = predictions[mask]
        figures[f"pearson{suffix}"] = pearson(
            rows["prediction"].to_numpy(), rows["label"].to_numpy()
        )
        each = [by_language[language] for language in sorted(set(rows["language"]))]
        known = [r for r in each if r is not None]
        figures[f"mean_pearson{suffix}"] = (
            float(np.mean(known)) if known and len(known) == len(each) else None
        )
    figures |= {f"pearson_{language}": r for language, r in by_language.items()}
    return {name: value for name, value in figures.items() if value is not None}


def predict(model: IntimacyRegressor, texts: Texts, precision: Precision = "float32") -> np.ndarray:
    """Scores for every row of `texts`, in their order: (rows,) float32. Dropout is off."""
    device = next(model.parameters()).device
    model.eval()
    result = np.empty(len(texts), dtype=np.float32)

    def predict_rows(indices: np.ndarray) -> None:
        batch = collate(texts, indices, device)
        with torch.inference_mode(), autocast(device, precision):
            output = model(batch.ids, batch.lengths, batch.hidden)
        result[indices] = output.prediction.cpu().numpy()

    for indices in by_length(texts, EVALUATION_BATCH):
        on_each_piece(predict_rows, indices, pieces_for(model))
    return result
