"""The training loop: epochs of batches, the points of the training curves, and the best epoch."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ablation.config.schema import RunConfig, SelectBy
from ablation.data.seeding import seed_for
from ablation.training.averaging import averaged, update_average
from ablation.training.batching import Texts, collate, epoch_batches
from ablation.training.checkpoints import CheckpointWriter, load_latest
from ablation.training.cuda_graphs import release_graphs
from ablation.training.evaluation import ERRORS, predict
from ablation.training.model import IntimacyRegressor
from ablation.training.optimizer import make_optimizer, make_schedule
from ablation.training.step import OnTerms, StepResult, train_step
from ablation.training.training_state import (
    BestEpoch,
    MetricWindow,
    TrainingState,
    restore,
    to_checkpoint,
    trained_weights,
)

#: Receives metrics and their step (training points) or epoch (development points).
OnPoint = Callable[[Mapping[str, float], int], None]
#: Computes metrics from development predictions (rows,), with `pearson` among them if it exists,
#: and with `optimisation.select_by`.
DevScores = Callable[[np.ndarray], Mapping[str, float]]


@dataclass(frozen=True)
class Hooks:
    """Callbacks of `fit`. None of them changes what is learned.

    Attributes:
        on_point: Receives a point of the curves and its step or epoch.
        on_step: Receives the number of steps made and the number in all.
        on_epoch: Receives a completed epoch, counted from 1, and its development metrics.
        on_terms: Adds metrics to each training point.
        on_resume: Receives the epoch after which a killed run continues.
    """

    on_point: OnPoint = lambda metrics, step: None
    on_step: Callable[[int, int], None] = lambda done, total: None
    on_epoch: Callable[[int, Mapping[str, float]], None] = lambda epoch, metrics: None
    on_terms: OnTerms | None = None
    on_resume: Callable[[int], None] = lambda epoch: None


NO_HOOKS: Final = Hooks()


@dataclass(frozen=True)
class TrainingData:
    """The rows to train on, the rows to select the epoch on, and the metrics of the latter."""

    train: Texts
    dev: Texts
    dev_scores: DevScores


@dataclass(frozen=True)
class FitResult:
    """The best epoch, counted from 1, with its development metrics and predictions.

    `best_epoch` is None if no epoch has a development Pearson: the run collapsed to a constant, and
    metrics and predictions are those of the last epoch. `steps`, `tokens` and `skipped_contrastive`
    (steps whose batch has no contrastive term) count the whole training; `seconds_before` were
    spent by earlier processes that were killed. `epoch_predictions` are those of every epoch on the
    development rows.
    """

    best_epoch: int | None
    dev_scores: dict[str, float]
    dev_predictions: Float[np.ndarray, " rows"]
    steps: int
    tokens: int
    skipped_contrastive: int
    seconds_before: float = 0.0
    epoch_predictions: tuple[Float[np.ndarray, " rows"], ...] = ()


@dataclass
class _Session:
    """The objects that training changes, and how it reports."""

    model: IntimacyRegressor
    config: RunConfig
    optimizer: Optimizer
    schedule: LRScheduler
    total_steps: int
    hooks: Hooks
    state: TrainingState = field(default_factory=TrainingState)

    def emit(self, metrics: dict[str, float], at: int) -> None:
        """Add a point to the curves."""
        self.state.points.append((at, metrics))
        self.hooks.on_point(metrics, at)


def fit(
    model: IntimacyRegressor,
    data: TrainingData,
    config: RunConfig,
    *,
    seed: int,
    hooks: Hooks = NO_HOOKS,
    checkpoints: Path | None = None,
) -> FitResult:
    """Train `model` in place and leave it with the weights of its best epoch.

    With `optimisation.ema_decay` an epoch's weights are their average over the steps so far.

    The best epoch has the highest pooled development Pearson (or is best by another measure,
    `optimisation.select_by`), the first one if several are equal. An epoch without a Pearson, whose
    predictions are constant, is never the best; without any, the weights of the last epoch remain.

    Args:
        model: The model, on the device to train on.
        data: The rows.
        config: The loss and the optimisation; its other sections are not read.
        seed: Decides the order of the batches and the dropout, through independent streams.
        hooks: Callbacks.
        checkpoints: A folder for a checkpoint after each epoch but the last. If it already holds
            one, training continues from there to the same result, bit for bit, and `hooks` receive
            the earlier points again.

    Raises:
        NotFiniteError: A loss or gradient norm is not a finite number.
        RunError: A checkpoint can't be written.
        UsageError: A loss is unknown.
    """
    began = time.monotonic()
    session, order = _start(model, data.train, config, seed, hooks)
    if checkpoints is not None:
        _resume(session, checkpoints)
    state = session.state
    metrics: Mapping[str, float] = {}
    predictions = np.empty(0, dtype=np.float32)
    with contextlib.ExitStack() as stack:
        stack.callback(release_graphs, model)
        writer = None
        if checkpoints is not None:
            writer = stack.enter_context(contextlib.closing(CheckpointWriter(checkpoints)))
        for epoch, batches in enumerate(order[state.epoch :], start=state.epoch + 1):
            # Seeded for each epoch, so that an epoch does not depend on how earlier ones were run.
            torch.manual_seed(seed_for("dropout", seed, epoch))
            _train_epoch(session, data.train, batches)
            with averaged(model, state.average):
                predictions = predict(model, data.dev, config.optimisation.precision)
                state.predictions.append(predictions)
                metrics = data.dev_scores(predictions)
                session.emit({f"dev/{name}": value for name, value in metrics.items()}, epoch)
                if _is_better(metrics, state.best, config.optimisation.select_by):
                    weights = trained_weights(model, state.best.weights if state.best else None)
                    state.best = BestEpoch(epoch, dict(metrics), predictions, weights)
            state.epoch = epoch
            if writer is not None and epoch < len(order):
                seconds = state.seconds + time.monotonic() - began
                writer.save(
                    to_checkpoint(state, model, session.optimizer, session.schedule, seconds)
                )
            hooks.on_epoch(epoch, metrics)
        if writer is not None:
            writer.wait()
    counts = (state.step, state.tokens, state.skipped, state.seconds, tuple(state.predictions))
    if state.best is None:
        model.load_state_dict(state.average or {}, strict=False)
        return FitResult(None, dict(metrics), predictions, *counts)
    model.load_state_dict(state.best.weights, strict=False)
    return FitResult(state.best.epoch, state.best.metrics, state.best.predictions, *counts)


def _is_better(metrics: Mapping[str, float], best: BestEpoch | None, by: SelectBy) -> bool:
    """Return whether an epoch with these development metrics is better than the best so far."""
    if "pearson" not in metrics or by not in metrics:
        return False
    if best is None:
        return True
    gain = metrics[by] - best.metrics[by]
    return gain < 0 if by in ERRORS else gain > 0


def refit(
    model: IntimacyRegressor,
    train: Texts,
    config: RunConfig,
    *,
    seed: int,
    epochs: int,
    hooks: Hooks = NO_HOOKS,
    checkpoints: Path | None = None,
) -> None:
    """Train `model` in place for the first `epochs` epochs of its schedule, on all rows given.

    The learning rates are those of `fit`, which plans for all of `optimisation.epochs`. An epoch
    that development rows selected there is so reached as it was, with more rows.

    Args:
        model: The model, on the device to train on.
        train: The rows; none are held out.
        config: The loss and the optimisation.
        seed: As in `fit`.
        epochs: From 1 to `optimisation.epochs`.
        hooks: Callbacks.
        checkpoints: As in `fit`.

    Raises:
        NotFiniteError: A loss or gradient norm is not a finite number.
        RunError: A checkpoint can't be written.
    """
    session, order = _start(model, train, config, seed, hooks)
    if checkpoints is not None:
        _resume(session, checkpoints)
    state = session.state
    with contextlib.ExitStack() as stack:
        stack.callback(release_graphs, model)
        writer = None
        if checkpoints is not None:
            writer = stack.enter_context(contextlib.closing(CheckpointWriter(checkpoints)))
        for epoch, batches in enumerate(order[state.epoch : epochs], start=state.epoch + 1):
            torch.manual_seed(seed_for("dropout", seed, epoch))
            _train_epoch(session, train, batches)
            state.epoch = epoch
            if writer is not None and epoch < epochs:
                writer.save(to_checkpoint(state, model, session.optimizer, session.schedule, 0.0))
            hooks.on_epoch(epoch, {})
        if writer is not None:
            writer.wait()
    model.load_state_dict(state.average or {}, strict=False)


def _start(
    model: IntimacyRegressor, train: Texts, config: RunConfig, seed: int, hooks: Hooks
) -> tuple[_Session, list[list[np.ndarray]]]:
    """Make optimizer and schedule, and draw the batches of every epoch."""
    optimisation = config.optimisation
    order = [
        epoch_batches(train, optimisation.batch_size, seed_for("order", seed, epoch))
        for epoch in range(optimisation.epochs)
    ]
    total_steps = sum(map(len, order))
    optimizer = make_optimizer(model, optimisation)
    schedule = make_schedule(optimizer, optimisation, total_steps)
    session = _Session(model, config, optimizer, schedule, total_steps, hooks)
    if optimisation.ema_decay is not None:
        session.state.average = trained_weights(model)
    return session, order


def _resume(session: _Session, checkpoints: Path) -> None:
    """Continue from the latest checkpoint in the folder, if it holds one."""
    checkpoint = load_latest(checkpoints)
    if checkpoint is None:
        return
    session.state = restore(checkpoint, session.model, session.optimizer, session.schedule)
    for at, metrics in session.state.points:
        session.hooks.on_point(metrics, at)
    session.hooks.on_resume(session.state.epoch)


def _train_epoch(session: _Session, train: Texts, batches: Sequence[np.ndarray]) -> None:
    """Make a step for each batch of row indices, with a point of the curves every few steps."""
    state, optimizer, hooks = session.state, session.optimizer, session.hooks
    log_every = session.config.optimisation.log_every
    ema_decay = session.config.optimisation.ema_decay
    device = next(session.model.parameters()).device
    session.model.train()
    for indices in batches:
        batch = collate(train, indices, device)
        rates = {
            "lr/encoder": optimizer.param_groups[0]["lr"],
            "lr/head": optimizer.param_groups[-1]["lr"],
        }
        is_logged = (state.step + 1) % log_every == 0 or state.step + 1 == session.total_steps
        on_terms = hooks.on_terms if is_logged else None
        result = train_step(session.model, batch, optimizer, session.config, state.step, on_terms)
        session.schedule.step()
        state.step += 1
        if state.average is not None and ema_decay is not None:
            update_average(state.average, session.model, state.step, ema_decay)
        state.tokens += len(batch.ids)
        state.skipped += _lacks_contrastive(result, session.config)
        state.window.add(result.prediction, batch, result.metrics)
        if is_logged:
            session.emit({**state.window.point(), **rates, **result.term_metrics}, state.step)
            state.window = MetricWindow()
        hooks.on_step(state.step, session.total_steps)


def _lacks_contrastive(result: StepResult, config: RunConfig) -> bool:
    """Say if the variant has a contrastive term but Eq. 9 has no value for the batch."""
    return config.loss.contrastive != "none" and "train/loss_contrastive" not in result.metrics
