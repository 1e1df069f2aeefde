"""Measure training throughput against Hugging Face's `Trainer`, once both give the same losses."""

import time
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from ablation.bench import trainer
from ablation.bench.table import Row, ratios
from ablation.bench.trainer import Timing, losses_in_order, padded_regressor, train
from ablation.bench.workload import (
    Workload,
    floating_point_operations,
    half_frozen,
    in_bfloat16,
    one_epoch,
    our_model,
)
from ablation.core.errors import RunError
from ablation.runs.matmul_peak import bfloat16_pays, matrix_rate
from ablation.training.batching import collate
from ablation.training.frozen_cache import FrozenLayerCache, attach_cached_hidden
from ablation.training.loop import Hooks, TrainingData, fit
from ablation.training.optimizer import make_optimizer, make_schedule
from ablation.training.step import train_step
from ablation.training.train_run import choose_device

#: The largest relative difference between two losses of a step: rounding, grown by AdamW's steps.
MAX_DIFFERENCE: Final = 1e-4
_EQUALITY_STEPS: Final = 3
#: Steps with padding that are timed a round: they all cost the same.
_PADDED_STEPS: Final = 2


@dataclass(frozen=True)
class Targets:
    """Ratios to reach against the padded and the best `Trainer`, and the matrix rate's share."""

    padded: float
    best: float
    frozen_padded: float
    frozen_best: float
    matrix_share: float


TARGETS: Final = {"cpu": Targets(10, 2, 16, 3, 0.60), "cuda": Targets(5, 1.5, 5, 1.5, 0.45)}


def train_ours(workload: Workload) -> Timing:
    """Train one epoch as a run does, and time it.

    Frozen layers' outputs are computed once a run: their time is spread over its epochs.
    """
    model = our_model(workload)
    optimisation = workload.config.optimisation
    began = time.perf_counter()
    texts = attach_cached_hidden(
        FrozenLayerCache(), "train", model, workload.texts, optimisation.precision
    )
    caching = (time.perf_counter() - began) / optimisation.epochs
    step_ends: list[float] = []

    def on_step(step: int, total: int) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        step_ends.append(time.perf_counter())

    began = time.perf_counter()
    fit(
        model,
        TrainingData(texts, texts.take(np.arange(1)), lambda p: {}),
        one_epoch(workload.config),
        seed=0,
        hooks=Hooks(on_step=on_step),
    )
    return Timing(len(texts), int(texts.lengths.sum()), step_ends[-1] - began + caching)


