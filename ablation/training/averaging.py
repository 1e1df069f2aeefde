"""Average the weights over the steps of training; the average is what is evaluated and kept.

After step t, counted from 1, each trained weight's average becomes d times itself plus 1 - d times
the weight (an exponential moving average; Polyak and Juditsky, 1992, "Acceleration of stochastic
approximation by averaging"). d is `ema_decay`, and (1 + t) / (10 + t) where that is less, so that a
short training does not stay at the weights that it began with.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


def decay_at(step: int, ema_decay: float) -> float:
    """Return the share of the average that stays at `step`, counted from 1."""
    return min(ema_decay, (1 + step) / (10 + step))


def update_average(
    average: Mapping[str, Tensor], model: nn.Module, step: int, ema_decay: float
) -> None:
    """Move the average of the trained weights, by name, towards those of `model` in place.

    Args:
        average: The average after the step before.
        model: The model after `step`.
        step: Counted from 1.
        ema_decay: Above 0 and below 1.
    """
    weights = dict(model.named_parameters())
    update = get_ema_multi_avg_fn(decay_at(step, ema_decay))
    update(list(average.values()), [weights[name].detach() for name in average], step)


@contextmanager
def averaged(model: nn.Module, average: Mapping[str, Tensor] | None) -> Iterator[None]:
    """Give `model` the averaged weights for a while, in its own tensors; its own if None."""
    _exchange(model, average or {})
    try:
        yield
    finally:
        _exchange(model, average or {})


@torch.no_grad()
def _exchange(model: nn.Module, average: Mapping[str, Tensor]) -> None:
    """Swap the values of the model's weights and of the average, one tensor at a time."""
    weights = dict(model.named_parameters())
    for name, value in average.items():
        own = weights[name].clone()
        weights[name].copy_(value)
        value.copy_(own)
