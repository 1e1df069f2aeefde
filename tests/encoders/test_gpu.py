"""Attention and training on a CUDA device; skipped where there is none."""

import numpy as np
import pytest
import torch

from ablation.encoders.packing import Packing, attend_flash, attend_on_grid, has_flash

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

HEADS, SIZE = 4, 32


def states(lengths: torch.Tensor) -> tuple[Packing, list[torch.Tensor]]:
    """Return a packing of texts of `lengths` on the GPU, and queries, keys and values for it."""
    offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    text = torch.arange(len(lengths)).repeat_interleave(lengths)
    position = torch.arange(len(text)) - offsets[text]
    tensors = (text.cuda(), position.cuda(), offsets.int().cuda())
    packing = Packing(lengths.cuda(), HEADS, int(lengths.max()), *tensors)
    generator = torch.Generator("cuda").manual_seed(0)
    shape = (len(text), HEADS, SIZE)
    return packing, [
        torch.randn(
            shape, generator=generator, device="cuda", dtype=torch.bfloat16, requires_grad=True
        )
        for _ in range(3)
    ]


def test_flash_attention_gives_what_a_padded_grid_gives() -> None:
    packing, qkv = states(torch.tensor([17, 9, 9, 1]))
    if not has_flash(qkv[0]):
        pytest.skip("this GPU has no flash attention")
    flash, grid = (attend(*qkv, packing, 0.0, None) for attend in (attend_flash, attend_on_grid))
    torch.testing.assert_close(flash, grid, atol=0.02, rtol=0.02)
    gradients = [torch.autograd.grad(out.float().square().sum(), qkv) for out in (flash, grid)]
    for by_flash, by_grid in zip(*gradients, strict=True):
        torch.testing.assert_close(by_flash, by_grid, atol=0.1, rtol=0.05)


def test_flash_attention_drops_the_share_that_it_is_told() -> None:
    packing, (q, k, _) = states(torch.tensor([64, 64]))
    if not has_flash(q):
        pytest.skip("this GPU has no flash attention")
    ones = torch.ones_like(k)
    means = [
        attend_flash(q, k, ones, packing, dropout, None).float().mean().item()
        for dropout in (0.0, 0.3)
    ]
    np.testing.assert_allclose(means, 1.0, atol=0.05)
    assert not torch.equal(
        attend_flash(q, k, ones, packing, 0.3, None), attend_flash(q, k, ones, packing, 0.0, None)
    )
