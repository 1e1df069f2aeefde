"""The training loop, and nothing else: batches, model, loss, optimizer, and the points of the curves."""

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_constant_schedule_with_warmup, get_linear_schedule_with_warmup

from ablation.config.schema import LossConfig, OptimisationConfig, Precision
from ablation.core.errors import RunError
from ablation.data.seeding import seed_for
from ablation.encoders.dropout import drawn_from
from ablation.encoders.loading import transformer_layers
from ablation.training.batching import Batch, Texts, collate, epoch_batches, merge, split_batch
from ablation.training.checkpoints import Saver, load
from ablation.training.evaluation import predict
from ablation.training.losses import LossTerms, total_loss
from ablation.training.model import IntimacyRegressor, Output
from ablation.training.parallel import map_threads, pieces_for
from ablation.training.precision import autocast
from ablation.training.training_state import (
    Best,
    TrainingState,
    Window,
    restore,
    to_checkpoint,
    trained_weights,
)

#: Receives named values and the step (training points) or epoch (development points) they belong to.
OnPoint = Callable[[Mapping[str, float], int], None]
#: Figures for a point of the curves from that step's loss terms: their graph is whole, the weights are those before the step.
#: Not asked where a batch is taken in pieces, whose graphs are gone.
OnTerms = Callable[[IntimacyRegressor, LossTerms], Mapping[str, float]]
#: Turns development predictions (rows,) into named figures, `pearson` among them where it exists.
DevScores = Callable[[np.ndarray], Mapping[str, float]]


@dataclass(frozen=True)
class Hooks:
    """What the loop tells while it runs: curve points, and (steps done, steps in all).

    `on_terms` adds figures of its own to each training point; `on_resume` hears after which epoch a
    killed run goes on. None of them changes what is learned.
    """

    on_point: OnPoint = lambda values, step: None
    on_step: Callable[[int, int], None] = lambda done, total: None
    on_epoch: Callable[[int, Mapping[str, float]], None] = lambda epoch, scores: None
    on_terms: OnTerms | None = None
    on_resume: Callable[[int], None] = lambda epoch: None


NO_HOOKS: Final = Hooks()


@dataclass(frozen=True)
class Fit:
    """The epoch (from 1) with the highest pooled development Pearson, and its predictions.

    `best_epoch` is None if no epoch had a Pearson at all: the run collapsed to a constant. The
    model is left with the best epoch's weights (the last epoch's, if there is no best one).
    `seconds_before` were spent by earlier processes that were killed.
    """

    best_epoch: int | None
    dev_scores: dict[str, float]
    dev_predictions: np.ndarray
    steps: int
    tokens: int
    skipped_contrastive: int
    seconds_before: float = 0.0


class NotFiniteError(RunError):
    """A loss or gradient that is not a finite number, and what the step was: see `ablation.runs.reproducer`.

    `step` counts from 1; `weights` are the trained parameters before it, `random_state` dropout's.
    """

    def __init__(
        self,
        message: str,
        *,
        step: int,
        batch: Batch,
        values: dict[str, float],
        weights: dict[str, torch.Tensor],
        random_state: torch.Tensor,
    ) -> None:
        super().__init__(message)
        self.step, self.batch, self.values, self.weights, self.random_state = (
            step,
            batch,
            values,
            weights,
            random_state,
        )


