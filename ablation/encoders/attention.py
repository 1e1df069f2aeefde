"""Attention within each text of a packed batch, for a CPU: texts of like length at a time, hardly anything padded.

A batch's texts stand by length (`ablation.training.batching.epoch_batches` sorts them). They are cut into a few
blocks, each a batched matrix product over its longest text's width. Padding all of them to the batch's
longest would take five to ten times the scores on MINT, and PyTorch's own attention keeps several
copies of them where there is dropout (`docs/benchmarks/notes.md`).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from ablation.encoders.dropout import draw, effective_probability, factors

#: What one more block costs, in attention scores that could be padding instead: with its dozen calls for each of the two ways.
BLOCK_COST: Final = 30_000


class Block(NamedTuple):
    """`matrices` (texts times heads) of `width` rows each, from `row` on; `padded` if not all texts are that long."""

    row: int
    matrices: int
    width: int
    padded: bool

    @property
    def rows(self) -> slice:
        return slice(self.row, self.row + self.matrices * self.width)


def cut(lengths: np.ndarray, heads: int, block_cost: int = BLOCK_COST) -> list[int]:
    """How many texts each block takes, in order, so that padded scores and blocks together cost least.

    `lengths` (texts,). The cheapest way to take the first n texts is found for n = 1, 2, ... from those before.
    """
    count = len(lengths)
    cost, last = np.zeros(count + 1), np.zeros(count + 1, dtype=np.int64)
    for end in range(1, count + 1):
        widest = np.maximum.accumulate(lengths[end - 1 :: -1])[::-1].astype(
            np.float64
        )  # of the texts from i to end
        total = cost[:end] + block_cost + heads * (end - np.arange(end)) * widest**2
        last[end] = total.argmin()
        cost[end] = total[last[end]]
    sizes, end = [], count
    while end:
        sizes.append(end - int(last[end]))
        end = int(last[end])
    return sizes[::-1]


@dataclass(frozen=True)
class Layout:
    """Where the rows of a packed batch's texts (`lengths`) stand in blocks of matrices (text, head) by position."""

    lengths: tuple[int, ...]
    heads: int

    @cached_property
    def blocks(self) -> list[Block]:
        """The blocks, one after the other."""
        lengths, found, row, first = np.array(self.lengths), [], 0, 0
        for texts in cut(lengths, self.heads):
            inside = lengths[first : first + texts]
            width = int(inside.max())
            found.append(Block(row, texts * self.heads, width, bool((inside < width).any())))
            row, first = row + texts * self.heads * width, first + texts
        return found

    @cached_property
    def scores(self) -> int:
        """Attention scores of all blocks."""
        return sum(block.matrices * block.width**2 for block in self.blocks)

    @cached_property
    def rows(self) -> int:
        """Rows of all blocks."""
        return sum(block.matrices * block.width for block in self.blocks)

    @cached_property
    def back(self) -> torch.Tensor:
        """(tokens * heads,): the row of each (token, head)."""
        start, width = [], []
        for block in self.blocks:
            texts = block.matrices // self.heads
            start += [block.row + i * self.heads * block.width for i in range(texts)]
            width += [block.width] * texts
        lengths = torch.tensor(self.lengths)
        first = (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
        place = torch.tensor(start).repeat_interleave(lengths) + torch.arange(len(first)) - first
        stride = torch.tensor(width).repeat_interleave(lengths)
        return (place[:, None] + torch.arange(self.heads) * stride[:, None]).flatten()

    @cached_property
    def order(self) -> torch.Tensor:
        """(rows,): the (token, head) that stands in each row; where a text is padded, the first."""
        found = torch.zeros(self.rows, dtype=torch.int64)
        found[self.back] = torch.arange(len(self.back))
        return found

    @cached_property
    def padding(self) -> torch.Tensor:
        """The rows that hold nothing."""
        empty = torch.ones(self.rows, dtype=torch.bool)
        empty[self.back] = False
        return empty.nonzero().flatten()

    @cached_property
    def bias(self) -> torch.Tensor:
        """(rows,): what is added to the scores of a row's key: minus infinity where there is none."""
        return torch.zeros(self.rows).index_fill_(0, self.padding, -torch.inf)


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    scaling: float,
    dropout: float,
) -> torch.Tensor:
    """softmax(q k' scaling) v within each text; all (tokens, heads, size) on the CPU. `dropout` falls on the probabilities.

    Computed in float32 at least, whatever is given: its products are small.
    """
    wide = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast("cpu", enabled=False):
        attended: torch.Tensor = _Attention.apply(
            query.to(wide), key.to(wide), value.to(wide), layout, scaling, dropout
        )  # type: ignore[no-untyped-call]
    return attended.to(query.dtype)


