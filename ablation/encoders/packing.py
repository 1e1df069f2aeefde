"""Texts of a batch laid end to end instead of padded to the longest.

Posts differ in length, so a padded batch of random texts is half padding. Everything in a BERT-like
encoder but attention works token by token; only attention must know where a text ends. Packed
and padded give the same sentence vectors. Batches can therefore be drawn at random, with the
languages mixed as they come, at the speed of batches sorted by length.
"""

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from ablation.encoders.loading import transformer_layers

#: Families (`model_type`) whose attention can be replaced through transformers' interface, with
#: whether their positions start behind the padding token's number. Others are padded.
PACKABLE: Final[dict[str, bool]] = {
    "bert": False,
    "roberta": True,
    "camembert": True,
    "xlm-roberta": True,
    "xlm-roberta-xl": True,
}
NAME: Final = "packed"


@dataclass(frozen=True)
class Packing:
    """Where the tokens of a packed batch belong: `slot` (tokens,) in a padded (texts * width) grid."""

    slot: torch.Tensor
    mask: torch.Tensor
    texts: int
    width: int


def make_packing(lengths: torch.Tensor) -> tuple[Packing, torch.Tensor, torch.Tensor]:
    """The packing for texts of these lengths (texts,), each token's text, and its position in it."""
    texts, width = len(lengths), int(lengths.max())
    columns = torch.arange(width, device=lengths.device)
    mask = columns[None, :] < lengths[:, None]
    text, position = mask.nonzero(as_tuple=True)
    return Packing(text * width + position, mask[:, None, None, :], texts, width), text, position


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    packing: Packing,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention within each text: query, key and value (1, heads, tokens, size) to (1, tokens, heads, size)."""

    def unpack(states: torch.Tensor) -> torch.Tensor:
        flat = states[0].transpose(0, 1)  # (tokens, heads, size)
        grid = flat.new_zeros(packing.texts * packing.width, *flat.shape[1:]).index_copy(0, packing.slot, flat)
        return grid.view(packing.texts, packing.width, *flat.shape[1:]).transpose(1, 2)

    attended = scaled_dot_product_attention(
        unpack(query), unpack(key), unpack(value), attn_mask=packing.mask, dropout_p=dropout, scale=scaling
    )
    flat = attended.transpose(1, 2).reshape(packing.texts * packing.width, *attended.shape[1:2], attended.shape[-1])
    return flat.index_select(0, packing.slot).unsqueeze(0), None


def is_packable(model: PreTrainedModel) -> bool:
    return model.config.model_type in PACKABLE


def position_offset(model: PreTrainedModel) -> int:
    """The number of the first position in the encoder's table of positions."""
    return int(model.config.pad_token_id) + 1 if PACKABLE.get(model.config.model_type, False) else 0


def use_packing(model: PreTrainedModel) -> None:
    """Let `model` attend through `packed_attention`, in place."""
    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)
    model.set_attn_implementation(NAME)


def encode_packed(model: PreTrainedModel, ids: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Last hidden states (tokens, hidden), and each token's text (tokens,), of packed `ids` (tokens,)."""
    packing, text, position = make_packing(lengths)
    output = model(input_ids=ids.unsqueeze(0), position_ids=(position + position_offset(model)).unsqueeze(0), packing=packing)
    return output.last_hidden_state[0], text


def embed_packed(model: PreTrainedModel, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """The embeddings' output (tokens, hidden) for packed `ids` (tokens,): where `layers_packed` goes on."""
    _, _, position = make_packing(lengths)
    embeddings = model.get_submodule("embeddings")
    embedded: torch.Tensor = embeddings(input_ids=ids[None], position_ids=(position + position_offset(model))[None])
    return embedded[0]


def layers_packed(
    model: PreTrainedModel, hidden: torch.Tensor, lengths: torch.Tensor, first: int, last: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states (tokens, hidden), and each token's text (tokens,), after the layers `first` to `last` - 1.

    `hidden` (tokens, hidden) is the output of the layer below `first`. With no `last`, all is run
    that `encode_packed` runs above that.
    """
    packing, text, _ = make_packing(lengths)
    states = hidden.unsqueeze(0)
    for layer in transformer_layers(model)[first:last]:
        states = layer(states, None, packing=packing)
    norm = dict(model.get_submodule("encoder").named_children()).get("LayerNorm")
    if last is None and norm is not None:  # XLM-R XL normalises once more above its layers
        states = norm(states)
    return states[0], text