def fit(
    model: IntimacyRegressor,
    train: Texts,
    dev: Texts,
    *,
    optimisation: OptimisationConfig,
    loss: LossConfig,
    seed: int,
    dev_scores: DevScores,
    hooks: Hooks = NO_HOOKS,
    checkpoints: Path | None = None,
) -> Fit:
    """Train `model` in place and choose its best epoch by development Pearson (`selection: dev pearson`).

    `seed` decides the order of batches and dropout, each through a stream of its own. With a folder
    for `checkpoints`, each completed epoch is kept there, and a run whose process died goes on after
    the last one, to the same end to the bit; the points from before are told to `hooks` again. Raises
    RunError at the first loss or gradient that is not a number, naming the batch's rows, and for a
    checkpoint that can't be written.
    """
    device, began = next(model.parameters()).device, time.monotonic()
    order = [
        epoch_batches(train, optimisation.batch_size, seed_for("order", seed, e))
        for e in range(optimisation.epochs)
    ]
    total_steps = sum(map(len, order))
    optimizer = make_optimizer(model, optimisation)
    schedule = make_schedule(optimizer, optimisation, total_steps)
    state = TrainingState()
    if checkpoints is not None and (found := load(checkpoints)) is not None:
        state = restore(found, model, optimizer, schedule)
        for at, values in state.points:
            hooks.on_point(values, at)
        hooks.on_resume(state.epoch)

    def emit(values: dict[str, float], at: int) -> None:
        state.points.append((at, values))
        hooks.on_point(values, at)

    figures: Mapping[str, float] = {}
    predictions = np.empty(0, dtype=np.float32)
    with (
        contextlib.closing(Saver(checkpoints))
        if checkpoints is not None
        else contextlib.nullcontext() as saver
    ):
        for epoch, batches in enumerate(order[state.epoch :], start=state.epoch + 1):
            # Seeded anew each epoch, so that an epoch does not depend on how the one before was run.
            torch.manual_seed(seed_for("dropout", seed, epoch))
            model.train()
            for indices in batches:
                batch = collate(train, indices, device)
                rates = {
                    "lr/encoder": optimizer.param_groups[0]["lr"],
                    "lr/head": optimizer.param_groups[-1]["lr"],
                }
                is_logged = (
                    state.step + 1
                ) % optimisation.log_every == 0 or state.step + 1 == total_steps
                on_terms = hooks.on_terms if is_logged else None
                prediction, values, of_step = train_step(
                    model, batch, optimizer, optimisation, loss, state.step, on_terms
                )
                schedule.step()
                state.step += 1
                state.tokens += len(batch.ids)
                state.skipped += (
                    loss.contrastive != "none" and "train/loss_contrastive" not in values
                )
                state.window.add(prediction, batch, values)
                if is_logged:
                    emit({**state.window.point(), **rates, **of_step}, state.step)
                    state.window = Window()
                hooks.on_step(state.step, total_steps)
            predictions = predict(model, dev, optimisation.precision)
            figures = dev_scores(predictions)
            emit({f"dev/{name}": value for name, value in figures.items()}, epoch)
            r = figures.get("pearson")
            if r is not None and (state.best is None or r > state.best.figures["pearson"]):
                state.best = Best(epoch, dict(figures), predictions, trained_weights(model))
            state.epoch = epoch
            if saver is not None and epoch < len(
                order
            ):  # after the last one there is nothing to go on with
                saver.save(
                    to_checkpoint(
                        state, model, optimizer, schedule, state.seconds + time.monotonic() - began
                    )
                )
            hooks.on_epoch(epoch, figures)
        if saver is not None:
            saver.wait()
    counts = (state.step, state.tokens, state.skipped, state.seconds)
    if state.best is None:
        return Fit(None, dict(figures), predictions, *counts)
    model.load_state_dict(state.best.weights, strict=False)
    return Fit(state.best.epoch, state.best.figures, state.best.predictions, *counts)


