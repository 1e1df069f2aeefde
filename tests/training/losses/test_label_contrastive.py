"""Contrastive losses on labels, against slow loops over pairs."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ablation.config.schema import LossConfig
from ablation.core.errors import UsageError
from ablation.training.losses import total_loss
from ablation.training.losses.label_contrastive import rank_n_contrast, supervised_contrastive
from ablation.training.model import Output


def made(seed: int, count: int = 7, labels: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Return vectors and labels of which some are equal."""
    random = np.random.default_rng(seed)
    sentence = torch.tensor(random.normal(size=(count, 5)), dtype=torch.float32)
    return sentence, torch.tensor(1 + random.integers(0, labels, count), dtype=torch.float32)


def slow_supcon(sentence: np.ndarray, label: np.ndarray, tau: float, width: float) -> float | None:
    z = sentence / np.linalg.norm(sentence, axis=1, keepdims=True)
    bins = [round(y / width) for y in label.tolist()]
    losses = []
    for i in range(len(z)):
        positives = [p for p in range(len(z)) if p != i and bins[p] == bins[i]]
        if not positives:
            continue
        everything = sum(math.exp(z[i] @ z[a] / tau) for a in range(len(z)) if a != i)
        terms = [-math.log(math.exp(z[i] @ z[p] / tau) / everything) for p in positives]
        losses.append(sum(terms) / len(terms))
    return sum(losses) / len(losses) if losses else None


def slow_rank(sentence: np.ndarray, label: np.ndarray, tau: float) -> float:
    count, total = len(label), 0.0
    similarity = [[-float(np.linalg.norm(a - b)) / tau for b in sentence] for a in sentence]
    for i in range(count):
        for j in range(count):
            if i == j:
                continue
            farther = [
                k
                for k in range(count)
                if k != i and abs(label[i] - label[k]) >= abs(label[i] - label[j])
            ]
            everything = sum(math.exp(similarity[i][k]) for k in farther)
            total -= math.log(math.exp(similarity[i][j]) / everything)
    return total / (count * (count - 1))


@pytest.mark.parametrize("tau", [0.2, 2.0])
@given(st.integers(0, 10_000))
def test_rank_n_contrast_is_the_triple_loop(tau: float, seed: int) -> None:
    sentence, label = made(seed)
    value = rank_n_contrast(sentence, label, tau=tau)
    assert value is not None
    expected = slow_rank(sentence.double().numpy(), label.numpy(), tau)
    assert value.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("width", [1.0, 2.0])
@given(st.integers(0, 10_000))
def test_supervised_contrast_is_the_double_loop(width: float, seed: int) -> None:
    sentence, label = made(seed)
    value = supervised_contrastive(sentence, label, tau=0.3, bin_width=width)
    expected = slow_supcon(sentence.double().numpy(), label.numpy(), 0.3, width)
    assert (value is None) == (expected is None)
    if value is not None:
        assert value.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def functions() -> dict[str, object]:
    return {
        "rank_n_contrast": lambda v, y: rank_n_contrast(v, y, tau=0.5),
        "supcon": lambda v, y: supervised_contrastive(v, y, tau=0.5, bin_width=1.0),
    }


@pytest.mark.parametrize("name", functions())
def test_the_gradient_is_that_of_central_differences(name: str) -> None:
    sentence, label = made(3)
    loss = functions()[name]
    v = sentence.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(v, label), v)  # type: ignore[operator]
    step, numeric = 1e-4, np.zeros(sentence.shape)
    slow = slow_rank if name == "rank_n_contrast" else slow_supcon
    options = (0.5,) if name == "rank_n_contrast" else (0.5, 1.0)
    values = sentence.detach().double().numpy()
    for at in np.ndindex(*values.shape):
        up, down = values.copy(), values.copy()
        up[at] += step
        down[at] -= step
        y = label.numpy()
        numeric[at] = (slow(up, y, *options) - slow(down, y, *options)) / (2 * step)  # type: ignore[arg-type,operator]
    np.testing.assert_allclose(gradient.numpy(), numeric, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("name", functions())
def test_equal_vectors_and_equal_labels_stay_finite(name: str) -> None:
    for sentence, label in (
        (torch.ones(5, 3), torch.tensor([1.0, 1, 2, 3, 3])),
        (torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.full((5,), 2.0)),
        (torch.zeros(4, 3), torch.full((4,), 2.0)),
    ):
        v = sentence.clone().requires_grad_()
        value = functions()[name](v, label)  # type: ignore[operator]
        (gradient,) = torch.autograd.grad(value, v)
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()


def test_without_a_pair_there_is_no_value() -> None:
    one = torch.ones(1, 3), torch.ones(1)
    assert rank_n_contrast(*one, tau=1.0) is None
    assert supervised_contrastive(*one, tau=1.0, bin_width=1.0) is None
    apart = torch.randn(3, 4), torch.tensor([1.0, 2.0, 3.0])
    assert supervised_contrastive(*apart, tau=1.0, bin_width=0.5) is None


@pytest.mark.parametrize("name", ["supcon", "rank_n_contrast"])
def test_the_total_has_them_by_name_on_a_batch_of_one_language_too(name: str) -> None:
    sentence, label = made(1)
    output = Output(label + 0.5, sentence)
    config = LossConfig(contrastive=name, contrastive_weight=0.5, tau=0.5)  # type: ignore[arg-type]
    terms = total_loss(output, label, torch.zeros(len(label), dtype=torch.long), config)
    assert terms.contrastive is not None
    assert terms.total.item() == pytest.approx(0.25 + 0.5 * terms.contrastive.item())


def test_an_unknown_name_that_slipped_past_the_settings_is_an_error() -> None:
    sentence, label = made(1)
    config = LossConfig().model_copy(update={"contrastive": "supcn"})
    language = torch.zeros(len(label), dtype=torch.long)
    with pytest.raises(UsageError, match="'supcn': did you mean 'supcon'"):
        total_loss(Output(label, sentence), label, language, config)
