"""The embedding matrix cut to the tokens of a corpus, and put back whole.

XLM-R's vocabulary has 250,000 tokens and MINT's training texts use a tenth of them. Rows of
tokens that never occur get no gradient, so leaving them out changes nothing for the others;
training is the same step by step, with less memory and fewer optimizer operations.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Vocabulary:
    """`kept[i]` is the original id of the token that is now `i`; sorted, shape (kept,)."""

    kept: np.ndarray
    original_size: int

    def translate(self, ids: np.ndarray) -> np.ndarray:
        """New ids for original ones. Raises KeyError for a token that was not kept."""
        new = np.searchsorted(self.kept, ids)
        if (new >= len(self.kept)).any() or (self.kept[new] != ids).any():
            raise KeyError("a token outside the trimmed vocabulary")
        return new


def embedding_of(model: PreTrainedModel) -> nn.Embedding:
    """The encoder's token embeddings."""
    return cast(nn.Embedding, model.get_input_embeddings())


def full_vocabulary(model: PreTrainedModel) -> Vocabulary:
    size = embedding_of(model).num_embeddings
    return Vocabulary(np.arange(size), size)


def vocabulary_of(
    texts: Iterable[np.ndarray], tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
) -> Vocabulary:
    """The tokens that occur in `texts` (arrays of ids), and every id up to the padding's.

    The latter keeps the padding token's number, which XLM-R computes its positions from.
    """
    occurring = [np.unique(ids) for ids in texts]
    low = np.arange(int(tokenizer.pad_token_id or 0) + 1)
    special = np.asarray(tokenizer.all_special_ids)
    return Vocabulary(
        np.unique(np.concatenate([low, special, *occurring])), full_vocabulary(model).original_size
    )


def trim(model: PreTrainedModel, vocabulary: Vocabulary) -> None:
    """Keep, in place, only the embedding rows of `vocabulary`."""
    old = embedding_of(model)
    rows = old.weight.detach()[torch.from_numpy(vocabulary.kept)].clone()
    model.set_input_embeddings(_embedding_like(old, rows))
    model.config.vocab_size = len(rows)


def restore(model: PreTrainedModel, vocabulary: Vocabulary, pretrained: torch.Tensor) -> None:
    """Undo `trim`, in place: trained rows go back to their places in the matrix `pretrained`.

    `pretrained` has shape (original size, hidden); rows that were trimmed away keep its values.
    """
    old = embedding_of(model)
    rows = pretrained.detach().clone()
    rows[torch.from_numpy(vocabulary.kept)] = old.weight.detach().to(rows)
    model.set_input_embeddings(_embedding_like(old, rows))
    model.config.vocab_size = len(rows)


def _embedding_like(old: nn.Embedding, rows: torch.Tensor) -> nn.Embedding:
    # Set directly: nn.Embedding(padding_idx=...) would zero a row that pre-training left as it is.
    new = nn.Embedding(len(rows), rows.shape[1], _weight=rows)
    new.padding_idx = old.padding_idx
    new.weight.requires_grad_(old.weight.requires_grad)
    return new