def train_step(
    model: IntimacyRegressor,
    batch: Batch,
    optimizer: Optimizer,
    optimisation: OptimisationConfig,
    loss: LossConfig,
    step: int,
    on_terms: OnTerms | None = None,
) -> tuple[torch.Tensor, dict[str, float], Mapping[str, float]]:
    """One optimizer step; returns the predictions, the named values, and what `on_terms` made of the loss terms.

    `train/loss_contrastive` is among the values where Eq. 9 had a term. Raises RunError, before the
    weights change, for a loss or gradient that is not a finite number.
    """
    random_state = get_random_state(batch.ids.device)
    optimizer.zero_grad(set_to_none=True)
    figures: Mapping[str, float] = {}
    if optimisation.micro_batch is not None and len(batch.lengths) > optimisation.micro_batch:
        output, terms = grad_cache_step(
            model, batch, optimisation.micro_batch, optimisation.precision, loss
        )
    elif (pieces := pieces_for(model)) > 1:
        output, terms, figures = _forward_in_threads(
            model, batch, pieces, optimisation.precision, loss, on_terms
        )
    else:
        output = _forward(model, batch, optimisation.precision)
        terms = total_loss(output, batch.label, batch.language, loss)
        figures = {} if on_terms is None else on_terms(model, terms)
        terms.total.backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    norm = nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None])
    if norm > optimisation.max_grad_norm:  # else all gradients would be multiplied by one
        nn.utils.clip_grads_with_norm_(trained, optimisation.max_grad_norm, norm)
    values = {
        "train/loss": terms.total.item(),
        "train/loss_regression": terms.regression.item(),
        "train/grad_norm": norm.item(),
    }
    if terms.contrastive is not None:
        values["train/loss_contrastive"] = terms.contrastive.item()
    if bad := [name for name, value in values.items() if not math.isfinite(value)]:
        rows = ", ".join(map(str, batch.row[:8])) + (" ..." if len(batch.row) > 8 else "")
        message = f"{bad[0]} is not a finite number at step {step + 1} (training rows {rows})"
        weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
        raise NotFiniteError(
            message,
            step=step + 1,
            batch=batch,
            values=values,
            weights=weights,
            random_state=random_state,
        )
    optimizer.step()
    return output.prediction, values, figures


def _forward(model: IntimacyRegressor, batch: Batch, precision: Precision) -> Output:
    with autocast(batch.ids.device, precision):
        output: Output = model(batch.ids, batch.lengths, batch.hidden)
    return output


def _forward_in_threads(
    model: IntimacyRegressor,
    batch: Batch,
    pieces: int,
    precision: Precision,
    loss: LossConfig,
    on_terms: OnTerms | None,
) -> tuple[Output, LossTerms, Mapping[str, float]]:
    """The gradients of the whole batch's loss, from pieces that are run at once, a thread each."""

    def forward(piece: Batch, seed: int) -> Output:
        with drawn_from(seed):
            return _forward(model, piece, precision)

    dealt = split_batch(batch, pieces)
    # The pieces' dropout starts where the process's generator says, and so is repeated with it.
    outputs = map_threads(forward, dealt, torch.randint(2**62, (len(dealt),)).tolist())
    whole, terms, gradients = _by_outputs(outputs, batch, loss)
    figures: Mapping[str, float] = {}
    if on_terms is not None:  # asks for a graph that reaches the weights
        figures = on_terms(model, total_loss(_joined(outputs), batch.label, batch.language, loss))
    map_threads(_backward, outputs, gradients)
    return whole, terms, figures


