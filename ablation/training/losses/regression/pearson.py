"""One minus Pearson's correlation, the score that the task is judged by."""

from jaxtyping import Float, Float32
from torch import Tensor

from ablation.training.losses.regression.ccc import TINY, batch_moments


def pearson(
    prediction: Float[Tensor, " batch"],
    label: Float[Tensor, " batch"],
    *,
    weight: Float32[Tensor, " batch"] | None = None,
) -> Float32[Tensor, ""]:
    """Return 1 - cov(y, ŷ) / (sd y sd ŷ), in [0, 2].

    A property of the whole batch, not a mean over its texts. It does not see scale and mean of the
    predictions, which therefore need not be on the scale of the labels.
    """
    m = batch_moments(prediction, label, weight)
    return 1 - m.covariance / (m.prediction_variance * m.label_variance + TINY).sqrt()
