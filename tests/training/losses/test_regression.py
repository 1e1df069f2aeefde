"""MSE and EPM against the paper's derivatives (Eqs. 4 to 8 and the appendix)."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ablation.training.losses.regression.epm import EXACT_UP_TO, epm
from ablation.training.losses.regression.mse import mse

N, FEATURES = 7, 3


@pytest.fixture
def problem() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x (N, features), w (features,), y (N,) in [1, 5]: the linear model of Eq. 1."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, FEATURES, generator=generator)
    w = torch.randn(FEATURES, generator=generator)
    return x, w.requires_grad_(), 1 + 4 * torch.rand(N, generator=generator)


def by_hand(
    x: torch.Tensor, w: torch.Tensor, y: torch.Tensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    X, Y = x.double().numpy(), y.double().numpy()  # noqa: N806
    return X, Y, X @ w.detach().double().numpy()


def test_eq_2_and_eq_3(problem: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    x, w, y = problem
    _, label, predicted = by_hand(x, w, y)
    residual = label - predicted
    assert mse(x @ w, y).item() == pytest.approx(np.mean(residual**2), rel=1e-5)
    assert epm(x @ w, y).item() == pytest.approx(
        np.mean(residual**2 * np.exp(np.abs(residual))), rel=1e-5
    )


def test_eq_4_is_the_gradient_of_mse(
    problem: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    x, w, y = problem
    (gradient,) = torch.autograd.grad(mse(x @ w, y), w)
    features, label, predicted = by_hand(x, w, y)
    expected = 2 / N * ((predicted - label)[:, None] * features).sum(0)
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-4)


def test_eqs_5_and_7_are_the_gradient_of_epm(
    problem: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    x, w, y = problem
    (gradient,) = torch.autograd.grad(epm(x @ w, y), w)
    features, label, predicted = by_hand(x, w, y)
    expected = np.zeros(FEATURES)
    for xi, yi, pi in zip(features, label, predicted, strict=True):
        r = pi - yi
        inner = 2 * r + r**2 if pi >= yi else 2 * r - r**2
        expected += np.exp(abs(r)) * inner * xi / N
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-4)


def test_eqs_6_and_8_hold_for_each_sample() -> None:
    """The paper writes them for sums; they hold for each term."""
    for label, predicted in ((2.0, 3.5), (3.5, 2.0)):
        p, y = torch.tensor([predicted], requires_grad=True), torch.tensor([label])
        (d_epm,) = torch.autograd.grad(epm(p, y), p)
        (d_mse,) = torch.autograd.grad(mse(p, y), p)
        sign = 1 if predicted >= label else -1
        expected = d_mse * np.exp(abs(predicted - label)) + sign * epm(p, y).detach()
        assert d_epm.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("side", [1e-3, 1e-5, -1e-5, -1e-3])
def test_the_appendixs_limit_the_gradient_vanishes_from_both_sides(side: float) -> None:
    p = torch.tensor([2.0 + side], requires_grad=True)
    (gradient,) = torch.autograd.grad(epm(p, torch.tensor([2.0])), p)
    assert abs(gradient.item()) <= 2.1 * abs(side) + 1e-6
    zero = torch.tensor([2.0], requires_grad=True)
    assert torch.autograd.grad(epm(zero, torch.tensor([2.0])), zero)[0].item() == 0.0


@given(st.floats(-15, 15), st.floats(1, 5))
def test_the_gradient_is_that_of_central_differences(predicted: float, label: float) -> None:
    def exact(value: float) -> float:
        residual = abs(label - value)
        return residual**2 * np.exp(residual)

    p = torch.tensor([predicted], requires_grad=True)
    (gradient,) = torch.autograd.grad(epm(p, torch.tensor([label])), p)
    step = 1e-6
    numeric = (exact(predicted + step) - exact(predicted - step)) / (2 * step)
    assert gradient.item() == pytest.approx(numeric, rel=1e-2, abs=1e-3)


def test_small_residuals_make_epm_mse() -> None:
    p, y = torch.full((4,), 2.001), torch.full((4,), 2.0)
    assert epm(p, y).item() == pytest.approx(mse(p, y).item(), rel=2e-3)


@given(st.floats(0, 18), st.floats(0.01, 1))
def test_a_larger_residual_is_penalised_more_and_pulled_harder(
    residual: float, more: float
) -> None:
    p = torch.tensor([residual, residual + more], requires_grad=True)
    values = [epm(v[None], torch.zeros(1)) for v in p]
    assert values[1] > values[0]
    (gradient,) = torch.autograd.grad(sum(values), p)  # type: ignore[arg-type]
    assert gradient[1] > gradient[0]


@given(st.floats(-1e20, 1e20))
def test_however_far_off_a_prediction_is_value_and_gradient_are_finite(predicted: float) -> None:
    p = torch.tensor([predicted, 2.0], requires_grad=True)
    value = epm(p, torch.tensor([3.0, 3.0]))
    (gradient,) = torch.autograd.grad(value, p)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


def test_beyond_the_exact_range_the_loss_goes_on_along_its_tangent() -> None:
    at = torch.tensor(
        [EXACT_UP_TO - 1e-4, EXACT_UP_TO + 1e-4, EXACT_UP_TO + 5.0], requires_grad=True
    )
    values = torch.stack([epm(v[None], torch.zeros(1)) for v in at])
    assert values[1].item() == pytest.approx(values[0].item(), rel=1e-3)
    (gradient,) = torch.autograd.grad(values.sum(), at)
    assert gradient[1].item() == pytest.approx(gradient[0].item(), rel=1e-3)
    assert gradient[2].item() == pytest.approx(gradient[1].item(), rel=1e-5)


@pytest.mark.parametrize("side", [1, -1])
def test_at_the_end_of_the_exact_range_the_gradient_is_still_that_of_eqs_5_and_7(side: int) -> None:
    p = torch.tensor([side * EXACT_UP_TO], requires_grad=True)
    (gradient,) = torch.autograd.grad(epm(p, torch.zeros(1)), p)
    expected = np.exp(EXACT_UP_TO) * (2 * EXACT_UP_TO + EXACT_UP_TO**2)
    assert gradient.item() == pytest.approx(side * expected, rel=1e-5)


@pytest.mark.parametrize("loss", [mse, epm])
def test_half_precision_predictions_are_computed_in_float32(loss: object) -> None:
    p, y = torch.tensor([1.0, 7.0], dtype=torch.bfloat16), torch.tensor([2.0, 2.0])
    value = loss(p, y)  # type: ignore[operator]
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(p.float(), y).item())  # type: ignore[operator]


@pytest.mark.parametrize("scale", [0.25, 2.0, 5.0])
def test_a_scale_in_epm_is_another_unit_of_the_labels(scale: float) -> None:
    random = torch.Generator().manual_seed(3)
    p, y = (4 * torch.rand(2, 40, generator=random) + 1).unbind()
    p.requires_grad_()
    ours, theirs = epm(p, y, scale=scale), epm(scale * p, scale * y) / scale**2
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(value, p)[0] for value in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)


def test_epm_with_a_scale_near_zero_is_mse_and_far_away_is_finite() -> None:
    p, y = torch.tensor([1.0, 4.0], requires_grad=True), torch.tensor([2.0, 2.5])
    assert epm(p, y, scale=1e-6).item() == pytest.approx(mse(p, y).item(), rel=1e-4)
    (gradient,) = torch.autograd.grad(epm(1e4 * p, y, scale=50.0), p)
    assert gradient.isfinite().all()
