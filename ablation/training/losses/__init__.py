"""The loss of a batch: regression losses by name, the contrastive loss, and their sum (Eq. 10)."""

from ablation.training.losses.combined import LossTerms, total_loss
from ablation.training.losses.contrastive import language_contrastive
from ablation.training.losses.regression import regression_loss

__all__ = ["LossTerms", "language_contrastive", "regression_loss", "total_loss"]
