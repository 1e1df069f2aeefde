"""Dropout whose random numbers cost little on a CPU.

PyTorch draws a float for every element there, which takes longer than a layer's normalisation and
activation together (`tests/benchmarks/NOTES.md`). Here an element costs 16 random bits. The
probability is therefore a multiple of 1/65536, and what is kept is scaled by exactly that
probability's inverse: the expected value is the input, as with any dropout. On other devices
PyTorch's own dropout is used.
"""

from typing import Any, Final

import torch
from torch import nn

_LEVELS: Final = 2**16


def effective_probability(p: float) -> float:
    """The multiple of 1/65536 nearest to `p` in [0, 1]."""
    return round(p * _LEVELS) / _LEVELS


def keep_mask(count: int, p: float) -> torch.Tensor:
    """bool (count,) on the CPU, False with probability `effective_probability(p)`; drawn from PyTorch's global generator."""
    if effective_probability(p) == 1:
        return torch.zeros(count, dtype=torch.bool)
    words = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    return words.view(torch.int16)[:count] >= round(p * _LEVELS) - _LEVELS // 2


def factors(keep: torch.Tensor, p: float, dtype: torch.dtype) -> torch.Tensor:
    """What dropout multiplies with: 0 where `keep` is False, elsewhere the inverse of the probability of being kept."""
    kept = 1 - effective_probability(p)
    return keep.to(dtype).mul_(1 / kept if kept else 0.0)


class Dropout(nn.Dropout):
    """As `torch.nn.Dropout`, with another stream of random numbers on a CPU."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
        if not self.training or input.device.type != "cpu" or effective_probability(self.p) == 0:
            return super().forward(input)
        dropped: torch.Tensor = _Dropout.apply(input, keep_mask(input.numel(), self.p).view(input.shape), self.p)  # type: ignore[no-untyped-call]
        return dropped


class _Dropout(torch.autograd.Function):
    """given * factors. PyTorch would keep the factors for the way back, four times the size of the mask."""

    @staticmethod
    def forward(ctx: Any, given: torch.Tensor, keep: torch.Tensor, p: float) -> torch.Tensor:
        ctx.save_for_backward(keep)
        ctx.p = p
        return factors(keep, p, given.dtype).mul_(given)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (keep,) = ctx.saved_tensors
        return factors(keep, ctx.p, gradients[0].dtype).mul_(gradients[0]), None, None


def use_fast_dropout(model: nn.Module) -> None:
    """Replace every `torch.nn.Dropout` in `model`, in place."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p).train(child.training))
