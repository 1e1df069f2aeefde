"""Focal-R (Yang et al., 2021, "Delving into deep imbalanced regression", ICML)."""

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from ablation.training.losses.weighting import weighted_mean


def focal(
    prediction: Float[Tensor, " batch"],
    label: Float[Tensor, " batch"],
    *,
    beta: float = 0.2,
    gamma: float = 1.0,
    weight: Float32[Tensor, " batch"] | None = None,
) -> Float32[Tensor, ""]:
    """Return the mean of |r| (2 σ(β |r|) - 1)^γ, which lets large residuals count for more.

    The paper calls for a factor in [0, 1] and prints σ(β |r|), which is at least one half. Like
    the paper's code, this stretches it to [0, 1): 2 σ(x) - 1 = tanh(x / 2).

    Args:
        prediction: ŷ.
        label: y; r = y - ŷ.
        beta: The slope of the factor, per unit of the label.
        gamma: The exponent of the factor; 0 makes the loss the mean absolute error.
        weight: Weights of the texts.
    """
    residual = (label.float() - prediction.float()).abs()
    if gamma == 0:
        return weighted_mean(residual, weight)
    # A power below 1 has an infinite derivative at 0, where the loss itself has the derivative 0.
    at_zero = residual == 0
    factor = torch.tanh(beta * residual.masked_fill(at_zero, 1.0) / 2) ** gamma
    return weighted_mean(residual * factor.masked_fill(at_zero, 0.0), weight)
