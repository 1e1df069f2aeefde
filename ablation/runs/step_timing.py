"""Measure the time and memory of a few real training steps on this machine."""

import time
from typing import Final

import numpy as np

from ablation.config.schema import RunConfig
from ablation.data.seeding import seed_for
from ablation.data.splits import Split
from ablation.runs.costs import Cost
from ablation.training.batching import Texts, collate, epoch_batches
from ablation.training.evaluation import predict
from ablation.training.freezing import count_parameters
from ablation.training.frozen_cache import FrozenLayerCache, attach_cached_hidden
from ablation.training.optimizer import make_optimizer
from ablation.training.step import train_step
from ablation.training.train_run import Prepared, fresh_model, peak_memory

MEASURED_STEPS: Final = 2
MEASURED_ROWS: Final = 64


def time_steps(prepared: Prepared, config: RunConfig, split: Split) -> Cost:
    """Train a throw-away model for a few steps, the largest batch first, and predict some rows.

    Args:
        prepared: The tokenised corpus with its encoder.
        config: The settings of the run whose cost is asked for.
        split: Its split; only training rows are used.

    Returns:
        Seconds a token, the peak memory of this process, and the size of a run's weights.
    """
    texts = prepared.train.take(split.train)
    model = fresh_model(prepared, config, split, seed=0)
    optimizer = make_optimizer(model, config.optimisation)
    device = next(model.parameters()).device
    batches = epoch_batches(texts, config.optimisation.batch_size, seed_for("order", 0, 0))
    tokens = np.array([texts.lengths[indices].sum() for indices in batches])

    def with_cached_hidden(rows: np.ndarray) -> Texts:
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

    largest = with_cached_hidden(batches[int(tokens.argmax())])
    timed = list(range(min(MEASURED_STEPS, len(batches))))
    steps = [with_cached_hidden(batches[number]) for number in timed]
    began = time.perf_counter()
    sample = with_cached_hidden(np.arange(min(MEASURED_ROWS, len(texts))))
    cache_s = (
        (time.perf_counter() - began) / int(sample.lengths.sum())
        if sample.hidden is not None
        else 0.0
    )
    model.train()
    step(largest, 0)  # not timed: the first step also allocates
    began = time.perf_counter()
    for number, rows in zip(timed, steps, strict=True):
        step(rows, number)
    train_s = (time.perf_counter() - began) / tokens[timed].sum()
    began = time.perf_counter()
    predict(model, sample, config.optimisation.precision)
    return Cost(
        float(train_s),
        (time.perf_counter() - began) / int(sample.lengths.sum()),
        peak_memory(),
        cache_s,
        4 * count_parameters(model).trainable + 8 * len(prepared.vocabulary.kept),
    )
