"""Make one sentence vector of the hidden states of a text's tokens."""

from collections.abc import Callable, Mapping
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from ablation.encoders.packing import Packing

Hidden = Float[Tensor, "tokens hidden"]
Sentence = Float[Tensor, "batch hidden"]


def pool_cls(hidden: Hidden, packing: Packing) -> Sentence:
    """Return each text's first vector."""
    return hidden.index_select(0, packing.offsets[:-1])


def pool_mean(hidden: Hidden, packing: Packing) -> Sentence:
    """Return the mean over each text's tokens."""
    return _sum(hidden, packing) / packing.lengths.unsqueeze(-1)


def pool_max(hidden: Hidden, packing: Packing) -> Sentence:
    """Return the largest value of each feature over each text's tokens."""
    lowest = hidden.new_full((len(packing.lengths), hidden.shape[-1]), -torch.inf)
    return lowest.scatter_reduce(0, packing.text.unsqueeze(-1).expand_as(hidden), hidden, "amax")


def pool_last(hidden: Hidden, packing: Packing) -> Sentence:
    """Return each text's last vector."""
    return hidden.index_select(0, packing.offsets[1:] - 1)


def pool_weighted_mean(hidden: Hidden, packing: Packing) -> Sentence:
    """Return the mean weighted by position, from 1 for a text's first token."""
    weight = (packing.position + 1).to(hidden.dtype)
    count = packing.lengths
    return _sum(hidden * weight.unsqueeze(-1), packing) / (count * (count + 1) / 2).unsqueeze(-1)


def pool_mean_sqrt(hidden: Hidden, packing: Packing) -> Sentence:
    """Return the sum over each text's tokens, divided by the square root of their number."""
    return _sum(hidden, packing) / packing.lengths.sqrt().unsqueeze(-1)


def _sum(hidden: Hidden, packing: Packing) -> Sentence:
    texts = len(packing.lengths)
    return hidden.new_zeros(texts, hidden.shape[-1]).index_add(0, packing.text, hidden)


#: Each takes the tokens' hidden states and says by the packing to which text they belong.
POOLINGS: Final[Mapping[str, Callable[[Tensor, Packing], Tensor]]] = {
    "cls": pool_cls,
    "mean": pool_mean,
    "max": pool_max,
    "last": pool_last,
    "weighted_mean": pool_weighted_mean,
    "mean_sqrt": pool_mean_sqrt,
}
