"""The average of the weights over training steps, against its definition."""

import numpy as np
import pytest
import torch
from torch import nn

from ablation.config.schema import RunConfig
from ablation.training.averaging import averaged, decay_at, update_average
from ablation.training.evaluation import predict
from ablation.training.loop import Hooks, TrainingData, fit
from tests.training.test_loop import FAST, fitted, model, texts

DECAY = 0.8
AVERAGED = FAST.model_copy(update={"ema_decay": DECAY, "epochs": 1})


def test_the_kept_weights_are_the_moving_average_of_those_of_every_step() -> None:
    data, regressor = texts(), model()
    seen = [regressor.head.weight.detach().numpy().copy()]
    hooks = Hooks(on_step=lambda *_: seen.append(regressor.head.weight.detach().numpy().copy()))
    config = RunConfig(optimisation=AVERAGED)
    rows = TrainingData(data, data, lambda p: {"pearson": 0.5})
    fit(regressor, rows, config, seed=0, hooks=hooks)
    expected = seen[0].astype(float)
    for step, weight in enumerate(seen[1:], start=1):
        share = min(DECAY, (1 + step) / (10 + step))
        expected = share * expected + (1 - share) * weight
    assert len(seen) == 5
    np.testing.assert_allclose(regressor.head.weight.detach().numpy(), expected, rtol=1e-5)
    assert not np.allclose(expected, seen[-1], rtol=1e-3)


def test_predictions_and_scores_are_the_averages() -> None:
    data, regressor = texts(), model()
    result, _ = fitted(regressor, data, AVERAGED)
    np.testing.assert_allclose(predict(regressor, data), result.dev_predictions, atol=1e-6)


def test_training_itself_does_not_see_the_average() -> None:
    """The points of the training curves are those of training without it."""
    data = texts()
    (_, plain), (_, with_average) = (
        fitted(model(), data, FAST.model_copy(update={"ema_decay": decay}))
        for decay in (None, DECAY)
    )
    curves = [
        [v["train/loss"] for _, v in points if "train/loss" in v]
        for points in (plain, with_average)
    ]
    assert curves[0] == curves[1]


def test_a_collapsed_run_keeps_the_average_that_it_was_scored_with() -> None:
    data, regressor = texts(), model()
    result, _ = fitted(regressor, data, AVERAGED, scores=lambda p: {})
    assert result.best_epoch is None
    np.testing.assert_allclose(predict(regressor, data), result.dev_predictions, atol=1e-6)


def test_the_model_has_its_own_weights_back_whatever_happens() -> None:
    layer = nn.Linear(2, 1)
    own = layer.weight.detach().clone()
    average = {"weight": torch.zeros_like(own)}

    def fail_inside() -> None:
        with averaged(layer, average):
            assert not layer.weight.any()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert torch.equal(layer.weight, own)
    assert not average["weight"].any()


def test_a_weight_that_stays_is_its_own_average() -> None:
    layer = nn.Linear(2, 1)
    average = {"weight": torch.zeros_like(layer.weight)}
    for step in range(1, 400):
        update_average(average, layer, step, 0.9)
    torch.testing.assert_close(average["weight"], layer.weight.detach())


def test_the_share_rises_to_the_setting() -> None:
    shares = [decay_at(step, 0.9) for step in range(1, 200)]
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(2 / 11)
    assert shares[-1] == 0.9
