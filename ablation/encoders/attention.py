"""Attention within each text of a packed batch, for CPUs.

A batch's texts are sorted by length (`ablation.training.batching.epoch_batches`). They are cut into
a few blocks of similar length, each a batched matrix product over its longest text's width. Padding
all texts to the batch's longest would compute five to ten times as many scores on MINT, and
PyTorch's own attention keeps several copies of the scores if there is dropout (see
`docs/benchmarks/notes.md`).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from ablation.encoders.dropout import draw, effective_probability, factors

#: Cost of one more block, as the number of padded attention scores that take the same time. A block
#: makes a dozen calls in each of the forward and the backward pass.
BLOCK_COST: Final = 30_000


class Block(NamedTuple):
    """Attention matrices of texts of similar length.

    Attributes:
        row: The block's first row in the layout.
        matrices: Number of matrices, texts times heads.
        width: Rows of each matrix, the tokens of the block's longest text.
        padded: True if some text is shorter.
    """

    row: int
    matrices: int
    width: int
    padded: bool

    @property
    def rows(self) -> slice:
        """Return the block's rows in the layout."""
        return slice(self.row, self.row + self.matrices * self.width)


def block_sizes(lengths: np.ndarray, heads: int, block_cost: int = BLOCK_COST) -> list[int]:
    """Return the number of texts in each block for the cheapest division of a batch into blocks.

    The cheapest division of the first n texts is computed for n = 1, 2, ... from those before
    (dynamic programming).

    Args:
        lengths: Tokens of each text, int (texts,).
        heads: Attention heads.
        block_cost: Cost of a block in attention scores.
    """
    count = len(lengths)
    cost, start = np.zeros(count + 1), np.zeros(count + 1, dtype=np.int64)
    for end in range(1, count + 1):
        # widths[i] is the longest of the texts i to end - 1.
        widths = np.maximum.accumulate(lengths[end - 1 :: -1])[::-1].astype(np.float64)
        total = cost[:end] + block_cost + heads * (end - np.arange(end)) * widths**2
        start[end] = total.argmin()
        cost[end] = total[start[end]]
    sizes, end = [], count
    while end:
        sizes.append(end - int(start[end]))
        end = int(start[end])
    return sizes[::-1]


@dataclass(frozen=True)
class Layout:
    """Positions of a packed batch's tokens in blocks of matrices, ordered by text, head, position.

    Attributes:
        lengths: Tokens of each text.
        heads: Attention heads.
    """

    lengths: tuple[int, ...]
    heads: int

    @cached_property
    def blocks(self) -> list[Block]:
        """Return the blocks in the order of their rows."""
        lengths, blocks, row, first = np.array(self.lengths), [], 0, 0
        for texts in block_sizes(lengths, self.heads):
            in_block = lengths[first : first + texts]
            width = int(in_block.max())
            padded = bool((in_block < width).any())
            blocks.append(Block(row, texts * self.heads, width, padded))
            row, first = row + texts * self.heads * width, first + texts
        return blocks

    @cached_property
    def scores(self) -> int:
        """Return the number of attention scores of all blocks."""
        return sum(block.matrices * block.width**2 for block in self.blocks)

    @cached_property
    def rows(self) -> int:
        """Return the number of rows of all blocks."""
        return sum(block.matrices * block.width for block in self.blocks)

    @cached_property
    def row_of_token(self) -> torch.Tensor:
        """Return the row of each (token, head), int64 (tokens * heads,)."""
        start, width = [], []
        for block in self.blocks:
            texts = block.matrices // self.heads
            start += [block.row + i * self.heads * block.width for i in range(texts)]
            width += [block.width] * texts
        lengths = torch.tensor(self.lengths)
        first = (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
        position = torch.arange(len(first)) - first
        row = torch.tensor(start).repeat_interleave(lengths) + position
        stride = torch.tensor(width).repeat_interleave(lengths)
        return (row[:, None] + torch.arange(self.heads) * stride[:, None]).flatten()

    @cached_property
    def token_of_row(self) -> torch.Tensor:
        """Return the (token, head) in each row, int64 (rows,); the first one in rows of padding."""
        tokens = torch.zeros(self.rows, dtype=torch.int64)
        tokens[self.row_of_token] = torch.arange(len(self.row_of_token))
        return tokens

    @cached_property
    def padding(self) -> torch.Tensor:
        """Return the rows of padding, int64 (padded rows,)."""
        empty = torch.ones(self.rows, dtype=torch.bool)
        empty[self.row_of_token] = False
        return empty.nonzero().flatten()

    @cached_property
    def bias(self) -> torch.Tensor:
        """Return what to add to the scores of each row's key, (rows,): -inf for padding."""
        return torch.zeros(self.rows).index_fill_(0, self.padding, -torch.inf)


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    scaling: float,
    dropout: float,
) -> torch.Tensor:
    """Compute softmax(q k' scaling) v within each text, on the CPU and at least in float32.

    Args:
        query: (tokens, heads, size), like `key` and `value`.
        key: See `query`.
        value: See `query`.
        layout: The texts' positions in blocks.
        scaling: Factor on the scores.
        dropout: Probability of dropping an attention probability.

    Returns:
        (tokens, heads, size) in the type of `query`.
    """
    wide = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast("cpu", enabled=False):
        attended: torch.Tensor = _Attention.apply(
            query.to(wide), key.to(wide), value.to(wide), layout, scaling, dropout
        )  # type: ignore[no-untyped-call]
    return attended.to(query.dtype)


