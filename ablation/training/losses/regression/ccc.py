"""The concordance loss (Lin, 1989, "A concordance correlation coefficient ...", Biometrics 45)."""

from typing import Final, NamedTuple

import torch
from jaxtyping import Float, Float32
from torch import Tensor

#: Keeps quotients finite for a batch of equal predictions or labels.
TINY: Final = 1e-8


class Moments(NamedTuple):
    """Means, variances and covariance of predictions and labels over a batch, divided by N."""

    prediction_mean: Float32[Tensor, ""]
    label_mean: Float32[Tensor, ""]
    prediction_variance: Float32[Tensor, ""]
    label_variance: Float32[Tensor, ""]
    covariance: Float32[Tensor, ""]


def batch_moments(
    prediction: Float[Tensor, " batch"],
    label: Float[Tensor, " batch"],
    weight: Float32[Tensor, " batch"] | None,
) -> Moments:
    """Return the moments over the whole batch, each text counted by its weight."""
    p, y = prediction.float(), label.float()
    share = torch.ones_like(p) if weight is None else weight
    share = share / share.sum()
    p_mean, y_mean = (share * p).sum(), (share * y).sum()
    p_off, y_off = p - p_mean, y - y_mean
    return Moments(
        p_mean,
        y_mean,
        (share * p_off.square()).sum(),
        (share * y_off.square()).sum(),
        (share * p_off * y_off).sum(),
    )


def ccc(
    prediction: Float[Tensor, " batch"],
    label: Float[Tensor, " batch"],
    *,
    weight: Float32[Tensor, " batch"] | None = None,
) -> Float32[Tensor, ""]:
    """Return 1 - 2 cov(y, ŷ) / (var y + var ŷ + (mean y - mean ŷ)²), in [0, 2].

    A property of the whole batch, not a mean over its texts: it falls with the correlation and
    with agreement in mean and spread.
    """
    m = batch_moments(prediction, label, weight)
    apart = (m.prediction_mean - m.label_mean).square()
    return 1 - 2 * m.covariance / (m.prediction_variance + m.label_variance + apart + TINY)
