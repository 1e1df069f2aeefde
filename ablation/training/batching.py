"""Batches of tokenised texts.

Training batches are drawn at random, so that languages are mixed in each: a batch of one language
has no pair for Eq. 9, which happened on MINT with batches sorted by length. Texts are packed
(`ablation.encoders.packing`), so random lengths cost no padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch


@dataclass(frozen=True)
class HiddenStates:
    """What an encoder's lowest layers give for each token of some rows (`ablation.training.frozen_cache` makes it).

    `values` (tokens, hidden) float32, of a whole file; row i's tokens stand from `start[i]` on.
    """

    values: np.ndarray
    start: np.ndarray

    def take(self, indices: np.ndarray) -> "HiddenStates":
        """Those of these rows; the values are not copied."""
        return HiddenStates(self.values, self.start[indices])

    def gather(self, indices: np.ndarray, lengths: list[int]) -> torch.Tensor:
        """A copy of these rows' values (tokens, hidden), end to end; `lengths` are their numbers of tokens."""
        # A tensor's own memory: aligned as torch aligns what it computes, so that products of both round alike.
        gathered = torch.empty(sum(lengths), self.values.shape[1])
        pieces = [self.values[s : s + n] for s, n in zip(self.start[indices], lengths, strict=True)]
        np.concatenate(pieces, out=gathered.numpy())
        return gathered


@dataclass(frozen=True)
class Texts:
    """Tokenised rows. `ids` are arrays of token ids; `label` and `language` have shape (rows,).

    `row` are the rows' numbers in their file; `language` counts the corpus's languages from 0.
    `hidden` are the outputs of layers that don't train, where they are kept.
    """

    ids: list[np.ndarray]
    label: np.ndarray
    language: np.ndarray
    row: np.ndarray
    hidden: HiddenStates | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def lengths(self) -> np.ndarray:
        return np.array([len(ids) for ids in self.ids])

    @cached_property
    def _flat(self) -> tuple[np.ndarray, np.ndarray]:
        """All rows' ids end to end, and where each row begins: arrays of single rows lie far apart in memory."""
        return np.concatenate(self.ids), self.lengths.cumsum() - self.lengths

    def packed(self, indices: np.ndarray) -> np.ndarray:
        """The token ids (tokens,) of these rows (at least one), end to end."""
        flat, start = self._flat
        lengths = self.lengths[indices]
        ends = lengths.cumsum()
        taken: np.ndarray = flat[
            np.repeat(start[indices] - (ends - lengths), lengths) + np.arange(ends[-1])
        ]
        return taken

    def take(self, indices: np.ndarray) -> "Texts":
        return Texts(
            [self.ids[i] for i in indices],
            self.label[indices],
            self.language[indices],
            self.row[indices],
            None if self.hidden is None else self.hidden.take(indices),
        )


@dataclass(frozen=True)
class Batch:
    """`ids` (tokens,) int64, the texts laid end to end; `lengths` (batch,) int64; `label` (batch,)
    float32; `language` (batch,) int64; `row` (batch,), the rows' numbers in their file; `hidden`
    (tokens, hidden) float32, or None where no layer's outputs are kept."""

    ids: torch.Tensor
    lengths: torch.Tensor
    label: torch.Tensor
    language: torch.Tensor
    row: np.ndarray
    hidden: torch.Tensor | None = None


def split_batch(batch: Batch, pieces: int) -> list[Batch]:
    """The batch dealt text by text, as cards are: pieces of like work, each sorted as the batch is. `merge` undoes it."""
    text = torch.arange(len(batch.lengths), device=batch.lengths.device).repeat_interleave(
        batch.lengths
    )
    dealt = []
    for first in range(min(pieces, len(batch.lengths))):
        texts, tokens = slice(first, None, pieces), text % pieces == first
        hidden = None if batch.hidden is None else batch.hidden[tokens]
        dealt.append(
            Batch(
                batch.ids[tokens],
                batch.lengths[texts],
                batch.label[texts],
                batch.language[texts],
                batch.row[texts],
                hidden,
            )
        )
    return dealt


def merge(dealt: Sequence[torch.Tensor]) -> torch.Tensor:
    """What was computed of each text of dealt pieces, (texts of the piece, ...) each, in the batch's order."""
    pieces = len(dealt)
    count = sum(len(part) for part in dealt)
    place = torch.cat([torch.arange(first, count, pieces) for first in range(pieces)])
    return torch.cat(list(dealt))[place.argsort().to(dealt[0].device)]


def epoch_batches(texts: Texts, batch_size: int, seed: int) -> list[np.ndarray]:
    """The row indices of each batch of one epoch; every row once. Equal seeds, equal batches.

    Each batch's longest texts come first, so that texts of one length stand together: attention takes them
    at once. A loss does not depend on their order.
    """
    order = np.random.default_rng(seed).permutation(len(texts))
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    if len(batches) > 1 and len(batches[-1]) < batch_size // 8:
        batches[-2:] = [
            np.concatenate(batches[-2:])
        ]  # a handful of rows makes a step of pure noise
    return [batch[np.argsort(-texts.lengths[batch], kind="stable")] for batch in batches]


def by_length(texts: Texts, batch_size: int) -> list[np.ndarray]:
    """Batches for prediction: longest rows first, so that too little memory shows at once."""
    order = np.argsort(-texts.lengths, kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def collate(texts: Texts, indices: np.ndarray, device: torch.device) -> Batch:
    """The batch of these rows."""
    lengths = texts.lengths[indices]
    return Batch(
        torch.from_numpy(texts.packed(indices)).to(device),
        torch.from_numpy(lengths).to(device),
        torch.from_numpy(texts.label[indices].astype(np.float32)).to(device),
        torch.from_numpy(texts.language[indices]).to(device),
        texts.row[indices],
        None if texts.hidden is None else texts.hidden.gather(indices, lengths.tolist()).to(device),
    )
