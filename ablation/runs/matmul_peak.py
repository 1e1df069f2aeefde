"""Measure the device's own peak: the rate of one large matrix product."""

import time
from typing import Final

import torch

#: The side of the largest matrices: larger ones are no faster per operation.
_SIDE: Final = {"cpu": 2048, "cuda": 8192}
_SMALL_SIDE: Final = 256
_REPEATS: Final = {"cpu": 5, "cuda": 30}
#: One product should take no longer, unless even the smallest matrices do.
_MAX_SECONDS: Final = 0.05


def matrix_rate(device: torch.device, dtype: torch.dtype, side: int | None = None) -> float:
    """Return the best rate of a product of two square matrices, in operations a second.

    Args:
        device: Where to multiply.
        dtype: The type of the matrices' elements.
        side: Rows and columns of a matrix. By default large enough for the device's full rate,
            and smaller where the type is so slow that one product would take over 50 ms.
    """
    side = side or _affordable_side(device, dtype)
    return 2 * side**3 / _product_seconds(device, dtype, side, _REPEATS[device.type])


def bfloat16_pays(device: torch.device) -> bool:
    """Return True if products in bfloat16 are faster than in float32.

    A processor without instructions for bfloat16 takes many times longer.
    """
    bfloat16, float32 = (
        matrix_rate(device, dtype, _SMALL_SIDE) for dtype in (torch.bfloat16, torch.float32)
    )
    return bfloat16 > float32


def _affordable_side(device: torch.device, dtype: torch.dtype) -> int:
    """Halve the device's usual side until one product is expected to take at most 50 ms."""
    seconds = _product_seconds(device, dtype, _SMALL_SIDE, repeats=2)
    side = _SIDE[device.type]
    while side > _SMALL_SIDE and seconds * (side / _SMALL_SIDE) ** 3 > _MAX_SECONDS:
        side //= 2
    return side


def _product_seconds(device: torch.device, dtype: torch.dtype, side: int, repeats: int) -> float:
    """Return the seconds of the fastest of `repeats` products."""
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return best
