"""The gradients of the loss terms in training, by which Section 4.2 explains Figure 5."""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch

from ablation.training.losses import LossTerms
from ablation.training.model import IntimacyRegressor
from ablation.training.step import OnTerms


def measure_gradients(contrastive_weight: float) -> OnTerms:
    """Return a hook for `Hooks.on_terms`: `term_gradients` with the variant's weight of Eq. 9."""
    return lambda model, terms: term_gradients(model, terms, contrastive_weight)


def term_gradients(
    model: IntimacyRegressor, terms: LossTerms, contrastive_weight: float
) -> Mapping[str, float]:
    """Measure the terms' gradients with respect to the encoder's trained parameters, unclipped.

    Both terms reach these; the head has a gradient from the regression alone.

    Args:
        model: The model that computed the terms.
        terms: The terms of one batch, with their graph.
        contrastive_weight: The weight of the contrastive term in Eq. 10.

    Returns:
        Euclidean norms of each term's gradient and of their sum, and the cosine of the two in
        [-1, 1], named as in `ablation.tracking.names.GRADIENTS`. Without a contrastive term, its
        norm and the cosine are left out. Empty if no layer of the encoder trains.
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
    """Return the gradient for each parameter, or None if the term does not depend on it.

    The graph is kept for the training step itself.
    """
    return torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)


def _dot(a: Iterable[torch.Tensor | None], b: Iterable[torch.Tensor | None]) -> float:
    """Return the inner product over all parameters, summed in double precision."""
    return sum(
        (x.double() * y.double()).sum().item()
        for x, y in zip(a, b, strict=True)
        if x is not None and y is not None
    )
