"""Their sum, Eq. 10, with each term kept by name."""

from typing import NamedTuple

import torch

from ablation.config.schema import LossConfig
from ablation.training.losses.contrastive import language_contrastive
from ablation.training.losses.epm import epm, mse
from ablation.training.model import Output


class Terms(NamedTuple):
    """Float32 scalars. `contrastive` is None where the variant has no such term, or this batch none."""

    total: torch.Tensor
    regression: torch.Tensor
    contrastive: torch.Tensor | None


def total_loss(
    output: Output, label: torch.Tensor, language: torch.Tensor, config: LossConfig
) -> Terms:
    """Eq. 10 for one batch: L = L_regression + weight * L_CL; `label` and `language` (batch,)."""
    regression = (epm if config.regression == "epm" else mse)(output.prediction, label)
    if config.contrastive == "none":
        return Terms(regression, regression, None)
    contrastive = language_contrastive(
        output.sentence,
        language,
        tau=config.tau,
        sign=config.contrastive,
        self_pairs=config.self_pairs,
    )
    if contrastive is None:
        return Terms(regression, regression, None)
    return Terms(regression + config.contrastive_weight * contrastive, regression, contrastive)
