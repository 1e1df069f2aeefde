"""Tokenised texts, and batches of them.

Training batches are drawn at random, so that each mixes the languages. A batch of one language has
no pair of two languages for Eq. 9; batches of MINT sorted by length contained such batches. Texts
are packed (`ablation.encoders.packing`), so batches of unequal lengths cost no padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int64
from torch import Tensor

from ablation.encoders.packing import to_device


@dataclass(frozen=True)
class HiddenStates:
    """Outputs of an encoder layer for the tokens of some rows.

    `values` are those of a whole file; the tokens of row i begin at `start[i]`.
    """

    values: Float32[np.ndarray, "tokens hidden"]
    start: Int[np.ndarray, " rows"]

    def take(self, indices: Int[np.ndarray, " selected"]) -> "HiddenStates":
        """Return the states of the rows `indices`, without copying the values."""
        return HiddenStates(self.values, self.start[indices])

    def gather(
        self, indices: Int[np.ndarray, " selected"], lengths: list[int]
    ) -> Float32[Tensor, "selected_tokens hidden"]:
        """Copy the values of the rows `indices` one after another; `lengths` are their tokens."""
        # Memory from torch is aligned as torch aligns its own results, so that matrix products of
        # either round alike.
        gathered = torch.empty(sum(lengths), self.values.shape[1])
        pieces = [self.values[s : s + n] for s, n in zip(self.start[indices], lengths, strict=True)]
        np.concatenate(pieces, out=gathered.numpy())
        return gathered


@dataclass(frozen=True)
class Texts:
    """Tokenised rows of a corpus file.

    Attributes:
        ids: An array of token ids (tokens,) for each row.
        label: Labels, NaN where a row has none.
        language: The number of each row's language, from 0.
        row: The number of each row in its file, from 0.
        hidden: Cached outputs of the frozen layers, if there are any.
        weight: The weight of each row in the regression loss; None if all weigh the same.
    """

    ids: list[np.ndarray]
    label: Float[np.ndarray, " rows"]
    language: Int[np.ndarray, " rows"]
    row: Int[np.ndarray, " rows"]
    hidden: HiddenStates | None = None
    weight: Float32[np.ndarray, " rows"] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def lengths(self) -> Int[np.ndarray, " rows"]:
        """The number of tokens of each row."""
        return np.array([len(ids) for ids in self.ids])

    @cached_property
    def _flat(self) -> tuple[np.ndarray, np.ndarray]:
        """All token ids one after another, and the position where each row begins.

        Gathering from one array is faster than from many, which lie far apart in memory.
        """
        return np.concatenate(self.ids), self.lengths.cumsum() - self.lengths

    def packed(self, indices: Int[np.ndarray, " selected"]) -> Int[np.ndarray, " tokens"]:
        """Return the token ids of the rows `indices` (at least one), one row after another."""
        flat, start = self._flat
        lengths = self.lengths[indices]
        ends = lengths.cumsum()
        ids: np.ndarray = flat[
            np.repeat(start[indices] - (ends - lengths), lengths) + np.arange(ends[-1])
        ]
        return ids

    def take(self, indices: Int[np.ndarray, " selected"]) -> "Texts":
        """Return the rows `indices`, in their order."""
        return Texts(
            [self.ids[i] for i in indices],
            self.label[indices],
            self.language[indices],
            self.row[indices],
            None if self.hidden is None else self.hidden.take(indices),
            None if self.weight is None else self.weight[indices],
        )


@dataclass(frozen=True)
class Batch:
    """Packed texts: `ids` and `hidden` on a device, all else on the CPU.

    A host that asks a GPU for a label or a language waits for all that the GPU has yet to do.

    Attributes:
        ids: Token ids, one text after another.
        lengths: The number of tokens of each text.
        label: Labels.
        language: Language numbers.
        row: The number of each text's row in its file.
        hidden: Cached outputs of the frozen layers for the tokens, if there are any.
        weight: The weight of each text in the regression loss; None if all weigh the same.
    """

    ids: Int64[Tensor, " tokens"]
    lengths: Int64[Tensor, " batch"]
    label: Float32[Tensor, " batch"]
    language: Int64[Tensor, " batch"]
    row: Int[np.ndarray, " batch"]
    hidden: Float32[Tensor, "tokens hidden"] | None = None
    weight: Float32[Tensor, " batch"] | None = None


def split_batch(batch: Batch, pieces: int) -> list[Batch]:
    """Split a batch into `pieces` of similar size: text i goes to piece i mod `pieces`.

    Each piece is sorted as the batch is. A batch of fewer texts gives a piece for each text.
    """
    text = torch.arange(len(batch.lengths)).repeat_interleave(batch.lengths)
    split = []
    for first in range(min(pieces, len(batch.lengths))):
        texts, tokens = slice(first, None, pieces), text % pieces == first
        split.append(
            Batch(
                ids=batch.ids[tokens],
                lengths=batch.lengths[texts],
                label=batch.label[texts],
                language=batch.language[texts],
                row=batch.row[texts],
                hidden=None if batch.hidden is None else batch.hidden[tokens],
                weight=None if batch.weight is None else batch.weight[texts],
            )
        )
    return split


def merge(split: Sequence[Tensor]) -> Tensor:
    """Undo `split_batch` for values of each text, (texts of the piece, ...) to (batch, ...)."""
    pieces = len(split)
    count = sum(len(part) for part in split)
    position = torch.cat([torch.arange(first, count, pieces) for first in range(pieces)])
    return torch.cat(list(split))[position.argsort().to(split[0].device)]


def epoch_batches(texts: Texts, batch_size: int, seed: int) -> list[np.ndarray]:
    """Draw the batches of one epoch, each an array of row indices; every row occurs once.

    The longest texts of a batch come first, so that attention can run texts of one length
    together; no loss depends on the order. A last batch of less than an eighth of `batch_size` is
    joined to the one before: the gradient of a handful of rows would be mostly noise.
    """
    order = np.random.default_rng(seed).permutation(len(texts))
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    if len(batches) > 1 and len(batches[-1]) < batch_size // 8:
        batches[-2:] = [np.concatenate(batches[-2:])]
    return [batch[np.argsort(-texts.lengths[batch], kind="stable")] for batch in batches]


def prediction_batches(texts: Texts, batch_size: int) -> list[np.ndarray]:
    """Batch the row indices for prediction, longest rows first: too little memory shows at once."""
    order = np.argsort(-texts.lengths, kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def collate(texts: Texts, indices: Int[np.ndarray, " batch"], device: torch.device) -> Batch:
    """Pack the rows `indices` into a batch whose tokens are on `device`."""
    lengths = texts.lengths[indices]
    hidden = None
    if texts.hidden is not None:
        hidden = to_device(texts.hidden.gather(indices, lengths.tolist()), device)
    return Batch(
        ids=to_device(torch.from_numpy(texts.packed(indices)), device),
        lengths=torch.from_numpy(lengths),
        label=torch.from_numpy(texts.label[indices].astype(np.float32)),
        language=torch.from_numpy(texts.language[indices]),
        row=texts.row[indices],
        hidden=hidden,
        weight=None if texts.weight is None else torch.from_numpy(texts.weight[indices]),
    )