def grad_cache_step(
    model: IntimacyRegressor, batch: Batch, size: int, precision: Precision, loss: LossConfig
) -> tuple[Output, LossTerms]:
    """The gradients of the whole batch's loss with `size` texts in memory at a time: exact, also for Eq. 9's pairs.

    Every piece is run twice. First without gradients, for the outputs that the loss is made of; then,
    with the same dropout, to carry the loss's gradient by these outputs further down (Gao et al.,
    2021, "Scaling deep contrastive learning batch size under memory limited setup").
    """
    device, dealt = batch.ids.device, split_batch(batch, -(-len(batch.lengths) // size))
    states, outputs = [], []
    with torch.no_grad():
        for piece in dealt:
            states.append(get_random_state(device))
            outputs.append(_forward(model, piece, precision))
    whole, terms, gradients = _by_outputs(outputs, batch, loss)
    for piece, state, by_output in zip(dealt, states, gradients, strict=True):
        set_random_state(device, state)
        _backward(_forward(model, piece, precision), by_output)
    return whole, terms


def _by_outputs(
    outputs: Sequence[Output], batch: Batch, loss: LossConfig
) -> tuple[Output, LossTerms, list[Sequence[torch.Tensor | None]]]:
    """The loss on the outputs of the batch's dealt pieces, and its gradients by those of each piece, None where it has none."""
    leaves = [Output(*(part.detach().requires_grad_() for part in each)) for each in outputs]
    whole = _joined(leaves)
    terms = total_loss(whole, batch.label, batch.language, loss)
    flat = torch.autograd.grad(
        terms.total, [part for leaf in leaves for part in leaf], allow_unused=True
    )
    return whole, terms, [flat[i : i + len(whole)] for i in range(0, len(flat), len(whole))]


def _joined(outputs: Sequence[Output]) -> Output:
    return Output(*map(merge, zip(*outputs, strict=True)))


def _backward(output: Output, gradients: Sequence[torch.Tensor | None]) -> None:
    """Add to the parameters' gradients what reaches them through `output`."""
    reached = [
        (part, gradient)
        for part, gradient in zip(output, gradients, strict=True)
        if gradient is not None
    ]
    torch.autograd.backward([part for part, _ in reached], [gradient for _, gradient in reached])


def get_random_state(device: torch.device) -> torch.Tensor:
    """Where dropout's stream of random numbers stands on `device` (uint8)."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def set_random_state(device: torch.device, state: torch.Tensor) -> None:
    """Go back to where `get_random_state` was; nothing for a state of another kind of device."""
    if state.shape == get_random_state(device).shape:
        torch.cuda.set_rng_state(state, device) if device.type == "cuda" else torch.set_rng_state(
            state
        )


def make_optimizer(model: IntimacyRegressor, optimisation: OptimisationConfig) -> AdamW:
    """AdamW over the parameters that train: the encoder's groups, top layer first, then the head's.

    Biases and normalisation weights do not decay. `lr_layer_decay` lowers the rate of each layer
    further from the head, the embeddings' most.
    """
    layers = transformer_layers(model.encoder)
    depth_of = {
        id(p): depth for depth, layer in enumerate(reversed(layers)) for p in layer.parameters()
    }
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.encoder.named_parameters():
        if parameter.requires_grad:
            depth = depth_of.get(id(parameter), len(layers) if "embedding" in name.lower() else 0)
            groups.setdefault((depth, parameter.ndim > 1), []).append(parameter)
    settings = [
        {
            "params": parameters,
            "lr": optimisation.lr_encoder * optimisation.lr_layer_decay**depth,
            "weight_decay": optimisation.weight_decay if decays else 0.0,
        }
        for (depth, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
    settings += [
        {
            "params": [model.head.weight],
            "lr": optimisation.lr_head,
            "weight_decay": optimisation.weight_decay,
        },
        {"params": [model.head.bias], "lr": optimisation.lr_head, "weight_decay": 0.0},
    ]
    return AdamW(settings, eps=optimisation.adam_eps, fused=True)


def make_schedule(
    optimizer: Optimizer, optimisation: OptimisationConfig, total_steps: int
) -> LRScheduler:
    """Rates rise linearly over the warm-up's share of the steps, then fall linearly to 0 or stay."""
    warmup_steps = round(optimisation.warmup * total_steps)
    schedule: LRScheduler
    if optimisation.decay == "constant":
        schedule = get_constant_schedule_with_warmup(optimizer, warmup_steps)
    else:
        schedule = get_linear_schedule_with_warmup(optimizer, warmup_steps, total_steps)
    return schedule


def prediction_table(texts: Texts, languages: list[str], prediction: np.ndarray) -> pd.DataFrame:
    """Columns `row`, `language`, `label` (NaN where there is none) and `prediction`, one row a text."""
    return pd.DataFrame(
        {
            "row": texts.row,
            "language": [languages[i] for i in texts.language],
            "label": texts.label,
            "prediction": prediction.astype(np.float64),
        }
    )