class _Attention(torch.autograd.Function):
    """One node for all blocks: hundreds of small ones would take longer than their arithmetic."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        layout: Layout,
        scaling: float,
        dropout: float,
    ) -> torch.Tensor:
        size = query.shape[-1]
        q, k, v = (
            states.reshape(-1, size).index_select(0, layout.order) for states in (query, key, value)
        )
        q.mul_(scaling)
        attended = torch.empty_like(v)
        probabilities = q.new_empty(layout.scores)
        drawn = None if effective_probability(dropout) == 0 else draw(layout.scores)
        noise = None if drawn is None else factors(drawn, dropout, q.dtype)
        first = 0
        for block in layout.blocks:
            square = (block.matrices, block.width, block.width)
            here = slice(first, first + block.matrices * block.width**2)
            first = here.stop
            q_block, k_block, v_block, out = (
                each[block.rows].view(*square[:2], size) for each in (q, k, v, attended)
            )
            if block.padded:
                bias = layout.bias[block.rows].view(block.matrices, 1, block.width).to(q.dtype)
                scores = torch.baddbmm(bias, q_block, k_block.transpose(1, 2))
            else:
                scores = torch.bmm(q_block, k_block.transpose(1, 2))
            p = probabilities[here].view(square)
            torch.softmax(scores, -1, out=p)
            torch.bmm(
                p if noise is None else torch.mul(p, noise[here].view(square), out=scores),
                v_block,
                out=out,
            )
        ctx.save_for_backward(q, k, v, attended, probabilities, drawn)
        ctx.layout, ctx.scaling, ctx.dropout = layout, scaling, dropout
        return attended.index_select(0, layout.back).view(value.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, attended, probabilities, drawn = ctx.saved_tensors
        layout: Layout = ctx.layout
        size = q.shape[-1]
        g = (
            gradients[0]
            .reshape(-1, size)
            .index_select(0, layout.order)
            .index_fill_(0, layout.padding, 0.0)
        )
        # A row's sum of (gradient by probability) * probability, which softmax's derivative needs, dropout or not.
        inner = (g * attended).sum(-1)
        noise = None if drawn is None else factors(drawn, ctx.dropout, q.dtype)
        by_q, by_k, by_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        first = 0
        for block in layout.blocks:
            square = (block.matrices, block.width, block.width)
            here = slice(first, first + block.matrices * block.width**2)
            first = here.stop
            rows = (
                each[block.rows].view(*square[:2], size) for each in (q, k, v, g, by_q, by_k, by_v)
            )
            q_block, k_block, v_block, g_block, q_out, k_out, v_out = rows
            p = probabilities[here].view(square)
            by_score = torch.bmm(g_block, v_block.transpose(1, 2))
            if noise is None:
                weights = p
            else:
                multiplied = noise[here].view(square)
                by_score.mul_(multiplied)
                weights = multiplied.mul_(p)
            torch.bmm(weights.transpose(1, 2), g_block, out=v_out)
            by_score.sub_(inner[block.rows].view(*square[:2], 1)).mul_(p)
            torch.bmm(by_score, k_block, out=q_out)
            torch.bmm(by_score.transpose(1, 2), q_block, out=k_out)
        by_q.mul_(ctx.scaling)
        shape = gradients[0].shape
        by_query, by_key, by_value = (
            each.index_select(0, layout.back).view(shape) for each in (by_q, by_k, by_v)
        )
        return by_query, by_key, by_value, None, None, None
