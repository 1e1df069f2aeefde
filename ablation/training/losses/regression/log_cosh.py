"""The log-cosh loss (Saleh and Saleh, 2022, "Statistical properties of the log-cosh loss")."""

import math

from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn.functional import softplus

from ablation.training.losses.weighting import weighted_mean


def log_cosh(
    prediction: Float[Tensor, " batch"],
    label: Float[Tensor, " batch"],
    *,
    weight: Float32[Tensor, " batch"] | None = None,
) -> Float32[Tensor, ""]:
    """Return the mean of ln cosh(y - ŷ), written so that a large residual does not overflow."""
    residual = (label.float() - prediction.float()).abs()
    return weighted_mean(residual + softplus(-2 * residual) - math.log(2), weight)
