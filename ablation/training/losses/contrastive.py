"""The language-contrastive loss, Eq. 9.

Eq. 9 is -1/2 ln(S+ / S-). S+ is the sum of `exp(KL[i][j] / tau)` over pairs of one language, S- the
same sum over pairs of two languages. Minimised as printed, it makes KL within a language LARGER,
while the paper's text says that texts of one language are drawn closer. The sign of KL is therefore
an option: "as_printed", or "attract", which replaces KL by -KL.
"""

from typing import Final

import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor
from torch.nn.functional import log_softmax

from ablation.core.errors import UsageError
from ablation.core.suggest import did_you_mean
from ablation.encoders.packing import to_device

#: Contrastive losses that are not Eq. 9 (`ablation.training.losses.label_contrastive`).
ON_LABELS: Final = ("supcon", "rank_n_contrast")
#: The factor on KL in each reading of Eq. 9.
SIGNS: Final[dict[str, int]] = {"as_printed": 1, "attract": -1}


def kl_matrix(sentence: Float[Tensor, "batch hidden"]) -> Float32[Tensor, "batch batch"]:
    """Return `KL[i][j]`, the divergence of softmax(v_i) from softmax(v_j), in nats.

    The softmax runs over the features. One matrix product: KL = sum(p log p) - p (log p)ᵀ. Rounding
    can make a divergence slightly negative.
    """
    log_p = log_softmax(sentence.float(), dim=-1)
    p = log_p.exp()
    return (p * log_p).sum(-1, keepdim=True) - p @ log_p.T


def language_contrastive(
    sentence: Float[Tensor, "batch hidden"],
    language: Int64[Tensor, " batch"],
    *,
    tau: float,
    sign: str = "as_printed",
    self_pairs: bool = True,
) -> Float32[Tensor, ""] | None:
    """Return Eq. 9 for one batch, or None if the batch has no pair of one or of two languages.

    Args:
        sentence: The sentence vectors v, on any device.
        language: The number of each text's language, on the CPU.
        tau: The temperature, above 0.
        sign: The reading of Eq. 9, one of `SIGNS`.
        self_pairs: Count i = j as a pair of one language, as Eq. 9 does in letting i and j run
            over the whole batch.

    Returns:
        The loss, or None where Eq. 9 would be infinite.

    Raises:
        UsageError: `sign` is unknown.
    """
    if sign not in SIGNS:
        raise UsageError(
            f"loss.contrastive = {sign!r}: {did_you_mean(sign, ['none', *SIGNS, *ON_LABELS])}"
        )
    same = language[:, None] == language[None, :]
    positive = same
    if not self_pairs:
        positive = same & ~torch.eye(len(language), dtype=torch.bool)
    if not bool((~same).any()) or not bool(positive.any()):
        return None
    scaled = kl_matrix(sentence) / (SIGNS[sign] * tau)
    within, between = (select(scaled, pairs).logsumexp(0) for pairs in (positive, ~same))
    return -0.5 * (within - between)


def select(values: Float[Tensor, "..."], mask: Bool[Tensor, "..."]) -> Float[Tensor, " selected"]:
    """Return `values[mask]` for a mask on the CPU, without waiting for the device of `values`.

    With a mask on a GPU, the host has to ask it how many values there will be.
    """
    places = mask.flatten().nonzero().flatten()
    return values.flatten().index_select(0, to_device(places, values.device))
