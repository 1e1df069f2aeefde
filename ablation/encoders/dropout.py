"""Dropout whose random numbers cost little on a CPU.

PyTorch draws a float for every element there, which takes longer than a layer's normalisation and
activation together (`docs/benchmarks/notes.md`). Here an element costs 16 random bits. The
probability is therefore a multiple of 1/65536, and what is kept is scaled by exactly that
probability's inverse: the expected value is the input, as with any dropout. On other devices
PyTorch's own dropout is used.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import nn

_LEVELS: Final = 2**16
_stream = threading.local()


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Inside, this thread draws its masks from a stream of its own that starts at `seed` (>= 0), whatever others draw."""
    _stream.generator = torch.Generator().manual_seed(seed)
    try:
        yield
    finally:
        _stream.generator = None


def effective_probability(p: float) -> float:
    """The multiple of 1/65536 nearest to `p` in [0, 1]."""
    return round(p * _LEVELS) / _LEVELS


def draw(count: int) -> torch.Tensor:
    """int16 (count,) on the CPU, each of its values equally likely; drawn as `drawn_from` says, else globally."""
    words = torch.empty((count + 3) // 4, dtype=torch.int64)
    words.random_(-(2**63), None, generator=getattr(_stream, "generator", None))
    return words.view(torch.int16)[:count]


def factors(drawn: torch.Tensor, p: float, dtype: torch.dtype) -> torch.Tensor:
    """What dropout multiplies with: 0 with probability `effective_probability(p)`, elsewhere the inverse of the other one.

    `drawn` is from `draw`, of any shape; `dtype` is that of the values to be multiplied. What is returned is float32 at least.
    """
    kept = 1 - effective_probability(p)
    # Compared as floats, which hold every int16: booleans would take several times as long to make, and to turn into floats.
    wide = drawn.to(torch.promote_types(dtype, torch.float32))
    return wide.ge_(round(p * _LEVELS) - _LEVELS // 2).mul_(1 / kept if kept else 0.0)


class Dropout(nn.Dropout):
    """As `torch.nn.Dropout`, with another stream of random numbers on a CPU."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
        if not self.training or input.device.type != "cpu" or effective_probability(self.p) == 0:
            return super().forward(input)
        dropped: torch.Tensor = _Dropout.apply(input, draw(input.numel()).view(input.shape), self.p)  # type: ignore[no-untyped-call]
        return dropped


class _Dropout(torch.autograd.Function):
    """given * factors. PyTorch would keep the factors for the way back, twice the size of what was drawn."""

    @staticmethod
    def forward(ctx: Any, given: torch.Tensor, drawn: torch.Tensor, p: float) -> torch.Tensor:
        ctx.save_for_backward(drawn)
        ctx.p = p
        return factors(drawn, p, given.dtype).mul_(given).to(given.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (drawn,) = ctx.saved_tensors
        return (
            factors(drawn, ctx.p, gradients[0].dtype).mul_(gradients[0]).to(gradients[0].dtype),
            None,
            None,
        )


def use_fast_dropout(model: nn.Module) -> None:
    """Replace every `torch.nn.Dropout` in `model`, in place."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p).train(child.training))
