"""The mean absolute error."""

from jaxtyping import Float, Float32
from torch import Tensor

from ablation.training.losses.weighting import weighted_mean


def mae(
    prediction: Float[Tensor, " batch"],
    label: Float[Tensor, " batch"],
    *,
    weight: Float32[Tensor, " batch"] | None = None,
) -> Float32[Tensor, ""]:
    """Return the mean of |y - ŷ|, whose derivative at 0 is taken as 0."""
    return weighted_mean((label.float() - prediction.float()).abs(), weight)
