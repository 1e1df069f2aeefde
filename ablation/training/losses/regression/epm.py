"""The exponential penalty mean squared loss (EPM), Eq. 3."""

import math
from typing import Final

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from ablation.training.losses.weighting import weighted_mean

#: The largest exponent for which Eq. 3 is computed exactly; beyond it the loss continues along its
#: tangent, because exp overflows float32 at 89. Labels lie in [1, 5], so only the predictions of a
#: model that has diverged are that far off.
EXACT_UP_TO: Final = 20.0


def epm(
    prediction: Float[Tensor, " batch"],
    label: Float[Tensor, " batch"],
    *,
    scale: float = 1.0,
    weight: Float32[Tensor, " batch"] | None = None,
) -> Float32[Tensor, ""]:
    """Return the mean of (y - ŷ)² exp(s |y - ŷ|) with s = `scale`; s = 1 is Eq. 3.

    The scale is that of labels in another unit: with s = 2, EPM is a quarter of what Eq. 3 is of
    twice the residuals. Towards s = 0 it becomes MSE.

    For s = 1, the derivative with respect to ŷ is exp|r| (2 r + r|r|) / N with r = ŷ - y (Eqs. 5
    and 7). It is continuous and 0 at r = 0, as the paper's appendix shows.
    """
    residual = (label.float() - prediction.float()).abs()
    largest = EXACT_UP_TO / scale
    near = residual.clamp(max=largest)
    value = near.square() * (scale * near).exp()
    slope = math.exp(EXACT_UP_TO) * (2 * largest + scale * largest**2)
    # Not `residual - near`: its two huge gradients, which cancel, would swallow the value's own.
    # Not clamp: its derivative at 0 is 1, which would count a residual of exactly 20 twice.
    beyond = torch.relu(residual - largest)
    return weighted_mean(value + slope * beyond, weight)
