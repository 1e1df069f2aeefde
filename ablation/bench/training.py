"""Training throughput against Hugging Face's `Trainer`, after both were seen to give the same losses."""

import time
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from ablation.bench import trainer
from ablation.bench.matmul_peak import bfloat16_pays, matrix_rate
from ablation.bench.table import Row, ratios
from ablation.bench.trainer import Timing, padded_regressor, train
from ablation.bench.workload import (
    Workload,
    floating_point_operations,
    half_frozen,
    in_bfloat16,
    our_model,
)
from ablation.core.errors import RunError
from ablation.training.batching import collate
from ablation.training.frozen_cache import FrozenLayerCache, attach_cached_hidden
from ablation.training.loop import Hooks, fit, make_optimizer, make_schedule, train_step
from ablation.training.train_run import choose_device

#: How far two losses of the same step may be apart, relatively: rounding, grown over a few steps of AdamW.
ROUNDING: Final = 1e-4
_EQUALITY_STEPS: Final = 3
#: Steps of the padded way that are timed a round: they all cost the same.
_PADDED_STEPS: Final = 2


@dataclass(frozen=True)
class Targets:
    """To reach against the padded way and the best one, and as a share of the device's matrix rate."""

    padded: float
    best: float
    frozen_padded: float
    frozen_best: float
    matrix_share: float


TARGETS: Final = {"cpu": Targets(10, 2, 16, 3, 0.60), "cuda": Targets(5, 1.5, 5, 1.5, 0.45)}


def train_ours(workload: Workload) -> Timing:
    """One epoch as a run trains it. Frozen layers' outputs are computed once a run: their time is spread over its epochs."""
    model = our_model(workload)
    optimisation = workload.config.optimisation
    began = time.perf_counter()
    texts = attach_cached_hidden(
        FrozenLayerCache(), "train", model, workload.texts, optimisation.precision
    )
    keeping = (time.perf_counter() - began) / optimisation.epochs
    done: list[float] = []

    def on_step(step: int, total: int) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        done.append(time.perf_counter())

    began = time.perf_counter()
    fit(
        model,
        texts,
        texts.take(np.arange(1)),
        optimisation=optimisation.model_copy(update={"epochs": 1}),
        loss=workload.config.loss,
        seed=0,
        dev_scores=lambda predictions: {},
        hooks=Hooks(on_step=on_step),
    )
    return Timing(len(texts), int(texts.lengths.sum()), done[-1] - began + keeping)


def loss_differences(workload: Workload, steps: int = _EQUALITY_STEPS) -> list[float]:
    """How far this suite's losses lie from the `Trainer`'s on the same batches, relatively, step by step; without dropout.

    Warm-up and rates of the head's or a layer's own are left out, which the `Trainer` has not by itself.
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
    theirs: list[float] = []
    train(
        some,
        "best",
        in_order=True,
        steps=steps,
        model=padded_regressor(some, dropout=0.0),
        on_loss=theirs.append,
    )
    model = our_model(some, dropout=0.0)
    model.train()
    optimizer = make_optimizer(model, optimisation)
    schedule = make_schedule(optimizer, optimisation, steps)
    ours = []
    for step in range(steps):
        rows = np.arange(len(some.texts))[step * some.batch_size : (step + 1) * some.batch_size]
        batch = collate(some.texts, rows, choose_device())
        _, values, _ = train_step(model, batch, optimizer, optimisation, some.config.loss, step)
        schedule.step()
        ours.append(values["train/loss"])
    return [abs(a - b) / max(abs(b), 1e-9) for a, b in zip(ours, theirs, strict=True)]


def measure_training(workload: Workload, rounds: int, *, frozen: bool) -> list[Row]:
    """The rows of ordinary or of frozen tuning. Raises RunError if losses differ by more than rounding.

    The `Trainer` at its best takes bfloat16 where that pays on the device. This suite is then measured in it too.
    """
    workload = half_frozen(workload) if frozen else workload
    worst = max(loss_differences(workload))
    if worst > ROUNDING:
        raise RunError(
            f"the Trainer's losses differ by {worst:.2g} of their size: there is nothing to compare"
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
        mine: list[Timing], rates: list[float], theirs: list[Timing], target: float, words: str
    ) -> Row:
        measured = ratios([t.texts_per_second for t in mine], [t.texts_per_second for t in theirs])
        ceiling = np.median(
            [rate / per_text / t.texts_per_second for rate, t in zip(rates, theirs, strict=True)]
        )
        return Row(
            section,
            f"{name}, texts a second against the {words}",
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
        what = f"share of the device's own {'bfloat16' if precision == torch.bfloat16 else 'float32'} matrix rate"
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
