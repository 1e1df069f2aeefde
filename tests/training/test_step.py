"""One optimizer step: clipped gradients of one batch, and a failed step that can be repeated."""

import numpy as np
import pytest
import torch
from torch.optim import SGD

from ablation.config.schema import LossConfig, OptimisationConfig, RunConfig
from ablation.training.batching import Batch, collate
from ablation.training.losses import total_loss
from ablation.training.model import IntimacyRegressor
from ablation.training.step import NotFiniteError, StepResult, train_step
from tests.training.test_loop import model, texts

CPU = torch.device("cpu")


@pytest.fixture
def batch() -> Batch:
    data = texts(12)
    return collate(data, data.row, CPU)


def config(max_grad_norm: float = 1.0, micro_batch: int | None = None) -> RunConfig:
    return RunConfig(
        loss=LossConfig(regression="epm"),
        optimisation=OptimisationConfig(max_grad_norm=max_grad_norm, micro_batch=micro_batch),
    )


def step_by_gradient(
    regressor: IntimacyRegressor, batch: Batch, settings: RunConfig
) -> tuple[torch.Tensor, StepResult]:
    """Make a step that subtracts the gradient itself, and return it as one vector."""
    before = torch.cat([p.detach().flatten().clone() for p in regressor.parameters()])
    optimizer = SGD(regressor.parameters(), lr=1.0)
    result = train_step(regressor, batch, optimizer, settings, step=0)
    after = torch.cat([p.detach().flatten() for p in regressor.parameters()])
    return before - after, result


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("micro_batch", [None, 5])
class TestClipping:
    def test_a_longer_gradient_is_scaled_to_the_limit(
        self, batch: Batch, micro_batch: int | None
    ) -> None:
        whole, unclipped = step_by_gradient(
            model(dropout=0.0), batch, config(max_grad_norm=1e6, micro_batch=micro_batch)
        )
        limit = unclipped.metrics["train/grad_norm"] / 4
        clipped, result = step_by_gradient(
            model(dropout=0.0), batch, config(max_grad_norm=limit, micro_batch=micro_batch)
        )
        assert clipped.norm().item() == pytest.approx(limit, rel=1e-3)
        torch.testing.assert_close(clipped, whole / 4, rtol=1e-2, atol=1e-5)
        # The curves show the norm before clipping.
        assert result.metrics["train/grad_norm"] == pytest.approx(4 * limit, rel=1e-5)

    def test_a_shorter_one_is_left_as_it_is(self, batch: Batch, micro_batch: int | None) -> None:
        settings = config(max_grad_norm=1e6, micro_batch=micro_batch)
        gradient, result = step_by_gradient(model(dropout=0.0), batch, settings)
        assert gradient.norm().item() == pytest.approx(result.metrics["train/grad_norm"], rel=1e-3)


@pytest.mark.usefixtures("threads")
def test_a_step_forgets_the_gradients_before_it(batch: Batch) -> None:
    regressor = model(dropout=0.0)
    optimizer = SGD(regressor.parameters(), lr=0.0)
    norms = [
        train_step(regressor, batch, optimizer, config(1e6), step).metrics["train/grad_norm"]
        for step in range(3)
    ]
    assert norms[1:] == pytest.approx([norms[0]] * 2, rel=1e-5)


def test_the_metrics_are_those_of_the_weights_before_the_step(batch: Batch) -> None:
    regressor = model(dropout=0.0)
    with torch.no_grad():
        output = regressor(batch.ids, batch.lengths)
        expected = total_loss(output, batch.label, batch.language, config().loss)
    _, result = step_by_gradient(regressor, batch, config())
    assert result.metrics["train/loss"] == pytest.approx(expected.total.item(), rel=1e-5)
    torch.testing.assert_close(result.prediction, output.prediction, rtol=1e-5, atol=1e-5)


def test_a_failed_step_leaves_the_weights_and_says_what_it_was(batch: Batch) -> None:
    regressor = model()
    batch.label[3] = np.nan
    before = {name: p.detach().clone() for name, p in regressor.named_parameters()}
    optimizer = SGD(regressor.parameters(), lr=1.0)
    with pytest.raises(NotFiniteError) as caught:
        train_step(regressor, batch, optimizer, config(), step=6)
    failed = caught.value.failed
    assert failed.step == 7
    assert failed.batch is batch
    assert np.isnan(failed.metrics["train/loss"])
    for name, parameter in regressor.named_parameters():
        assert torch.equal(parameter, before[name])
        assert torch.equal(failed.weights[name], before[name])
