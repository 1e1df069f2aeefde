"""Eq. 9's gradient against central differences, its temperature, and its symmetries."""

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp, rel_entr, softmax

from ablation.training.losses import language_contrastive
from ablation.training.losses.contrastive import kl_matrix

Signs = Literal["as_printed", "attract"]
LANGUAGE = [0, 0, 1, 1, 2, 0]


def vectors(seed: int = 0, batch: int = len(LANGUAGE), features: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(batch, features))


def printed(
    v: np.ndarray, tau: float, sign: Signs, self_pairs: bool, language: list[int] = LANGUAGE
) -> float:
    """Eq. 9 in float64, from scipy's relative entropies."""
    p = softmax(v, axis=1)
    exponent = rel_entr(p[:, None], p[None, :]).sum(-1) / (tau if sign == "as_printed" else -tau)
    same = np.equal.outer(language, language)
    positive = same if self_pairs else same & ~np.eye(len(language), dtype=bool)
    return float(-0.5 * (logsumexp(exponent[positive]) - logsumexp(exponent[~same])))


def value_and_gradient(
    v: np.ndarray, tau: float, sign: Signs, self_pairs: bool
) -> tuple[float, np.ndarray]:
    sentence = torch.tensor(v, dtype=torch.float32, requires_grad=True)
    value = language_contrastive(
        sentence, torch.tensor(LANGUAGE), tau=tau, sign=sign, self_pairs=self_pairs
    )
    assert value is not None
    (gradient,) = torch.autograd.grad(value, sentence)
    return value.item(), gradient.numpy()


@pytest.mark.parametrize("sign", ["as_printed", "attract"])
@pytest.mark.parametrize("self_pairs", [True, False])
@pytest.mark.parametrize("tau", [0.2, 1.0])
def test_the_gradient_by_every_vector_is_that_of_central_differences(
    sign: Signs, self_pairs: bool, tau: float
) -> None:
    """By both sides of each pair: neither distribution of a divergence is held fixed."""
    v, step = vectors(), 1e-5
    numeric = np.zeros_like(v)
    for at in np.ndindex(*v.shape):
        up, down = v.copy(), v.copy()
        up[at] += step
        down[at] -= step
        numeric[at] = (
            printed(up, tau, sign, self_pairs) - printed(down, tau, sign, self_pairs)
        ) / (2 * step)
    value, gradient = value_and_gradient(v, tau, sign, self_pairs)
    assert value == pytest.approx(printed(v, tau, sign, self_pairs), rel=1e-4, abs=1e-5)
    np.testing.assert_allclose(gradient, numeric, rtol=2e-3, atol=2e-4)


def test_a_lower_temperature_is_a_larger_gradient() -> None:
    """At the paper's tau of 0.2, Eq. 9 pulls several times harder than at 1 (Figure 5)."""
    norms = [
        float(np.linalg.norm(value_and_gradient(vectors(), tau, "as_printed", True)[1]))
        for tau in (5.0, 1.0, 0.2)
    ]
    assert norms[0] < norms[1] < norms[2]
    assert norms[2] > 3 * norms[1]


def test_at_a_high_temperature_only_the_numbers_of_pairs_remain() -> None:
    value, gradient = value_and_gradient(vectors(), 1e6, "as_printed", True)
    assert value == pytest.approx(
        -0.5 * np.log(14 / 22), abs=1e-4
    )  # 9 + 4 + 1 of 36 pairs are of one language
    assert np.abs(gradient).max() < 1e-5


@pytest.mark.parametrize(
    ("self_pairs", "expected"), [(True, -0.5 * np.log(14 / 22)), (False, -0.5 * np.log(8 / 22))]
)
@pytest.mark.parametrize("sign", ["as_printed", "attract"])
def test_equal_vectors_leave_only_the_numbers_of_pairs(
    sign: Signs, self_pairs: bool, expected: float
) -> None:
    value, gradient = value_and_gradient(np.ones((6, 4)), 0.2, sign, self_pairs)
    assert value == pytest.approx(expected, abs=1e-5)
    assert np.abs(gradient).max() < 1e-5


def test_the_divergence_is_not_symmetric_and_its_first_index_is_the_one_averaged_over() -> None:
    v = torch.tensor([[3.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    matrix, p = kl_matrix(v), v.softmax(-1)
    forward = (p[0] * (p[0] / p[1]).log()).sum()
    assert matrix[0, 1].item() == pytest.approx(forward.item(), rel=1e-5)
    assert abs(matrix[0, 1] - matrix[1, 0]).item() > 0.05


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.permutations(range(3)), st.permutations(range(4)))
def test_neither_the_numbering_of_languages_nor_the_order_of_features_matters(
    seed: int, numbers: list[int], features: list[int]
) -> None:
    v = torch.tensor(vectors(seed), dtype=torch.float32)
    value = language_contrastive(v, torch.tensor(LANGUAGE), tau=0.5)
    renamed = language_contrastive(
        v[:, features], torch.tensor([numbers[g] for g in LANGUAGE]), tau=0.5
    )
    assert value is not None
    assert renamed is not None
    assert renamed.item() == pytest.approx(value.item(), rel=1e-4, abs=1e-4)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from(["as_printed", "attract"]))
def test_each_vectors_gradient_sums_to_zero(seed: int, sign: Signs) -> None:
    """A softmax does not see a constant added to its input, so no step may go in that direction."""
    _, gradient = value_and_gradient(vectors(seed), 0.2, sign, True)
    np.testing.assert_allclose(gradient.sum(1), 0, atol=1e-4 * (1 + np.abs(gradient).max()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_vectors_are_computed_in_float32(dtype: torch.dtype) -> None:
    half = torch.tensor(vectors()).to(dtype)
    value = language_contrastive(half, torch.tensor(LANGUAGE), tau=0.2)
    expected = language_contrastive(half.float(), torch.tensor(LANGUAGE), tau=0.2)
    assert value is not None
    assert expected is not None
    assert value.dtype == torch.float32
    assert value.item() == expected.item()
