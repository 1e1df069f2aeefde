"""The paper's losses as functions of tensors: Eqs. 2, 3, 9 and 10."""

from ablation.training.losses.combined import Terms, total_loss
from ablation.training.losses.contrastive import language_contrastive
from ablation.training.losses.epm import epm, mse

__all__ = ["Terms", "epm", "language_contrastive", "mse", "total_loss"]
