"""The state that training carries from one epoch to the next, to a checkpoint and back.

Batches and dropout are seeded for each epoch, so the state holds no random generator. From the same
state, an epoch ends in the same weights, points and predictions, bit for bit, in any process.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ablation.training.batching import Batch
from ablation.training.checkpoints import Checkpoint
from ablation.training.evaluation import pearson
from ablation.training.model import IntimacyRegressor


@dataclass
class MetricWindow:
    """Predictions, labels and metrics of the steps since the last point of the training curves."""

    predictions: list[np.ndarray] = field(default_factory=list)
    labels: list[np.ndarray] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(
        self, prediction: Float[Tensor, " batch"], batch: Batch, metrics: Mapping[str, float]
    ) -> None:
        """Add one step."""
        self.predictions.append(prediction.numpy())
        self.labels.append(batch.label.numpy())
        for name, value in metrics.items():
            self.values.setdefault(name, []).append(value)

    def point(self) -> dict[str, float]:
        """Return the mean of each metric, and Pearson's r over all rows (Figures 4 and 5)."""
        means = {name: float(np.mean(values)) for name, values in self.values.items()}
        r = pearson(np.concatenate(self.predictions), np.concatenate(self.labels))
        return means if r is None else means | {"train/pearson": r}


@dataclass(frozen=True)
class BestEpoch:
    """The epoch with the highest development Pearson so far, and the weights that it trained."""

    epoch: int
    metrics: dict[str, float]
    predictions: Float[np.ndarray, " rows"]
    weights: dict[str, Tensor]


@dataclass
class TrainingState:
    """Counts, curve points (step or epoch, metrics) and best epoch after `epoch` epochs.

    `seconds` were spent by earlier processes that were killed; `predictions` are those of each
    epoch on the development rows; `average` is that of the trained weights, if one is taken.
    """

    epoch: int = 0
    step: int = 0
    tokens: int = 0
    skipped: int = 0
    seconds: float = 0.0
    points: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    window: MetricWindow = field(default_factory=MetricWindow)
    best: BestEpoch | None = None
    predictions: list[Float[np.ndarray, " rows"]] = field(default_factory=list)
    average: dict[str, Tensor] | None = None


def to_checkpoint(
    state: TrainingState,
    model: IntimacyRegressor,
    optimizer: Optimizer,
    schedule: LRScheduler,
    seconds: float,
) -> Checkpoint:
    """Put everything that training needs to continue into a checkpoint on the CPU.

    Where model and optimizer are on the CPU, the tensors are their own: write them before they
    change.

    Args:
        state: The state after a completed epoch.
        model: The model; only its trained weights are stored.
        optimizer: The optimizer, whose moments and learning rates are stored.
        schedule: The learning-rate schedule.
        seconds: Seconds of training so far, those of earlier processes included.
    """
    tensors = {
        f"model/{name}": p.detach() for name, p in model.named_parameters() if p.requires_grad
    }
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {
            f"optimizer/{index}/{name}": torch.as_tensor(value).detach()
            for name, value in moments.items()
        }
    window = {"predictions": state.window.predictions, "labels": state.window.labels}
    for name, arrays in window.items():
        tensors |= {
            f"window/{name}/{i}": torch.from_numpy(array.copy()) for i, array in enumerate(arrays)
        }
    tensors |= {
        f"epochs/{i}": torch.from_numpy(array.copy()) for i, array in enumerate(state.predictions)
    }
    tensors |= {f"average/{name}": value for name, value in (state.average or {}).items()}
    best = None
    if state.best is not None:
        tensors |= {f"best/weights/{name}": value for name, value in state.best.weights.items()}
        tensors["best/predictions"] = torch.from_numpy(state.best.predictions.copy())
        best = {"epoch": state.best.epoch, "metrics": state.best.metrics}
    plain = {
        "step": state.step,
        "tokens": state.tokens,
        "skipped": state.skipped,
        "seconds": seconds,
        "points": list(state.points),
        "window": {name: list(values) for name, values in state.window.values.items()},
        "schedule": _numbers_of(schedule),
        "rates": [group["lr"] for group in optimizer.param_groups],
        "best": best,
    }
    return Checkpoint(state.epoch, {name: value.cpu() for name, value in tensors.items()}, plain)


def restore(
    checkpoint: Checkpoint, model: IntimacyRegressor, optimizer: Optimizer, schedule: LRScheduler
) -> TrainingState:
    """Undo `to_checkpoint`: set `model`, `optimizer` and `schedule` in place, return the state.

    All three must have been made from the settings that the checkpoint was trained with.
    """
    plain, tensors = checkpoint.state, checkpoint.tensors
    weights = _below("model", tensors)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(weights[name])
    schedule.load_state_dict(
        {**plain["schedule"], "lr_lambdas": [None] * len(optimizer.param_groups)}
    )
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in _below("optimizer", tensors).items():
        index, _, name = key.partition("/")
        moments.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    for group, rate in zip(optimizer.param_groups, plain["rates"], strict=True):
        group["lr"] = rate
    device = next(model.parameters()).device
    average = {name: value.to(device) for name, value in _below("average", tensors).items()}
    best = None
    if plain["best"] is not None:
        best = BestEpoch(
            plain["best"]["epoch"],
            plain["best"]["metrics"],
            tensors["best/predictions"].numpy(),
            {name: value.to(device) for name, value in _below("best/weights", tensors).items()},
        )
    return TrainingState(
        epoch=checkpoint.epoch,
        step=plain["step"],
        tokens=plain["tokens"],
        skipped=plain["skipped"],
        seconds=plain["seconds"],
        points=[(int(step), dict(metrics)) for step, metrics in plain["points"]],
        window=MetricWindow(
            _arrays("window/predictions", tensors),
            _arrays("window/labels", tensors),
            plain["window"],
        ),
        best=best,
        predictions=_arrays("epochs", tensors),
        average=average or None,
    )


def trained_weights(
    model: IntimacyRegressor, into: dict[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Return a copy of the parameters that train, by name; in the tensors of `into` if given."""
    trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    if into is None:
        return {name: value.clone() for name, value in trained.items()}
    for name, value in trained.items():
        into[name].copy_(value)
    return into


def _numbers_of(schedule: LRScheduler) -> dict[str, object]:
    """Return the schedule's state without its functions, which are made again from the settings."""
    return {
        name: value
        for name, value in schedule.state_dict().items()
        if isinstance(value, bool | int | float | list) and name != "lr_lambdas"
    }


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix/`, by the rest of their names."""
    return {
        name.removeprefix(f"{prefix}/"): value
        for name, value in tensors.items()
        if name.startswith(f"{prefix}/")
    }


def _arrays(prefix: str, tensors: Mapping[str, Tensor]) -> list[np.ndarray]:
    """Return the arrays `prefix/0`, `prefix/1` and so on."""
    arrays = _below(prefix, tensors)
    return [arrays[str(i)].numpy() for i in range(len(arrays))]
