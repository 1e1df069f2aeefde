"""The Huber loss (Huber, 1964, "Robust estimation of a location parameter")."""

from jaxtyping import Float, Float32
from torch import Tensor

from ablation.training.losses.weighting import weighted_mean


def huber(
    prediction: Float[Tensor, " batch"],
    label: Float[Tensor, " batch"],
    *,
    delta: float = 1.0,
    weight: Float32[Tensor, " batch"] | None = None,
) -> Float32[Tensor, ""]:
    """Return the mean of r²/2 for |r| <= delta, else of delta (|r| - delta/2), with r = y - ŷ.

    Args:
        prediction: ŷ.
        label: y.
        delta: The residual at which the square becomes a line, in units of the label.
        weight: Weights of the texts.
    """
    residual = (label.float() - prediction.float()).abs()
    near = residual.clamp(max=delta)
    return weighted_mean(near * (residual - near / 2), weight)
