"""Dropout with cheap random numbers on CPUs.

PyTorch draws a float for every element, which takes longer than a layer's normalisation and
activation together (`docs/benchmarks/notes.md`). Here an element costs 16 random bits. The
probability is therefore rounded to a multiple of 1/65536, and kept elements are divided by exactly
the probability of keeping them, so that the expected value is the input. Other devices use
PyTorch's own dropout.
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
    """Let this thread draw masks from its own stream, seeded by `seed` (>= 0), during the block."""
    _stream.generator = torch.Generator().manual_seed(seed)
    try:
        yield
    finally:
        _stream.generator = None


def effective_probability(p: float) -> float:
    """Return the multiple of 1/65536 nearest to `p` in [0, 1]."""
    return round(p * _LEVELS) / _LEVELS


def draw(count: int) -> torch.Tensor:
    """Return uniform int16 (count,) on the CPU, from `drawn_from`'s stream or the global one."""
    words = torch.empty((count + 3) // 4, dtype=torch.int64)
    words.random_(-(2**63), None, generator=getattr(_stream, "generator", None))
    return words.view(torch.int16)[:count]


def factors(bits: torch.Tensor, p: float, dtype: torch.dtype) -> torch.Tensor:
    """Return dropout's factors: 0 for dropped elements, 1 / (1 - p) for kept ones.

    Args:
        bits: Values from `draw`, of any shape.
        p: The probability of dropping, in [0, 1]; rounded by `effective_probability`.
        dtype: The type of the values to be multiplied.

    Returns:
        Factors of the shape of `bits`, at least in float32.
    """
    keep = 1 - effective_probability(p)
    # Floats hold every int16 and are compared in place: booleans would take several times as long.
    wide = bits.to(torch.promote_types(dtype, torch.float32))
    return wide.ge_(round(p * _LEVELS) - _LEVELS // 2).mul_(1 / keep if keep else 0.0)


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` with cheaper random numbers on CPUs."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
        if not self.training or input.device.type != "cpu" or effective_probability(self.p) == 0:
            return super().forward(input)
        bits = draw(input.numel()).view(input.shape)
        dropped: torch.Tensor = _Dropout.apply(input, bits, self.p)  # type: ignore[no-untyped-call]
        return dropped


class _Dropout(torch.autograd.Function):
    """Multiply by `factors`, and keep the 16-bit draws for the backward pass, not the factors."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, bits: torch.Tensor, p: float) -> torch.Tensor:
        ctx.save_for_backward(bits)
        ctx.p = p
        return factors(bits, p, values.dtype).mul_(values).to(values.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (bits,) = ctx.saved_tensors
        gradient = gradients[0]
        dtype = gradient.dtype
        return factors(bits, ctx.p, dtype).mul_(gradient).to(dtype), None, None


def use_fast_dropout(model: nn.Module) -> None:
    """Replace every `torch.nn.Dropout` in `model`, in place."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p).train(child.training))
