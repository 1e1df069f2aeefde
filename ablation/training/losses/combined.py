"""The weighted sum of the regression and the contrastive loss, Eq. 10."""

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from ablation.config.schema import LossConfig
from ablation.encoders.packing import to_device
from ablation.training.losses.contrastive import language_contrastive
from ablation.training.losses.label_contrastive import rank_n_contrast, supervised_contrastive
from ablation.training.losses.regression import regression_terms
from ablation.training.model import Output


class LossTerms(NamedTuple):
    """Eq. 10 and its terms.

    `contrastive` is None if the variant has no such term or the term has no value for the batch.
    `named` are the parts of a regression loss that consists of several.
    """

    total: Float32[Tensor, ""]
    regression: Float32[Tensor, ""]
    contrastive: Float32[Tensor, ""] | None
    named: Mapping[str, Float32[Tensor, ""]] = MappingProxyType({})


def total_loss(
    output: Output,
    label: Float[Tensor, " batch"],
    language: Int64[Tensor, " batch"],
    config: LossConfig,
    weight: Float32[Tensor, " batch"] | None = None,
) -> LossTerms:
    """Return L = L_regression + weight * L_CL (Eq. 10) for one batch.

    Args:
        output: The model's predictions and sentence vectors, on any device.
        label: The labels, on the scale of the predictions and on the CPU.
        language: The number of each text's language, on the CPU.
        config: The names of the losses, and the weight and settings of Eq. 9.
        weight: The weight of each text in the regression loss, on the CPU; all weigh the same if
            None.

    Raises:
        UsageError: A loss has an unknown name, can't be loaded, or does not return a scalar, or
            takes no weights.
    """
    device = output.prediction.device
    on_device = None if weight is None else to_device(weight, device)
    terms = regression_terms(output.prediction, to_device(label, device), config, on_device)
    regression = functools.reduce(torch.add, terms.values())
    named = terms if len(terms) > 1 else {}
    if config.contrastive == "none":
        return LossTerms(regression, regression, None, named)
    contrastive = _contrastive(output.sentence, label, language, config)
    if contrastive is None:
        return LossTerms(regression, regression, None, named)
    total = regression + config.contrastive_weight * contrastive
    return LossTerms(total, regression, contrastive, named)


def _contrastive(
    sentence: Float32[Tensor, "batch hidden"],
    label: Float[Tensor, " batch"],
    language: Int64[Tensor, " batch"],
    config: LossConfig,
) -> Float32[Tensor, ""] | None:
    if config.contrastive == "supcon":
        return supervised_contrastive(sentence, label, tau=config.tau, bin_width=config.label_bin)
    if config.contrastive == "rank_n_contrast":
        return rank_n_contrast(sentence, label, tau=config.tau)
    return language_contrastive(
        sentence,
        language,
        tau=config.tau,
        sign=config.contrastive,
        self_pairs=config.self_pairs,
    )
