"""The training loop, and nothing else: batches, model, loss, optimizer, and the points of the curves."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_constant_schedule_with_warmup, get_linear_schedule_with_warmup

from ablation.batching import Batch, Texts, collate, epoch_batches
from ablation.config import LossConfig, OptimisationConfig
from ablation.encoders.loading import transformer_layers
from ablation.errors import RunError
from ablation.evaluation import pearson, predict
from ablation.losses import Terms, total_loss
from ablation.model import IntimacyRegressor
from ablation.seeding import seed_for

#: Receives named values and the step (training points) or epoch (development points) they belong to.
OnPoint = Callable[[Mapping[str, float], int], None]
#: Figures for a point of the curves from that step's loss terms: their graph is whole, the weights are those before the step.
OnTerms = Callable[[IntimacyRegressor, Terms], Mapping[str, float]]
#: Turns development predictions (rows,) into named figures, `pearson` among them where it exists.
DevScores = Callable[[np.ndarray], Mapping[str, float]]


@dataclass(frozen=True)
class Hooks:
    """What the loop tells while it runs: curve points, and (steps done, steps in all).

    `on_terms` adds figures of its own to each training point. None of them changes what is learned.
    """

    on_point: OnPoint = lambda values, step: None
    on_step: Callable[[int, int], None] = lambda done, total: None
    on_epoch: Callable[[int, Mapping[str, float]], None] = lambda epoch, scores: None
    on_terms: OnTerms | None = None


NO_HOOKS: Final = Hooks()


@dataclass(frozen=True)
class Fit:
    """The epoch (from 1) with the highest pooled development Pearson, and its predictions.

    `best_epoch` is None if no epoch had a Pearson at all: the run collapsed to a constant. The
    model is left with the best epoch's weights (the last epoch's, if there is no best one).
    """

    best_epoch: int | None
    dev_scores: dict[str, float]
    dev_predictions: np.ndarray
    steps: int
    tokens: int
    skipped_contrastive: int


class NotFiniteError(RunError):
    """A loss or gradient that is not a finite number, and what the step was: see `ablation.reproducer`.

    `step` counts from 1; `weights` are the trained parameters before it, `random_state` dropout's.
    """

    def __init__(
        self, message: str, *, step: int, batch: Batch, values: dict[str, float], weights: dict[str, torch.Tensor],
        random_state: torch.Tensor,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.step, self.batch, self.values, self.weights, self.random_state = step, batch, values, weights, random_state


@dataclass
class _Window:
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
) -> Fit:
    """Train `model` in place and choose its best epoch by development Pearson (`selection: dev pearson`).

    `seed` decides the order of batches and dropout, each through a stream of its own. Raises
    RunError at the first loss or gradient that is not a number, naming the batch's rows.
    """
    device = next(model.parameters()).device
    order = [epoch_batches(train, optimisation.batch_size, seed_for("order", seed, e)) for e in range(optimisation.epochs)]
    total_steps = sum(map(len, order))
    optimizer = make_optimizer(model, optimisation)
    schedule = make_schedule(optimizer, optimisation, total_steps)
    best: tuple[float, int, dict[str, float], np.ndarray, dict[str, torch.Tensor]] | None = None
    window, step, tokens, skipped = _Window(), 0, 0, 0
    figures: Mapping[str, float] = {}
    predictions = np.empty(0, dtype=np.float32)
    for epoch, batches in enumerate(order, start=1):
        # Seeded anew each epoch, so that an epoch does not depend on how the one before was run.
        torch.manual_seed(seed_for("dropout", seed, epoch))
        model.train()
        for indices in batches:
            batch = collate(train, indices, device)
            rates = {"lr/encoder": optimizer.param_groups[0]["lr"], "lr/head": optimizer.param_groups[-1]["lr"]}
            is_logged = (step + 1) % optimisation.log_every == 0 or step + 1 == total_steps
            on_terms = hooks.on_terms if is_logged else None
            prediction, values, figures_of_step = train_step(model, batch, optimizer, optimisation, loss, step, on_terms)
            schedule.step()
            step += 1
            tokens += len(batch.ids)
            skipped += loss.contrastive != "none" and "train/loss_contrastive" not in values
            window.add(prediction, batch, values)
            if is_logged:
                hooks.on_point({**window.point(), **rates, **figures_of_step}, step)
                window = _Window()
            hooks.on_step(step, total_steps)
        predictions = predict(model, dev, optimisation.precision)
        figures = dev_scores(predictions)
        hooks.on_point({f"dev/{name}": value for name, value in figures.items()}, epoch)
        hooks.on_epoch(epoch, figures)
        r = figures.get("pearson")
        if r is not None and (best is None or r > best[0]):
            best = (r, epoch, dict(figures), predictions, _trained_state(model))
    if best is None:
        return Fit(None, dict(figures), predictions, step, tokens, skipped)
    _, best_epoch, best_figures, best_predictions, state = best
    model.load_state_dict(state, strict=False)
    return Fit(best_epoch, best_figures, best_predictions, step, tokens, skipped)


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
    bfloat16 = optimisation.precision == "bfloat16"
    random_state = get_random_state(batch.ids.device)
    with torch.autocast(batch.ids.device.type, torch.bfloat16, enabled=bfloat16):
        output = model(batch.ids, batch.lengths, batch.hidden)
    terms: Terms = total_loss(output, batch.label, batch.language, loss)
    optimizer.zero_grad(set_to_none=True)
    figures = {} if on_terms is None else on_terms(model, terms)
    terms.total.backward()
    norm = nn.utils.clip_grad_norm_((p for p in model.parameters() if p.requires_grad), optimisation.max_grad_norm)
    values = {"train/loss": terms.total.item(), "train/loss_regression": terms.regression.item(), "train/grad_norm": norm.item()}
    if terms.contrastive is not None:
        values["train/loss_contrastive"] = terms.contrastive.item()
    if bad := [name for name, value in values.items() if not math.isfinite(value)]:
        rows = ", ".join(map(str, batch.row[:8])) + (" ..." if len(batch.row) > 8 else "")
        message = f"{bad[0]} is not a finite number at step {step + 1} (training rows {rows})"
        weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
        raise NotFiniteError(message, step=step + 1, batch=batch, values=values, weights=weights, random_state=random_state)
    optimizer.step()
    return output.prediction, values, figures


def get_random_state(device: torch.device) -> torch.Tensor:
    """Where dropout's stream of random numbers stands on `device` (uint8)."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def set_random_state(device: torch.device, state: torch.Tensor) -> None:
    """Go back to where `get_random_state` was; nothing for a state of another kind of device."""
    if state.shape == get_random_state(device).shape:
        torch.cuda.set_rng_state(state, device) if device.type == "cuda" else torch.set_rng_state(state)


