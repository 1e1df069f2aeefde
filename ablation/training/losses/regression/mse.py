"""The mean squared error, Eq. 2."""

from jaxtyping import Float, Float32
from torch import Tensor

from ablation.training.losses.weighting import weighted_mean


def mse(
    prediction: Float[Tensor, " batch"],
    label: Float[Tensor, " batch"],
    *,
    weight: Float32[Tensor, " batch"] | None = None,
) -> Float32[Tensor, ""]:
    """Return the mean of (y - ŷ)², Eq. 2."""
    return weighted_mean((label.float() - prediction.float()).square(), weight)
