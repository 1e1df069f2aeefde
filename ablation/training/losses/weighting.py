"""Weights of training texts, and means that use them.

Label-distribution smoothing (LDS; Yang et al., 2021, "Delving into deep imbalanced regression",
ICML) gives rare labels more weight. The number of texts in each bin of labels is smoothed by a
Gaussian kernel, since a label's neighbours help to learn it too, and a text's weight is the inverse
of its bin's smoothed number.
"""

from typing import Final

import numpy as np
from jaxtyping import Float, Float32
from torch import Tensor

from ablation.config.schema import LossConfig

#: Bins on each side that the kernel reaches, as in the paper's code.
_REACH: Final = 2


def weighted_mean(
    values: Float32[Tensor, " batch"], weight: Float32[Tensor, " batch"] | None
) -> Float32[Tensor, ""]:
    """Return the mean of `weight * values`, or of `values` if there are no weights.

    Weights have mean one over the training texts, not over a batch: dividing by the batch's own
    sum would give a text another weight in each batch.
    """
    return values.mean() if weight is None else (weight * values).mean()


def text_weights(
    label: Float[np.ndarray, " rows"], config: LossConfig
) -> Float32[np.ndarray, " rows"] | None:
    """Return the weight of each training text with mean one, or None if all weigh the same.

    Args:
        label: The labels of all training texts of a run.
        config: The kind of weights and their settings.
    """
    if config.weighting == "none":
        return None
    weight = 1 / smoothed_counts(label, config.lds_bins, config.lds_sigma, config.lds_power)
    relative: np.ndarray = (weight / weight.mean()).astype(np.float32)
    return relative


def smoothed_counts(
    label: Float[np.ndarray, " rows"], bins: int, sigma: float, power: float
) -> Float[np.ndarray, " rows"]:
    """Return the smoothed number of texts in each text's bin.

    Args:
        label: The labels.
        bins: The number of bins of equal width between the lowest and the highest label.
        sigma: The kernel's standard deviation, in bins.
        power: The exponent of the numbers before they are smoothed: 1 for inverse weights, 1/2 for
            the square root that the paper prefers.
    """
    counts, edges = np.histogram(label, bins)
    kernel = np.exp(-0.5 * (np.arange(-_REACH, _REACH + 1) / sigma) ** 2)
    padded = np.pad(counts.astype(np.float64) ** power, _REACH)
    smoothed = np.convolve(padded, kernel, mode="valid")
    bin_of_text = np.clip(np.searchsorted(edges, label, side="right") - 1, 0, bins - 1)
    values: np.ndarray = smoothed[bin_of_text]
    return values
