"""The language distances that Eq. 9 is computed from, for one real batch: Figure 2's matrix."""

import numpy as np
import pandas as pd
import torch

from ablation.data.seeding import seed_for
from ablation.training.batching import Texts, collate, epoch_batches
from ablation.training.losses.contrastive import kl_matrix
from ablation.training.model import IntimacyRegressor


@torch.inference_mode()
def language_distances(
    model: IntimacyRegressor, train: Texts, languages: list[str], batch_size: int, seed: int
) -> pd.DataFrame:
    """Compute `KL[i][j]` between the sentence vectors of one training batch, without dropout.

    Leaves the model in evaluation mode.

    Args:
        model: The trained model.
        train: The training rows.
        languages: The code of each language number.
        batch_size: The number of texts M.
        seed: The run's seed; the batch is its first one.

    Returns:
        The columns `row` (in the training file), `language`, and `kl_0` to `kl_{M-1}`, the
        divergence of this row's vector from that of the batch's j-th row. Sorted by language.
    """
    first = epoch_batches(train, batch_size, seed_for("order", seed, 0))[0]
    indices = first[np.lexsort((train.row[first], train.language[first]))]
    batch = collate(train, indices, next(model.parameters()).device)
    model.eval()
    kl = kl_matrix(model(batch.ids, batch.lengths).sentence).cpu().numpy().astype(np.float64)
    table = pd.DataFrame(kl, columns=[f"kl_{j}" for j in range(len(indices))])
    table.insert(0, "row", batch.row)
    table.insert(1, "language", [languages[i] for i in train.language[indices]])
    return table
