"""What the device itself can do: the rate of one large matrix product."""

import time
from typing import Final

import torch

_SIDE: Final = {"cpu": 2048, "cuda": 8192}
_SMALL: Final = 512
_REPEATS: Final = {"cpu": 5, "cuda": 30}


def matrix_rate(device: torch.device, dtype: torch.dtype, side: int | None = None) -> float:
    """Floating point operations a second of the product of two square matrices (large ones): the best of a few."""
    side = side or _SIDE[device.type]
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(_REPEATS[device.type]):
        began = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best


def bfloat16_pays(device: torch.device) -> bool:
    """Whether products in bfloat16 are the faster ones (a processor without instructions for it takes many times longer)."""
    return matrix_rate(device, torch.bfloat16, _SMALL) > matrix_rate(device, torch.float32, _SMALL)
