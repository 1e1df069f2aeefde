"""How long a plan will take and how much memory, measured from a few real steps on this machine."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from ablation.batching import Texts, collate, epoch_batches
from ablation.config import RunConfig
from ablation.evaluation import predict
from ablation.experiment import Prepared, fresh_model, peak_memory
from ablation.frozen import FrozenOutputs, with_outputs
from ablation.identity import RunKey
from ablation.seeding import seed_for
from ablation.splits import Split, make_split
from ablation.training import make_optimizer, train_step

MEASURED_STEPS: Final = 3
MEASURED_ROWS: Final = 128


@dataclass(frozen=True)
class Cost:
    """Seconds for one token trained and one predicted, and the peak memory of a large batch in bytes.

    `keep_token_s`: seconds for one token's frozen outputs, which the first run of a kind computes for the others.
    """

    train_token_s: float
    predict_token_s: float
    memory_bytes: int
    keep_token_s: float = 0.0


def measure(prepared: Prepared, config: RunConfig, split: Split) -> Cost:
    """Train a throw-away model for a few steps, the largest batch first, and predict some rows."""
    texts = prepared.train.take(split.train)
    model = fresh_model(prepared, config, split, seed=0)
    optimizer = make_optimizer(model, config.optimisation)
    device = next(model.parameters()).device
    batches = epoch_batches(texts, config.optimisation.batch_size, seed_for("order", 0, 0))
    tokens = np.array([texts.lengths[indices].sum() for indices in batches])

    def kept(rows: np.ndarray) -> Texts:
        return with_outputs(FrozenOutputs(), "sample", model, texts.take(rows), config.optimisation.precision)

    def step(rows: Texts, number: int) -> None:
        train_step(model, collate(rows, np.arange(len(rows)), device), optimizer, config.optimisation, config.loss, number)

    largest = kept(batches[int(tokens.argmax())])
    measured = list(range(min(MEASURED_STEPS, len(batches))))
    steps = [kept(batches[number]) for number in measured]
    began = time.perf_counter()
    sample = kept(np.arange(min(MEASURED_ROWS, len(texts))))
    keep_s = (time.perf_counter() - began) / int(sample.lengths.sum()) if sample.hidden is not None else 0.0
    model.train()
    step(largest, 0)  # not timed: the first step also allocates
    began = time.perf_counter()
    for number, rows in zip(measured, steps, strict=True):
        step(rows, number)
    train_s = (time.perf_counter() - began) / tokens[measured].sum()
    began = time.perf_counter()
    predict(model, sample, config.optimisation.precision)
    return Cost(float(train_s), (time.perf_counter() - began) / int(sample.lengths.sum()), peak_memory(), keep_s)


def cost_class(config: RunConfig) -> tuple[object, ...]:
    """Runs with equal classes cost the same for each token."""
    frozen = config.model.freeze_layers if config.model.frozen_tuning else None
    optimisation = config.optimisation
    return (
        *config.model.model_dump().values(),
        frozen,
        optimisation.batch_size,
        optimisation.micro_batch,
        optimisation.precision,
    )


def run_seconds(prepared: Prepared, config: RunConfig, split: Split, cost: Cost) -> float:
    """What one run takes: all epochs with their development rows, and the test rows once."""
    lengths = prepared.train.lengths
    epochs = config.optimisation.epochs
    trained = epochs * lengths[split.train].sum()
    predicted = epochs * lengths[split.dev].sum() + _tokens(prepared.test)
    return float(trained * cost.train_token_s + predicted * cost.predict_token_s)


def estimate(prepared: Prepared, runs: Iterable[tuple[RunKey, RunConfig]], known: dict[tuple[object, ...], Cost]) -> list[float]:
    """Seconds for each run; costs that are not yet in `known` are measured and put there.

    The run that a cost is measured for also bears what it leaves to the later ones: frozen layers' outputs.
    """
    seconds = []
    for key, config in runs:
        split = make_split(prepared.corpus, key.split, config.data.split_seed)
        once = 0.0
        if cost_class(config) not in known:
            cost = known[cost_class(config)] = measure(prepared, config, split)
            once = cost.keep_token_s * (_tokens(prepared.train) + _tokens(prepared.test))
        seconds.append(once + run_seconds(prepared, config, split, known[cost_class(config)]))
    return seconds


def _tokens(texts: Texts | None) -> int:
    return 0 if texts is None else int(texts.lengths.sum())
