"""The language-contrastive loss, Eq. 9.

Eq. 9 is -1/2 ln(S+ / S-), with S+ the sum of exp(KL[i][j] / tau) over pairs of one language and
S- the same over pairs of two languages. As printed, minimising it makes KL within a language
LARGER, while the paper's text says that texts of one language are drawn closer. The sign is
therefore an option: "as_printed", or "attract", which puts -KL in KL's place.
"""

from typing import Literal

import torch
from torch.nn.functional import log_softmax

Sign = Literal["as_printed", "attract"]


def kl_matrix(sentence: torch.Tensor) -> torch.Tensor:
    """KL[i][j], the divergence of softmax(v_i) from softmax(v_j): (batch, hidden) to (batch, batch).

    The softmax runs over the features. One matrix product: KL = sum(p log p) - p (log p)ᵀ.
    """
    log_p = log_softmax(sentence.float(), dim=-1)
    p = log_p.exp()
    return (p * log_p).sum(-1, keepdim=True) - p @ log_p.T


def language_contrastive(
    sentence: torch.Tensor,
    language: torch.Tensor,
    *,
    tau: float,
    sign: Sign = "as_printed",
    self_pairs: bool = True,
) -> torch.Tensor | None:
    """Eq. 9 for one batch, a float32 scalar; None where it would be infinite.

    `sentence` (batch, hidden); `language` (batch,) integers; `tau` > 0. Eq. 9 lets i and j run
    over all of the batch, so i = j counts as a pair of one language; `self_pairs=False` leaves
    these out. A batch with no pair of two languages (or none of one) has no value.
    """
    same = language[:, None] == language[None, :]
    positive = (
        same
        if self_pairs
        else same & ~torch.eye(len(language), dtype=torch.bool, device=same.device)
    )
    if not bool((~same).any()) or not bool(positive.any()):
        return None
    scaled = kl_matrix(sentence) / (tau if sign == "as_printed" else -tau)
    return -0.5 * (scaled[positive].logsumexp(0) - scaled[~same].logsumexp(0))