def make_optimizer(model: IntimacyRegressor, optimisation: OptimisationConfig) -> AdamW:
    """AdamW over the parameters that train: the encoder's groups, top layer first, then the head's.

    Biases and normalisation weights do not decay. `lr_layer_decay` lowers the rate of each layer
    further from the head, the embeddings' most.
    """
    layers = transformer_layers(model.encoder)
    depth_of = {id(p): depth for depth, layer in enumerate(reversed(layers)) for p in layer.parameters()}
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
        {"params": [model.head.weight], "lr": optimisation.lr_head, "weight_decay": optimisation.weight_decay},
        {"params": [model.head.bias], "lr": optimisation.lr_head, "weight_decay": 0.0},
    ]
    return AdamW(settings, eps=optimisation.adam_eps, fused=True)


def make_schedule(optimizer: Optimizer, optimisation: OptimisationConfig, total_steps: int) -> LRScheduler:
    """Rates rise linearly over the warm-up's share of the steps, then fall linearly to 0 or stay."""
    warmup_steps = round(optimisation.warmup * total_steps)
    schedule: LRScheduler
    if optimisation.decay == "constant":
        schedule = get_constant_schedule_with_warmup(optimizer, warmup_steps)
    else:
        schedule = get_linear_schedule_with_warmup(optimizer, warmup_steps, total_steps)
    return schedule


def _trained_state(model: IntimacyRegressor) -> dict[str, torch.Tensor]:
    """A copy of what training changes; frozen parameters are as they were."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


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
