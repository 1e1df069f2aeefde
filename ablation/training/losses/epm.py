"""The regression losses: MSE (Eq. 2) and EPM, the exponential penalty mean squared loss (Eq. 3)."""

import math
from typing import Final

import torch

#: Residuals up to here follow Eq. 3 to the letter. Labels lie in [1, 5]: a prediction 20 away from
#: its label belongs to a model that has diverged, and beyond it Eq. 3 goes on along its tangent,
#: because exp overflows float32 at 89.
EXACT_UP_TO: Final = 20.0


def mse(prediction: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Eq. 2: the mean of (y - ŷ)². Both arguments (batch,); returns a float32 scalar."""
    return (label.float() - prediction.float()).square().mean()


def epm(prediction: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Eq. 3: the mean of (y - ŷ)² exp|y - ŷ|. Both arguments (batch,); returns a float32 scalar.

    The derivative by ŷ is exp|r| (2 r + r|r|) / N with r = ŷ - y, the paper's Eqs. 5 and 7; it is
    continuous at r = 0, where it vanishes (the paper's appendix).
    """
    residual = (label.float() - prediction.float()).abs()
    near = residual.clamp(max=EXACT_UP_TO)
    value = near.square() * near.exp()
    slope = math.exp(EXACT_UP_TO) * (2 * EXACT_UP_TO + EXACT_UP_TO**2)
    # Not `residual - near`: its two huge, cancelling gradients would swallow the value's own.
    # relu, whose derivative at 0 is 0: clamp's is 1 there, and a residual of exactly 20 would count twice.
    beyond = torch.relu(residual - EXACT_UP_TO)
    return (value + slope * beyond).mean()
