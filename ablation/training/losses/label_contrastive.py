"""Contrastive losses on labels, to compare Eq. 9 with, which contrasts languages.

Both work on one view of each text, with dropout as the only augmentation.
"""

import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn.functional import normalize

from ablation.encoders.packing import to_device
from ablation.training.losses.contrastive import select


def supervised_contrastive(
    sentence: Float[Tensor, "batch hidden"],
    label: Float[Tensor, " batch"],
    *,
    tau: float,
    bin_width: float,
) -> Float32[Tensor, ""] | None:
    """Draw texts together whose labels fall into one bin, and all others apart.

    Eq. 2 of Khosla et al. (2020, "Supervised contrastive learning", NeurIPS), averaged over the
    texts that share their bin with another one; classes are bins of labels here.

    Args:
        sentence: The sentence vectors, on any device; only their directions count.
        label: The labels, on the CPU.
        tau: The temperature, above 0.
        bin_width: The width of a bin, in units of the label; a label lies in the nearest multiple.

    Returns:
        The loss, or None if no two texts share a bin.
    """
    z = normalize(sentence.float(), dim=-1)
    bins = torch.round(label.double() / bin_width)
    itself = torch.eye(len(label), dtype=torch.bool)
    positive = (bins[:, None] == bins[None, :]) & ~itself
    has_positive = positive.any(-1)
    if not bool(has_positive.any()):
        return None
    device = z.device
    similarity = (z @ z.T / tau).masked_fill(to_device(itself, device), -torch.inf)
    log_p = similarity - similarity.logsumexp(-1, keepdim=True)
    log_p = log_p.masked_fill(to_device(~positive, device), 0.0)
    count = to_device(positive.sum(-1).clamp(min=1), device)
    return -select(log_p.sum(-1) / count, has_positive).mean()


def rank_n_contrast(
    sentence: Float[Tensor, "batch hidden"], label: Float[Tensor, " batch"], *, tau: float
) -> Float32[Tensor, ""] | None:
    """Order the distances of vectors as those of labels: Rank-N-Contrast.

    Zha et al. (2023, "Rank-N-Contrast: learning continuous representations for regression",
    NeurIPS), Eq. 2: for each pair (i, j), text j is to be nearer to i than all texts k whose label
    is at least as far from i's. Similarity is the negative Euclidean distance.

    Args:
        sentence: The sentence vectors, on any device.
        label: The labels, on the CPU.
        tau: The temperature, above 0.

    Returns:
        The loss, or None for a single text.
    """
    count = len(label)
    if count < 2:
        return None
    # Not by a matrix product, which rounds the distances of near vectors to nothing.
    distance = torch.cdist(
        sentence.float(), sentence.float(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    others = ~torch.eye(count, dtype=torch.bool)
    similarity = select(-distance / tau, others).view(count, count - 1)
    apart = (label[:, None] - label[None, :]).abs()[others].view(count, count - 1)
    # The texts k of a pair are a prefix of i's others, sorted from the most distant label on.
    order = apart.argsort(dim=-1, descending=True)
    last = torch.searchsorted(-apart.gather(-1, order), -apart, right=True) - 1
    of_prefix = similarity.gather(-1, to_device(order, similarity.device)).logcumsumexp(-1)
    return (of_prefix.gather(-1, to_device(last, similarity.device)) - similarity).mean()
