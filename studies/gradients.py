"""The gradients of the loss terms, measured while they train: Section 4.2 explains Figure 5 by them."""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch

from ablation.training.loop import OnTerms
from ablation.training.losses import LossTerms
from ablation.training.model import IntimacyRegressor


def measure_gradients(contrastive_weight: float) -> OnTerms:
    """What `Hooks.on_terms` takes: `term_gradients` with the weight that the variant gives to Eq. 9."""
    return lambda model, terms: term_gradients(model, terms, contrastive_weight)


def term_gradients(
    model: IntimacyRegressor, terms: LossTerms, contrastive_weight: float
) -> Mapping[str, float]:
    """Euclidean norms of each term's gradient, their cosine in [-1, 1], and the norm of their sum, before clipping.

    With respect to the encoder's trained parameters, which both terms reach (the head has a
    gradient from the regression alone); the contrastive term counts with its weight in Eq. 10.
    Names as in `ablation.tracking.names.GRADIENTS`; without a contrastive term, its norm and the
    cosine are left out. Nothing at all if no layer of the encoder trains.
    """
    shared = [p for p in model.encoder.parameters() if p.requires_grad]
    if not shared:
        return {}
    regression = _gradient(terms.regression, shared)
    norm = math.sqrt(_dot(regression, regression))
    if terms.contrastive is None:
        return {"gradient/regression": norm, "gradient/sum": norm}
    contrastive = _gradient(contrastive_weight * terms.contrastive, shared)
    other, product = math.sqrt(_dot(contrastive, contrastive)), _dot(regression, contrastive)
    together = [
        a if b is None else b if a is None else a + b
        for a, b in zip(regression, contrastive, strict=True)
    ]
    figures = {
        "gradient/regression": norm,
        "gradient/contrastive": other,
        "gradient/sum": math.sqrt(_dot(together, together)),
    }
    return figures | ({"gradient/cosine": product / (norm * other)} if norm * other > 0 else {})


def _gradient(
    term: torch.Tensor, parameters: Sequence[torch.Tensor]
) -> tuple[torch.Tensor | None, ...]:
    """Of each parameter, None where the term does not depend on it; the graph is kept for the step itself."""
    return torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)


def _dot(a: Iterable[torch.Tensor | None], b: Iterable[torch.Tensor | None]) -> float:
    """The inner product over all parameters, summed in double precision: there are millions of small terms."""
    return sum(
        (x.double() * y.double()).sum().item()
        for x, y in zip(a, b, strict=True)
        if x is not None and y is not None
    )
