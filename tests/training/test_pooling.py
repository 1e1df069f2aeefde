"""Each pooling of packed tokens, against a loop over texts."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from ablation.encoders.loading import load_encoder
from ablation.encoders.packing import make_packing
from ablation.training.pooling import POOLINGS

LENGTHS = [4, 1, 3]
#: Each pooling of one text's vectors (tokens, hidden).
LOOPS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "cls": lambda v: v[0],
    "mean": lambda v: v.mean(0),
    "max": lambda v: v.max(0),
    "last": lambda v: v[-1],
    "weighted_mean": lambda v: np.average(v, axis=0, weights=np.arange(1, len(v) + 1)),
    "mean_sqrt": lambda v: v.sum(0) / np.sqrt(len(v)),
}


@pytest.mark.parametrize("name", POOLINGS)
def test_it_is_the_loop_over_texts_and_reaches_every_token_that_counts(name: str) -> None:
    random = np.random.default_rng(0)
    hidden = torch.tensor(random.normal(size=(sum(LENGTHS), 5)), dtype=torch.float32)
    hidden.requires_grad_()
    packing = make_packing(torch.tensor(LENGTHS), load_encoder("tiny").model)
    pooled = POOLINGS[name](hidden, packing)
    values = np.split(hidden.detach().numpy(), np.cumsum(LENGTHS)[:-1])
    expected = np.stack([LOOPS[name](v) for v in values])
    np.testing.assert_allclose(pooled.detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(pooled.sum(), hidden)
    np.testing.assert_allclose(
        gradient.sum().item(),
        5
        * sum(
            {"mean_sqrt": np.sqrt(n)}.get(name, 1.0)  # the others' weights sum to one
            for n in LENGTHS
        ),
        rtol=1e-5,
    )
