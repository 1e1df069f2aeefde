"""Trim the embedding matrix to the tokens of a corpus, and restore it.

XLM-R's vocabulary has 250,000 tokens, and MINT's training texts use a tenth of them. Rows of tokens
that never occur get no gradient, so training without them is the same step by step, with less
memory and fewer optimizer operations.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ablation.core.errors import UsageError


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a trimmed vocabulary.

    Attributes:
        kept: Original ids, ascending, int64 (kept,); the index is the new id.
        original_size: Tokens before trimming.
    """

    kept: np.ndarray
    original_size: int

    def translate(self, ids: np.ndarray) -> np.ndarray:
        """Return the new ids for original ids. Raises KeyError for a token that was not kept."""
        new_ids = np.searchsorted(self.kept, ids)
        if (new_ids >= len(self.kept)).any() or (self.kept[new_ids] != ids).any():
            raise KeyError("a token outside the trimmed vocabulary")
        return new_ids


def embedding_of(model: PreTrainedModel) -> nn.Embedding:
    """Return the encoder's token embeddings. Raises UsageError if it has no single matrix."""
    try:
        embeddings = model.get_input_embeddings()
    except (NotImplementedError, AttributeError):
        embeddings = None
    if not isinstance(embeddings, nn.Embedding):
        raise UsageError(
            f"encoder family {model.config.model_type}: no matrix of token embeddings found;"
            " use another encoder"
        )
    return embeddings


def full_vocabulary(model: PreTrainedModel) -> Vocabulary:
    """Return the vocabulary of all the encoder's tokens."""
    size = embedding_of(model).num_embeddings
    return Vocabulary(np.arange(size), size)


def vocabulary_of(
    texts: Iterable[np.ndarray], tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
) -> Vocabulary:
    """Return the tokens that occur in `texts`, the special ones, and every id up to the padding's.

    The last keep the padding token's id, from which XLM-R computes its positions.

    Args:
        texts: Each text's token ids, int (tokens,).
        tokenizer: The encoder's tokenizer.
        model: The encoder, not trimmed.
    """
    occurring = [np.unique(ids) for ids in texts]
    low = np.arange(int(tokenizer.pad_token_id or 0) + 1)
    special = np.asarray(tokenizer.all_special_ids)
    return Vocabulary(
        np.unique(np.concatenate([low, special, *occurring])), full_vocabulary(model).original_size
    )


def trim(model: PreTrainedModel, vocabulary: Vocabulary) -> None:
    """Keep only the embedding rows of `vocabulary`, in place."""
    old = embedding_of(model)
    rows = old.weight.detach()[torch.from_numpy(vocabulary.kept)].clone()
    model.set_input_embeddings(_embedding_like(old, rows))
    model.config.vocab_size = len(rows)


def restore(model: PreTrainedModel, vocabulary: Vocabulary, pretrained: torch.Tensor) -> None:
    """Undo `trim` in place: put the trained rows back into the matrix `pretrained`.

    Args:
        model: The trimmed encoder.
        vocabulary: The vocabulary that it was trimmed to.
        pretrained: (original size, hidden); rows that were trimmed away get its values.
    """
    old = embedding_of(model)
    rows = pretrained.detach().clone()
    rows[torch.from_numpy(vocabulary.kept)] = old.weight.detach().to(rows)
    model.set_input_embeddings(_embedding_like(old, rows))
    model.config.vocab_size = len(rows)


def _embedding_like(old: nn.Embedding, rows: torch.Tensor) -> nn.Embedding:
    # Set afterwards: nn.Embedding(padding_idx=...) would zero the padding row.
    new = nn.Embedding(len(rows), rows.shape[1], _weight=rows)
    new.padding_idx = old.padding_idx
    new.weight.requires_grad_(old.weight.requires_grad)
    return new
