"""Eq. 9 against a double loop, and Eq. 10's sum."""

import math
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax

from ablation.config.schema import LossConfig
from ablation.training.losses import language_contrastive, total_loss
from ablation.training.losses.contrastive import kl_matrix
from ablation.training.losses.regression.epm import epm
from ablation.training.losses.regression.mse import mse
from ablation.training.model import Output

Signs = Literal["as_printed", "attract"]


def vectors(batch: int = 6, features: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, features, generator=torch.Generator().manual_seed(seed))


def naive(
    sentence: torch.Tensor, language: list[int], tau: float, sign: Signs, self_pairs: bool
) -> float:
    """Eq. 9 as it is printed, pair by pair, in float64."""
    p = softmax(sentence.double().numpy(), axis=1)
    same = different = 0.0
    for i in range(len(p)):
        for j in range(len(p)):
            divergence = rel_entr(p[i], p[j]).sum() * (1 if sign == "as_printed" else -1)
            if language[i] != language[j]:
                different += math.exp(divergence / tau)
            elif i != j or self_pairs:
                same += math.exp(divergence / tau)
    return -0.5 * math.log(same / different)


def test_the_matrix_is_the_divergence_of_every_pair() -> None:
    v = vectors()
    p = softmax(v.double().numpy(), axis=1)
    expected = [[rel_entr(a, b).sum() for b in p] for a in p]
    np.testing.assert_allclose(kl_matrix(v).numpy(), expected, atol=1e-6)


def test_a_vectors_divergence_from_itself_is_zero_and_none_is_negative() -> None:
    matrix = kl_matrix(vectors(20, 50))
    np.testing.assert_allclose(matrix.diagonal().numpy(), 0, atol=1e-6)
    assert (matrix > -1e-6).all()


@pytest.mark.parametrize("sign", ["as_printed", "attract"])
@pytest.mark.parametrize("self_pairs", [True, False])
@pytest.mark.parametrize("tau", [0.05, 0.2, 5.0])
def test_eq_9_is_the_double_loop(sign: Signs, self_pairs: bool, tau: float) -> None:
    language = [0, 0, 1, 2, 1, 0]
    value = language_contrastive(
        vectors(), torch.tensor(language), tau=tau, sign=sign, self_pairs=self_pairs
    )
    assert value is not None
    assert value.item() == pytest.approx(
        naive(vectors(), language, tau, sign, self_pairs), rel=1e-4, abs=1e-5
    )


def test_as_printed_drives_a_languages_texts_apart_and_attract_together() -> None:
    language = torch.tensor([0, 0, 1, 1])
    changes = {}
    for sign in ("as_printed", "attract"):
        v = vectors(4).requires_grad_()
        value = language_contrastive(v, language, tau=0.2, sign=sign, self_pairs=False)  # type: ignore[arg-type]
        assert value is not None
        (gradient,) = torch.autograd.grad(value, v)
        before, after = kl_matrix(v.detach()), kl_matrix(v.detach() - 1e-3 * gradient)
        changes[sign] = float(
            (after - before)[0, 1]
            + (after - before)[1, 0]
            + (after - before)[2, 3]
            + (after - before)[3, 2]
        )
    assert changes["as_printed"] > 0 > changes["attract"]


@pytest.mark.parametrize("language", [[0, 0, 0], [1]])
def test_a_batch_of_one_language_has_no_value(language: list[int]) -> None:
    assert language_contrastive(vectors(len(language)), torch.tensor(language), tau=0.2) is None


def test_a_batch_of_all_different_languages_has_one_only_with_self_pairs() -> None:
    language = torch.tensor([0, 1, 2])
    assert language_contrastive(vectors(3), language, tau=0.2, self_pairs=False) is None
    assert language_contrastive(vectors(3), language, tau=0.2, self_pairs=True) is not None


@settings(max_examples=50)
@given(st.integers(0, 1000), st.permutations(range(6)), st.floats(-100, 100))
def test_neither_the_order_of_rows_nor_a_constant_added_to_a_vector_matters(
    seed: int, order: list[int], shift: float
) -> None:
    language = torch.tensor([0, 1, 0, 2, 2, 1])
    v = vectors(seed=seed)
    value = language_contrastive(v, language, tau=0.5)
    moved = language_contrastive(v[order] + shift, language[order], tau=0.5)
    assert value is not None
    assert moved is not None
    assert moved.item() == pytest.approx(value.item(), rel=1e-3, abs=1e-3)


@settings(max_examples=50)
@given(st.floats(0.001, 10), st.floats(0.01, 300))
def test_value_and_gradient_stay_finite_at_any_temperature_and_scale(
    tau: float, scale: float
) -> None:
    v = (vectors() * scale).requires_grad_()
    value = language_contrastive(v, torch.tensor([0, 0, 1, 1, 2, 2]), tau=tau)
    assert value is not None
    (gradient,) = torch.autograd.grad(value, v)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


class TestSum:
    LABEL = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 2.5])
    LANGUAGE = torch.tensor([0, 0, 1, 1, 2, 2])
    OUTPUT = Output(torch.tensor([1.5, 2.5, 2.0, 3.0, 3.0, 2.0]), vectors())

    @pytest.mark.parametrize(("regression", "function"), [("mse", mse), ("epm", epm)])
    def test_without_a_contrastive_term_the_total_is_the_regression_loss(
        self, regression: str, function: object
    ) -> None:
        terms = total_loss(
            self.OUTPUT, self.LABEL, self.LANGUAGE, LossConfig(regression=regression)
        )  # type: ignore[arg-type]
        assert terms.total is terms.regression
        assert terms.contrastive is None
        assert terms.total == function(self.OUTPUT.prediction, self.LABEL)  # type: ignore[operator]

    @pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
    def test_eq_10_is_the_weighted_sum_of_the_named_terms(self, weight: float) -> None:
        config = LossConfig(
            regression="epm", contrastive="attract", contrastive_weight=weight, tau=0.3
        )
        terms = total_loss(self.OUTPUT, self.LABEL, self.LANGUAGE, config)
        expected = language_contrastive(
            self.OUTPUT.sentence, self.LANGUAGE, tau=0.3, sign="attract"
        )
        assert terms.contrastive is not None
        assert expected is not None
        assert terms.contrastive.item() == pytest.approx(expected.item())
        assert terms.total.item() == pytest.approx(
            (terms.regression + weight * terms.contrastive).item()
        )

    def test_a_batch_without_a_contrastive_value_has_the_regression_loss_alone(self) -> None:
        terms = total_loss(
            self.OUTPUT,
            self.LABEL,
            torch.zeros(6, dtype=torch.long),
            LossConfig(contrastive="as_printed"),
        )
        assert terms.contrastive is None
        assert terms.total is terms.regression