def loss_differences(workload: Workload, steps: int = _EQUALITY_STEPS) -> list[float]:
    """Return the relative difference of our loss and the `Trainer`'s at each step, without dropout.

    The batches are the same. There is one learning rate and no warm-up: the `Trainer` has neither
    rates by layer nor one for the head.
    """
    some = workload.first(steps * workload.batch_size)
    steps = -(-len(some.texts) // some.batch_size)
    one_rate = {
        "warmup": 0.0,
        "decay": "linear",
        "lr_head": some.config.optimisation.lr_encoder,
        "lr_layer_decay": 1.0,
    }
    optimisation = some.config.optimisation.model_copy(update={**one_rate, "precision": "float32"})
    config = some.config.model_copy(update={"optimisation": optimisation})
    theirs = losses_in_order(some, padded_regressor(some, dropout=0.0), steps)
    model = our_model(some, dropout=0.0)
    model.train()
    optimizer = make_optimizer(model, optimisation)
    schedule = make_schedule(optimizer, optimisation, steps)
    ours = []
    for step in range(steps):
        rows = np.arange(len(some.texts))[step * some.batch_size : (step + 1) * some.batch_size]
        batch = collate(some.texts, rows, choose_device())
        losses = train_step(model, batch, optimizer, config, step).metrics
        schedule.step()
        ours.append(losses["train/loss"])
    return [abs(a - b) / max(abs(b), 1e-9) for a, b in zip(ours, theirs, strict=True)]


def measure_training(workload: Workload, rounds: int, *, frozen: bool) -> list[Row]:
    """Return the table's rows for ordinary or for frozen tuning.

    The `Trainer` at its best uses bfloat16 if that is faster on the device. This suite is then
    measured in bfloat16 too.

    Args:
        workload: The texts and settings.
        rounds: The number of measurements.
        frozen: Freeze the embeddings and half of the layers.

    Raises:
        RunError: The losses differ by more than rounding.
    """
    workload = half_frozen(workload) if frozen else workload
    worst = max(loss_differences(workload))
    if worst > MAX_DIFFERENCE:
        raise RunError(
            f"the Trainer's losses differ by {worst:.2g} of their size: its speed can't be compared"
        )
    device = choose_device()
    targets = TARGETS[device.type]
    bfloat16 = bfloat16_pays(device)
    precision = (
        torch.bfloat16 if workload.config.optimisation.precision == "bfloat16" else torch.float32
    )
    low = in_bfloat16(workload) if bfloat16 and precision != torch.bfloat16 else None
    padded, best, ours, ours_low, rates, rates_low = (list[Any]() for _ in range(6))
    for _ in range(rounds):
        rates.append(matrix_rate(device, precision))
        ours.append(train_ours(workload))
        best.append(train(workload, "best", bfloat16=bfloat16))
        if low is not None:
            rates_low.append(matrix_rate(device, torch.bfloat16))
            ours_low.append(train_ours(low))
        some = workload.first((trainer.WARM_UP_STEPS + _PADDED_STEPS) * workload.batch_size)
        padded.append(train(some, "padded"))
    speed = {"ours": ours, "best": best, "padded": padded, "ours_in_bfloat16": ours_low}
    parts = {
        "texts_per_second": {
            name: [t.texts_per_second for t in timings] for name, timings in speed.items()
        },
        "matrix_rate": rates,
        "largest_loss_difference": worst,
        "bfloat16_of_the_best": bfloat16,
        "tokens_a_text": workload.tokens / len(workload.texts),
    }
    operations = floating_point_operations(workload)
    per_text = operations / len(workload.texts)
    section, name = (
        ("frozen", "frozen tuning, half of the layers") if frozen else ("training", "training")
    )

    def row(
        own: list[Timing], rates: list[float], theirs: list[Timing], target: float, against: str
    ) -> Row:
        measured = ratios([t.texts_per_second for t in own], [t.texts_per_second for t in theirs])
        ceiling = np.median(
            [rate / per_text / t.texts_per_second for rate, t in zip(rates, theirs, strict=True)]
        )
        return Row(
            section,
            f"{name}, texts a second against the {against}",
            measured,
            "x",
            "at least",
            target,
            f"{ceiling:.3g}x if training were nothing but matrix products",
            parts,
        )

    to_padded, to_best = (
        (targets.frozen_padded, targets.frozen_best) if frozen else (targets.padded, targets.best)
    )
    at_best = "Trainer at its best" + (", which is in bfloat16" if bfloat16 else "")
    rows = [
        row(
            ours,
            rates,
            padded,
            to_padded,
            f"Trainer padded to {workload.config.data.max_tokens} tokens",
        ),
        row(ours, rates, best, to_best, at_best),
    ]
    if low is not None:
        rows.append(
            row(ours_low, rates_low, best, to_best, "Trainer at its best, both in bfloat16")
        )
    if not frozen:
        share = tuple(operations / t.seconds / rate for t, rate in zip(ours, rates, strict=True))
        dtype = "bfloat16" if precision == torch.bfloat16 else "float32"
        what = f"share of the device's own {dtype} matrix rate"
        rows.append(
            Row(
                section,
                f"{what} reached in training, useful tokens",
                share,
                "%",
                "at least",
                targets.matrix_share,
            )
        )
    return rows
