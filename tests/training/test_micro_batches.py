"""Micro-batches: the same loss and gradients with less memory, and too little memory."""

from pathlib import Path

import pytest
import torch

from ablation.config.overrides import resolve_config
from ablation.config.schema import LossConfig, RunConfig
from ablation.core.errors import RunError, UsageError
from ablation.runs.request import RunRequest, resolve_run
from ablation.runs.runner import run_plan
from ablation.training import train_run
from ablation.training.freezing import freeze
from ablation.training.loop import Hooks, TrainingData, fit
from ablation.training.model import Output
from studies.curves import CurvesRequest, resolve_curves
from tests.runs.test_runner import quiet
from tests.training.test_loop import FAST, model, texts

WHOLE = FAST.model_copy(update={"batch_size": 16, "log_every": 1})
LOSSES = {
    "mse": LossConfig(),
    "ccc": LossConfig(regression="ccc"),
    "epm+cl": LossConfig(regression="epm", contrastive="as_printed"),
    "epm+cl(attract)": LossConfig(regression="epm", contrastive="attract", contrastive_weight=0.3),
}


@pytest.mark.parametrize("frozen", [None, 2])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("size", [5, 8])
def test_losses_and_weights_are_those_of_whole_batches(
    loss: str, size: int, frozen: int | None
) -> None:
    """Step by step, without dropout, whose masks depend on how many texts are run at a time."""
    data, points = texts(32), {}
    trained = {}
    for micro_batch in (None, size):
        regressor = trained[micro_batch] = model(dropout=0.0)
        if frozen is not None:
            freeze(regressor, frozen)
        told: list[dict[str, float]] = []
        fit(
            regressor,
            TrainingData(data, data, lambda p: {}),
            RunConfig(
                loss=LOSSES[loss],
                optimisation=WHOLE.model_copy(update={"micro_batch": micro_batch}),
            ),
            seed=0,
            hooks=Hooks(on_point=lambda values, step, told=told: told.append(dict(values))),
        )
        points[micro_batch] = told
    for whole, pieces in zip(points[None], points[size], strict=True):
        assert pieces == pytest.approx(whole, rel=2e-4, abs=2e-5)
    for a, b in zip(trained[None].parameters(), trained[size].parameters(), strict=True):
        assert torch.allclose(a, b, rtol=2e-3, atol=2e-5)


def test_both_passes_over_a_piece_see_the_same_dropout() -> None:
    data, seen, regressor = texts(16), list[Output](), model(dropout=0.5)
    regressor.register_forward_hook(lambda module, inputs, output: seen.append(output))
    one = WHOLE.model_copy(update={"epochs": 1, "micro_batch": 6})
    fit(
        regressor,
        TrainingData(data, data, lambda p: {}),
        RunConfig(loss=LOSSES["epm+cl"], optimisation=one),
        seed=0,
    )
    first, second = seen[:3], seen[3:6]
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.prediction, b.prediction)
        assert not torch.equal(a.prediction, seen[1].prediction) or a is seen[1]
    assert not first[0].prediction.requires_grad
    assert second[0].prediction.requires_grad


def test_a_gpu_that_is_too_small_fails_the_run_and_says_what_to_do(
    small_corpus: Path, store_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(train_run, "fit", full)
    asked = RunRequest(
        data=str(small_corpus),
        profile="smoke",
        variants=("mse",),
        splits=("dev1",),
        tracking_uri=store_uri,
    )
    (outcome,) = run_plan(resolve_run(asked), quiet())
    assert outcome.state == "failed"
    assert outcome.reason == (
        "RunError: the GPU has too little memory for 64 texts at a time: "
        "try --set optimisation.micro_batch=32, which gives"
        " the same batches and losses"
    )


def test_half_of_what_was_tried_is_proposed() -> None:
    with (
        pytest.raises(
            RunError, match=r"for 8 texts at a time: try --set optimisation\.micro_batch=4,"
        ),
        train_run.explain_out_of_memory(resolve_config({"optimisation.micro_batch": 8})),
    ):
        raise torch.OutOfMemoryError


def test_a_curve_study_measures_whole_batches(small_corpus: Path, store_uri: str) -> None:
    with pytest.raises(UsageError, match="gradients of whole batches"):
        resolve_curves(
            CurvesRequest(
                data=str(small_corpus),
                profile="smoke",
                tracking_uri=store_uri,
                overrides={"optimisation.micro_batch": 4},
            )
        )
