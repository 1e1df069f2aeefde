"""What a training loop carries from one epoch to the next, and how it is put away and taken up again.

Batches and dropout are seeded by epoch, so no generator's state is part of it: with the same state an
epoch ends in the same weights, points and predictions, to the bit, whichever process runs it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ablation.training.batching import Batch
from ablation.training.checkpoints import Checkpoint
from ablation.training.evaluation import pearson
from ablation.training.model import IntimacyRegressor


@dataclass
class Window:
    """What happened since the last point of the training curves."""

    predictions: list[np.ndarray] = field(default_factory=list)
    labels: list[np.ndarray] = field(default_factory=list)
    totals: dict[str, list[float]] = field(default_factory=dict)

    def add(self, prediction: torch.Tensor, batch: Batch, values: Mapping[str, float]) -> None:
        self.predictions.append(prediction.detach().float().cpu().numpy())
        self.labels.append(batch.label.cpu().numpy())
        for name, value in values.items():
            self.totals.setdefault(name, []).append(value)

    def point(self) -> dict[str, float]:
        """Means since the last point, and the Pearson over all rows since then (Figures 4 and 5)."""
        values = {name: float(np.mean(each)) for name, each in self.totals.items()}
        r = pearson(np.concatenate(self.predictions), np.concatenate(self.labels))
        return values if r is None else values | {"train/pearson": r}


@dataclass(frozen=True)
class Best:
    """The epoch with the highest development Pearson so far: its figures, predictions (rows,) and trained weights."""

    epoch: int
    figures: dict[str, float]
    predictions: np.ndarray
    weights: dict[str, torch.Tensor]


@dataclass
class TrainingState:
    """After `epoch` epochs: counts, the curves' points so far (step or epoch, values), and the best epoch.

    `seconds` are those of the processes that trained it before.
    """

    epoch: int = 0
    step: int = 0
    tokens: int = 0
    skipped: int = 0
    seconds: float = 0.0
    points: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    window: Window = field(default_factory=Window)
    best: Best | None = None


def to_checkpoint(
    state: TrainingState,
    model: IntimacyRegressor,
    optimizer: Optimizer,
    schedule: LRScheduler,
    seconds: float,
) -> Checkpoint:
    """All of it as a checkpoint, on the CPU, independent of what training does next; `seconds` are all that were trained."""
    tensors = {f"model/{name}": value for name, value in trained_weights(model).items()}
    inner = optimizer.state_dict()
    for index, values in inner["state"].items():
        tensors |= {
            f"optimizer/{index}/{name}": torch.as_tensor(value).detach().clone()
            for name, value in values.items()
        }
    for name, arrays in (
        ("predictions", state.window.predictions),
        ("labels", state.window.labels),
    ):
        tensors |= {
            f"window/{name}/{i}": torch.from_numpy(array.copy()) for i, array in enumerate(arrays)
        }
    if state.best is not None:
        tensors |= {f"best/weights/{name}": value for name, value in state.best.weights.items()}
        tensors["best/predictions"] = torch.from_numpy(state.best.predictions.copy())
    plain = {
        "step": state.step,
        "tokens": state.tokens,
        "skipped": state.skipped,
        "seconds": seconds,
        "points": list(state.points),
        "window": {name: list(each) for name, each in state.window.totals.items()},
        "schedule": _plain(schedule.state_dict()),
        "rates": [group["lr"] for group in optimizer.param_groups],
        "best": None
        if state.best is None
        else {"epoch": state.best.epoch, "figures": state.best.figures},
    }
    return Checkpoint(state.epoch, {name: value.cpu() for name, value in tensors.items()}, plain)


def restore(
    checkpoint: Checkpoint, model: IntimacyRegressor, optimizer: Optimizer, schedule: LRScheduler
) -> TrainingState:
    """Put the model, the optimizer and the schedule back to where they were; returns the rest."""
    plain, tensors = checkpoint.state, checkpoint.tensors
    weights = _below("model", tensors)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(weights[name])
    schedule.load_state_dict(
        {**plain["schedule"], "lr_lambdas": [None] * len(optimizer.param_groups)}
    )
    inner = optimizer.state_dict()
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in _below("optimizer", tensors).items():
        index, _, name = key.partition("/")
        moments.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**inner, "state": moments})
    for group, rate in zip(optimizer.param_groups, plain["rates"], strict=True):
        group["lr"] = rate
    best = None
    if plain["best"] is not None:
        kept = {
            name: value.to(next(model.parameters()).device)
            for name, value in _below("best/weights", tensors).items()
        }
        best = Best(
            plain["best"]["epoch"],
            plain["best"]["figures"],
            tensors["best/predictions"].numpy(),
            kept,
        )
    window = Window(
        _arrays("window/predictions", tensors), _arrays("window/labels", tensors), plain["window"]
    )
    points = [(int(step), dict(values)) for step, values in plain["points"]]
    return TrainingState(
        checkpoint.epoch,
        plain["step"],
        plain["tokens"],
        plain["skipped"],
        plain["seconds"],
        points,
        window,
        best,
    )


def trained_weights(model: IntimacyRegressor) -> dict[str, torch.Tensor]:
    """A copy of what training changes; frozen parameters are as they were."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def _plain(state: Mapping[str, object]) -> dict[str, object]:
    """The schedule's numbers; its functions are made anew from the settings."""
    return {
        name: value
        for name, value in state.items()
        if isinstance(value, bool | int | float | list) and name != "lr_lambdas"
    }


def _below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(f"{prefix}/"): value
        for name, value in tensors.items()
        if name.startswith(f"{prefix}/")
    }


def _arrays(prefix: str, tensors: Mapping[str, torch.Tensor]) -> list[np.ndarray]:
    found = _below(prefix, tensors)
    return [found[str(i)].numpy() for i in range(len(found))]
