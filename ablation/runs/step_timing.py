"""What steps of training cost, in time and memory: a few real ones on this machine. `ablation.runs.costs` makes estimates of it."""

import time
from typing import Final

import numpy as np

from ablation.config.schema import RunConfig
from ablation.data.seeding import seed_for
from ablation.data.splits import Split
from ablation.runs.costs import Cost
from ablation.training.batching import Texts, collate, epoch_batches
from ablation.training.evaluation import predict
from ablation.training.frozen_cache import FrozenLayerCache, attach_cached_hidden
from ablation.training.optimizer import make_optimizer
from ablation.training.step import train_step
from ablation.training.train_run import Prepared, fresh_model, peak_memory

MEASURED_STEPS: Final = 2
MEASURED_ROWS: Final = 64


def time_steps(prepared: Prepared, config: RunConfig, split: Split) -> Cost:
    """Train a throw-away model for a few steps, the largest batch first, and predict some rows."""
    texts = prepared.train.take(split.train)
    model = fresh_model(prepared, config, split, seed=0)
    optimizer = make_optimizer(model, config.optimisation)
    device = next(model.parameters()).device
    batches = epoch_batches(texts, config.optimisation.batch_size, seed_for("order", 0, 0))
    tokens = np.array([texts.lengths[indices].sum() for indices in batches])

    def kept(rows: np.ndarray) -> Texts:
        return attach_cached_hidden(
            FrozenLayerCache(), "sample", model, texts.take(rows), config.optimisation.precision
        )

    def step(rows: Texts, number: int) -> None:
        train_step(
            model,
            collate(rows, np.arange(len(rows)), device),
            optimizer,
            config,
            number,
        )

    largest = kept(batches[int(tokens.argmax())])
    measured = list(range(min(MEASURED_STEPS, len(batches))))
    steps = [kept(batches[number]) for number in measured]
    began = time.perf_counter()
    sample = kept(np.arange(min(MEASURED_ROWS, len(texts))))
    keep_s = (
        (time.perf_counter() - began) / int(sample.lengths.sum())
        if sample.hidden is not None
        else 0.0
    )
    model.train()
    step(largest, 0)  # not timed: the first step also allocates
    began = time.perf_counter()
    for number, rows in zip(measured, steps, strict=True):
        step(rows, number)
    train_s = (time.perf_counter() - began) / tokens[measured].sum()
    began = time.perf_counter()
    predict(model, sample, config.optimisation.precision)
    return Cost(
        float(train_s),
        (time.perf_counter() - began) / int(sample.lengths.sum()),
        peak_memory(),
        keep_s,
    )