class _Attention(torch.autograd.Function):
    """One autograd node for all blocks; hundreds of small nodes cost more than their arithmetic."""

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
            states.reshape(-1, size).index_select(0, layout.token_of_row)
            for states in (query, key, value)
        )
        q.mul_(scaling)
        attended = torch.empty_like(v)
        probabilities = q.new_empty(layout.scores)
        drawn = None if effective_probability(dropout) == 0 else draw(layout.scores)
        noise = None if drawn is None else factors(drawn, dropout, q.dtype)
        first = 0
        for block in layout.blocks:
            square = (block.matrices, block.width, block.width)
            in_scores = slice(first, first + block.matrices * block.width**2)
            first = in_scores.stop
            q_block, k_block, v_block, out = (
                rows[block.rows].view(*square[:2], size) for rows in (q, k, v, attended)
            )
            if block.padded:
                bias = layout.bias[block.rows].view(block.matrices, 1, block.width).to(q.dtype)
                scores = torch.baddbmm(bias, q_block, k_block.transpose(1, 2))
            else:
                scores = torch.bmm(q_block, k_block.transpose(1, 2))
            p = probabilities[in_scores].view(square)
            torch.softmax(scores, -1, out=p)
            torch.bmm(
                p if noise is None else torch.mul(p, noise[in_scores].view(square), out=scores),
                v_block,
                out=out,
            )
        ctx.save_for_backward(q, k, v, attended, probabilities, drawn)
        ctx.layout, ctx.scaling, ctx.dropout = layout, scaling, dropout
        return attended.index_select(0, layout.row_of_token).view(value.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, attended, probabilities, drawn = ctx.saved_tensors
        layout: Layout = ctx.layout
        size = q.shape[-1]
        g = (
            gradients[0]
            .reshape(-1, size)
            .index_select(0, layout.token_of_row)
            .index_fill_(0, layout.padding, 0.0)
        )
        # The row sums of (gradient by probability) * probability that softmax's derivative needs.
        # They equal the inner product of gradient and output, with or without dropout.
        inner = (g * attended).sum(-1)
        noise = None if drawn is None else factors(drawn, ctx.dropout, q.dtype)
        by_q, by_k, by_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        first = 0
        for block in layout.blocks:
            square = (block.matrices, block.width, block.width)
            in_scores = slice(first, first + block.matrices * block.width**2)
            first = in_scores.stop
            q_block, k_block, v_block, g_block, q_out, k_out, v_out = (
                rows[block.rows].view(*square[:2], size) for rows in (q, k, v, g, by_q, by_k, by_v)
            )
            p = probabilities[in_scores].view(square)
            by_score = torch.bmm(g_block, v_block.transpose(1, 2))
            if noise is None:
                weights = p
            else:
                kept = noise[in_scores].view(square)
                by_score.mul_(kept)
                weights = kept.mul_(p)
            torch.bmm(weights.transpose(1, 2), g_block, out=v_out)
            by_score.sub_(inner[block.rows].view(*square[:2], 1)).mul_(p)
            torch.bmm(by_score, k_block, out=q_out)
            torch.bmm(by_score.transpose(1, 2), q_block, out=k_out)
        by_q.mul_(ctx.scaling)
        shape = gradients[0].shape
        by_query, by_key, by_value = (
            rows.index_select(0, layout.row_of_token).view(shape) for rows in (by_q, by_k, by_v)
        )
        return by_query, by_key, by_value, None, None, None
