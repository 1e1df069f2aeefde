"""The mean squared error, Eq. 2."""

from jaxtyping import Float, Float32
from torch import Tensor


def mse(prediction: Float[Tensor, " batch"], label: Float[Tensor, " batch"]) -> Float32[Tensor, ""]:
    """Return the mean of (y - ŷ)², Eq. 2."""
    return (label.float() - prediction.float()).square().mean()
