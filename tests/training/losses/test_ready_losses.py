"""The losses that EPM would be compared with, each against an independent reference."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, stats
from torch.nn import functional

from ablation.config.loss_names import regression_losses
from ablation.config.schema import LossConfig
from ablation.core.errors import UsageError
from ablation.training.losses import regression, total_loss
from ablation.training.losses.regression import regression_terms
from ablation.training.losses.weighting import smoothed_counts, text_weights
from ablation.training.model import Output

Rows = np.ndarray


def concordance(p: Rows, y: Rows) -> float:
    """Lin's coefficient, from numpy's population moments."""
    covariance = np.cov(p, y, ddof=0)[0, 1]
    return float(2 * covariance / (p.var() + y.var() + (p.mean() - y.mean()) ** 2))


def huber(p: Rows, y: Rows, delta: float) -> float:
    r = np.abs(y - p)
    return float(np.where(r <= delta, r**2 / 2, delta * (r - delta / 2)).mean())


def focal(p: Rows, y: Rows, beta: float, gamma: float) -> float:
    r = np.abs(y - p)
    return float((r * (2 / (1 + np.exp(-beta * r)) - 1) ** gamma).mean())


#: Each loss in float64, as its formula is written down.
REFERENCES: Mapping[str, tuple[LossConfig, Callable[[Rows, Rows], float]]] = {
    "mse": (LossConfig(), lambda p, y: float(((y - p) ** 2).mean())),
    "epm": (
        LossConfig(regression="epm"),
        lambda p, y: float(((y - p) ** 2 * np.exp(np.abs(y - p))).mean()),
    ),
    "mae": (LossConfig(regression="mae"), lambda p, y: float(np.abs(y - p).mean())),
    "huber": (LossConfig(regression="huber"), lambda p, y: huber(p, y, 1.0)),
    "huber 0.3": (
        LossConfig(regression="huber", huber_delta=0.3),
        lambda p, y: huber(p, y, 0.3),
    ),
    "log_cosh": (
        LossConfig(regression="log_cosh"),
        lambda p, y: float(np.log(np.cosh(y - p)).mean()),
    ),
    "focal": (LossConfig(regression="focal"), lambda p, y: focal(p, y, 0.2, 1.0)),
    "focal 2, 0.5": (
        LossConfig(regression="focal", focal_beta=2.0, focal_gamma=0.5),
        lambda p, y: focal(p, y, 2.0, 0.5),
    ),
    "ccc": (LossConfig(regression="ccc"), lambda p, y: 1 - concordance(p, y)),
    "pearson": (
        LossConfig(regression="pearson"),
        lambda p, y: float(1 - stats.pearsonr(p, y).statistic),
    ),
}


def rows(seed: int, count: int = 9) -> tuple[Rows, Rows]:
    """Return predictions and labels whose residuals lie on both sides of every threshold."""
    random = np.random.default_rng(seed)
    label = random.uniform(1, 5, count)
    return label + random.normal(0, 1.2, count), label


def value_and_gradient(config: LossConfig, p: Rows, y: Rows) -> tuple[float, Rows]:
    prediction = torch.tensor(p, dtype=torch.float32, requires_grad=True)
    terms = regression_terms(prediction, torch.tensor(y, dtype=torch.float32), config)
    (gradient,) = torch.autograd.grad(terms[""], prediction)
    return terms[""].item(), gradient.numpy()


def test_every_loss_has_a_reference() -> None:
    assert {config.regression for config, _ in REFERENCES.values()} == set(regression_losses())


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("seed", range(3))
def test_value_and_gradient_are_those_of_the_formula(name: str, seed: int) -> None:
    config, reference = REFERENCES[name]
    p, y = rows(seed)
    value, gradient = value_and_gradient(config, p, y)
    step = 1e-6
    numeric = np.zeros_like(p)
    for i in range(len(p)):
        up, down = p.copy(), p.copy()
        up[i] += step
        down[i] -= step
        numeric[i] = (reference(up, y) - reference(down, y)) / (2 * step)
    assert value == pytest.approx(reference(p, y), rel=1e-4, abs=1e-5)
    np.testing.assert_allclose(gradient, numeric, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("mse", functional.mse_loss),
        ("mae", functional.l1_loss),
        ("huber", functional.huber_loss),
    ],
)
def test_torchs_own_losses_agree(name: str, theirs: Callable[..., torch.Tensor]) -> None:
    p, y = (torch.tensor(side, dtype=torch.float32) for side in rows(5))
    ours = regression_terms(p, y, LossConfig(regression=name))[""]
    assert ours.item() == pytest.approx(theirs(p, y).item(), rel=1e-5)


@pytest.mark.parametrize("name", REFERENCES)
@given(st.floats(-1e6, 1e6), st.sampled_from([1, 2, 5]))
def test_a_constant_or_distant_prediction_has_a_finite_value_and_gradient(
    name: str, predicted: float, count: int
) -> None:
    """A collapsed model predicts a constant; a batch may have one text, or equal labels."""
    for label in (np.full(count, 3.0), np.linspace(1, 5, count)):
        value, gradient = value_and_gradient(
            REFERENCES[name][0], np.full(count, predicted, dtype=np.float32), label
        )
        assert math.isfinite(value)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", REFERENCES)
def test_a_perfect_prediction_has_no_loss_and_no_gradient(name: str) -> None:
    y = np.linspace(1, 5, 8)
    value, gradient = value_and_gradient(REFERENCES[name][0], y, y)
    assert value == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


class TestWeights:
    @pytest.mark.parametrize("name", REFERENCES)
    def test_equal_weights_change_nothing(self, name: str) -> None:
        p, y = (torch.tensor(side, dtype=torch.float32) for side in rows(1))
        config = REFERENCES[name][0]
        plain = regression_terms(p, y, config)[""]
        weighted = regression_terms(p, y, config, torch.ones_like(p))[""]
        assert weighted.item() == pytest.approx(plain.item(), rel=1e-6)

    @pytest.mark.parametrize("name", REFERENCES)
    def test_a_weight_of_two_is_the_text_twice(self, name: str) -> None:
        p, y = (torch.tensor(side, dtype=torch.float32) for side in rows(2, 6))
        weight = torch.tensor([2.0, 1, 1, 1, 1, 2])
        twice = torch.tensor([0, 0, 1, 2, 3, 4, 5, 5])
        config = REFERENCES[name][0]
        weighted = regression_terms(p, y, config, weight * 6 / 8)[""]
        repeated = regression_terms(p[twice], y[twice], config)[""]
        assert weighted.item() == pytest.approx(repeated.item(), rel=1e-5)

    def test_they_reach_the_total(self) -> None:
        output = Output(torch.tensor([1.0, 2.0]), torch.eye(2))
        label, language = torch.tensor([2.0, 4.0]), torch.tensor([0, 1])
        terms = total_loss(output, label, language, LossConfig(), torch.tensor([0.5, 1.5]))
        assert terms.total.item() == pytest.approx((0.5 * 1 + 1.5 * 4) / 2)

    def test_a_loss_without_them_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            regression, "regression_loss", lambda name: lambda prediction, label: prediction.mean()
        )
        p, y = torch.ones(2), torch.ones(2)
        with pytest.raises(UsageError, match=r"loss\.regression = 'mse': takes no argument `weig"):
            regression_terms(p, y, LossConfig(), torch.ones(2))


class TestLabelDistributionSmoothing:
    @pytest.mark.parametrize("power", [0.5, 1.0])
    @pytest.mark.parametrize("sigma", [1.0, 2.0])
    def test_the_counts_are_smoothed_as_in_the_papers_code(
        self, power: float, sigma: float
    ) -> None:
        """The paper's kernel is a filtered impulse over five bins, divided by its maximum."""
        label = np.random.default_rng(0).gamma(2.0, 0.8, 500).clip(0, 4) + 1
        counts, edges = np.histogram(label, 20)
        impulse = ndimage.gaussian_filter1d([0.0, 0, 1, 0, 0], sigma, truncate=2 / sigma)
        smooth = ndimage.convolve1d(counts**power, impulse / impulse.max(), mode="constant")
        bins = np.minimum(np.digitize(label, edges) - 1, 19)
        np.testing.assert_allclose(
            smoothed_counts(label, 20, sigma, power), smooth[bins], rtol=1e-10
        )

    def test_rare_labels_weigh_more_and_the_mean_is_one(self) -> None:
        label = np.array([1.0] * 90 + [5.0] * 10)
        weight = text_weights(label, LossConfig(weighting="lds", lds_power=1.0))
        assert weight is not None
        assert weight.mean() == pytest.approx(1, rel=1e-5)
        assert weight[-1] == pytest.approx(9 * weight[0], rel=1e-5)

    @pytest.mark.parametrize("label", [np.array([2.0]), np.full(7, 3.0), np.array([1.0, 5.0])])
    def test_few_or_equal_labels_have_finite_weights(self, label: np.ndarray) -> None:
        weight = text_weights(label, LossConfig(weighting="lds"))
        assert weight is not None
        np.testing.assert_allclose(weight, 1.0, rtol=1e-6)

    def test_without_it_there_are_no_weights(self) -> None:
        assert text_weights(np.array([1.0, 2.0]), LossConfig()) is None
