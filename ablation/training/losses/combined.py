"""The weighted sum of the regression and the contrastive loss, Eq. 10."""

from typing import NamedTuple

from jaxtyping import Float, Float32, Int64
from torch import Tensor

from ablation.config.schema import LossConfig
from ablation.core.errors import UsageError
from ablation.training.losses.contrastive import language_contrastive
from ablation.training.losses.regression import regression_loss
from ablation.training.model import Output


class LossTerms(NamedTuple):
    """Eq. 10 and its terms.

    `contrastive` is None if the variant has no such term or Eq. 9 has no value for the batch.
    """

    total: Float32[Tensor, ""]
    regression: Float32[Tensor, ""]
    contrastive: Float32[Tensor, ""] | None


def total_loss(
    output: Output,
    label: Float[Tensor, " batch"],
    language: Int64[Tensor, " batch"],
    config: LossConfig,
) -> LossTerms:
    """Return L = L_regression + weight * L_CL (Eq. 10) for one batch.

    Args:
        output: The model's predictions and sentence vectors.
        label: The labels, on the scale of the predictions.
        language: The number of each text's language.
        config: The names of the losses, and the weight and settings of Eq. 9.

    Raises:
        UsageError: A loss has an unknown name, can't be loaded, or does not return a scalar.
    """
    regression = regression_loss(config.regression)(output.prediction, label)
    if regression.ndim != 0:
        shape = tuple(regression.shape)
        raise UsageError(
            f"loss.regression = {config.regression!r}: returned shape {shape}, not a scalar"
        )
    if config.contrastive == "none":
        return LossTerms(regression, regression, None)
    contrastive = language_contrastive(
        output.sentence,
        language,
        tau=config.tau,
        sign=config.contrastive,
        self_pairs=config.self_pairs,
    )
    if contrastive is None:
        return LossTerms(regression, regression, None)
    return LossTerms(regression + config.contrastive_weight * contrastive, regression, contrastive)
