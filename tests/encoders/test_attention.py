"""Attention within texts against PyTorch's own; its gradients against finite differences."""

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from ablation.encoders.attention import Layout, attend, block_sizes
from ablation.encoders.dropout import draw, factors

LENGTHS = st.lists(st.integers(1, 24), min_size=1, max_size=12)


def states(lengths: list[int], heads: int = 3, size: int = 4, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (sum(lengths), heads, size)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for _ in range(3)
    ]


def one_by_one(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: list[int], scaling: float
) -> torch.Tensor:
    parts = zip(*(x.split(lengths) for x in (q, k, v)), strict=True)
    return torch.cat(
        [
            scaled_dot_product_attention(
                *(x.transpose(0, 1) for x in part), scale=scaling
            ).transpose(0, 1)
            for part in parts
        ]
    )


@given(LENGTHS)
@settings(max_examples=40)
def test_outputs_and_gradients_are_those_of_each_text_alone(lengths: list[int]) -> None:
    inputs = states(lengths)
    expected, actual = (
        one_by_one(*inputs, lengths, 0.7),
        attend(*inputs, Layout(tuple(lengths), 3), 0.7, 0.0),
    )
    torch.testing.assert_close(actual, expected)
    weight = torch.randn(
        expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    for actual_grad, expected_grad in zip(
        torch.autograd.grad(actual, inputs, weight),
        torch.autograd.grad(expected, inputs, weight),
        strict=True,
    ):
        torch.testing.assert_close(actual_grad, expected_grad)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_gradients_are_those_of_finite_differences(dropout: float) -> None:
    layout = Layout((5, 4, 2), 2)

    def attended(*inputs: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(4)  # the same mask at every call
        return attend(*inputs, layout, 0.5, dropout)

    assert torch.autograd.gradcheck(attended, tuple(states([5, 4, 2], heads=2, size=3)))


def test_dropout_falls_on_probabilities_and_leaves_their_mean() -> None:
    lengths, repeats = [6], 4000
    q, k, v = (x.detach() for x in states(lengths))
    torch.manual_seed(5)
    mean = torch.stack([attend(q, k, v, Layout((6,), 3), 0.7, 0.3) for _ in range(repeats)]).mean(0)
    torch.testing.assert_close(mean, one_by_one(q, k, v, lengths, 0.7), atol=0.05, rtol=0.05)


def test_dropout_is_that_of_its_mask() -> None:
    q, k, v = states([4], heads=1)
    torch.manual_seed(6)
    p = torch.softmax(q[:, 0] @ k[:, 0].T, -1) * factors(draw(16).view(4, 4), 0.25, torch.float64)
    torch.manual_seed(6)
    torch.testing.assert_close(attend(q, k, v, Layout((4,), 1), 1.0, 0.25)[:, 0], p @ v[:, 0])


def test_bfloat16_is_attended_in_float32_under_autocast_too() -> None:
    inputs = [x.detach().bfloat16().requires_grad_() for x in states([5, 4, 2])]
    exact = [x.detach().float().requires_grad_() for x in inputs]
    expected = attend(*exact, Layout((5, 4, 2), 3), 0.7, 0.0)
    with torch.autocast("cpu", torch.bfloat16):
        actual = attend(*inputs, Layout((5, 4, 2), 3), 0.7, 0.0)
    assert actual.equal(expected.bfloat16())
    for actual_grad, expected_grad in zip(
        torch.autograd.grad(actual.sum(), inputs),
        torch.autograd.grad(expected.sum(), exact),
        strict=True,
    ):
        assert actual_grad.equal(expected_grad.bfloat16())


def cheapest(lengths: list[int], heads: int, block_cost: int) -> float:
    """Return the cost of the best of all ways to cut."""
    count = len(lengths)
    costs = []
    for cuts in (c for size in range(count) for c in combinations(range(1, count), size)):
        edges = [0, *cuts, count]
        parts = [lengths[a:b] for a, b in pairwise(edges)]
        costs.append(sum(block_cost + heads * len(p) * max(p) ** 2 for p in parts))
    return min(costs)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(0, 2000))
@settings(max_examples=60)
def test_texts_are_cut_into_the_cheapest_blocks(lengths: list[int], block_cost: int) -> None:
    sizes = block_sizes(np.array(lengths), 2, block_cost)
    assert sum(sizes) == len(lengths)
    edges = np.cumsum([0, *sizes])
    parts = [lengths[a:b] for a, b in pairwise(edges)]
    assert sum(block_cost + 2 * len(p) * max(p) ** 2 for p in parts) == pytest.approx(
        cheapest(lengths, 2, block_cost)
    )


@given(LENGTHS)
@settings(max_examples=40)
def test_every_token_has_a_row_and_every_other_row_is_padding(lengths: list[int]) -> None:
    layout = Layout(tuple(lengths), 3)
    assert layout.token_of_row[layout.row_of_token].equal(torch.arange(sum(lengths) * 3))
    rows = torch.cat([layout.row_of_token, layout.padding]).sort().values
    assert rows.equal(torch.arange(layout.rows))
    assert layout.bias[layout.padding].eq(-torch.inf).all()
    assert layout.bias[layout.row_of_token].eq(0).all()
