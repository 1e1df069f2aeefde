"""A batch padded to a fixed shape predicts what the batch does; graphs train as plain steps do."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ablation.config.schema import LossConfig, OptimisationConfig, RunConfig
from ablation.training import cuda_graphs
from ablation.training.batching import collate
from ablation.training.cuda_graphs import (
    CAPTURE_AT,
    SWITCH,
    PaddedForward,
    padded_inputs,
    padded_tokens,
    release_graphs,
)
from ablation.training.optimizer import make_optimizer
from ablation.training.step import train_step
from tests.training.test_loop import model, texts

CPU = torch.device("cpu")


@given(st.integers(1, 10**6))
def test_there_is_always_a_token_of_padding_and_never_much_of_it(tokens: int) -> None:
    assert tokens < padded_tokens(tokens) <= tokens + max(64, tokens / 8)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_padding_changes_no_prediction_and_no_gradient(pooling: str) -> None:
    regressor, data = model(dropout=0.0), texts(12)
    regressor.pooling = pooling
    batch = collate(data, np.argsort(-data.lengths, kind="stable"), CPU)
    width, inputs = padded_inputs(batch, regressor)
    heads = regressor.encoder.config.num_attention_heads
    forward = PaddedForward(regressor, heads, width, "float32").train()
    parameters = [p for p in regressor.parameters() if p.requires_grad]

    def gradients(prediction: torch.Tensor, sentence: torch.Tensor) -> list[torch.Tensor]:
        total = prediction.square().sum() + sentence.square().sum()
        return list(torch.autograd.grad(total, parameters))

    plain = regressor.train()(batch.ids, batch.lengths)
    prediction, sentence = forward(*inputs)
    torch.testing.assert_close(prediction, plain.prediction)
    torch.testing.assert_close(sentence, plain.sentence)
    for padded, unpadded in zip(gradients(prediction, sentence), gradients(*plain), strict=True):
        torch.testing.assert_close(padded, unpadded, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestOnCuda:
    def losses(self, capture: bool, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """Return the losses of steps on batches of one shape, with graphs or without."""
        monkeypatch.setenv(SWITCH, "1")
        monkeypatch.setattr(cuda_graphs, "MOST_GRAPHS", 16 if capture else 0)
        device = torch.device("cuda")
        regressor, data = model(dropout=0.0).to(device), texts(24)
        settings = RunConfig(
            loss=LossConfig(regression="epm", contrastive="as_printed"),
            optimisation=OptimisationConfig(precision="bfloat16"),
        )
        optimizer = make_optimizer(regressor, settings.optimisation)
        batch = collate(data, np.argsort(-data.lengths, kind="stable"), device)
        losses = [
            train_step(regressor.train(), batch, optimizer, settings, step).metrics["train/loss"]
            for step in range(2 * CAPTURE_AT)
        ]
        assert bool(cuda_graphs._graphs[regressor].replays) is capture
        assert cuda_graphs._graphs[regressor].failure is None
        release_graphs(regressor)
        return losses

    def test_graphs_train_as_plain_steps_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        graphed, plain = (self.losses(capture, monkeypatch) for capture in (True, False))
        np.testing.assert_allclose(graphed, plain, rtol=2e-2)


def test_what_a_step_returns_holds_no_graph_that_a_capture_would_meet() -> None:
    regressor, data = model(dropout=0.0), texts(12)
    settings = RunConfig(loss=LossConfig(regression="epm"))
    optimizer = make_optimizer(regressor, settings.optimisation)
    batch = collate(data, data.row, CPU)
    result = train_step(regressor.train(), batch, optimizer, settings, 0)
    assert result.prediction.grad_fn is None
