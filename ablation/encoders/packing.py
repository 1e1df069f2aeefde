"""Texts of a batch laid end to end instead of padded to the longest.

Posts differ in length, so a padded batch of random texts is half padding. Everything in a BERT-like
encoder but attention works token by token; only attention must know where a text ends. Packed
and padded give the same sentence vectors. Batches can therefore be drawn at random, with the
languages mixed as they come, at the speed of batches sorted by length.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from ablation.encoders.attention import Layout, attend
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
    """Texts of these `lengths` (texts,) laid end to end: `text` and `position` (tokens,) say which token is which.

    `heads` is the attention's number of heads.
    """

    lengths: torch.Tensor
    heads: int
    text: torch.Tensor
    position: torch.Tensor

    @cached_property
    def width(self) -> int:
        """Tokens of the longest text."""
        return int(self.lengths.max())

    @cached_property
    def slot(self) -> torch.Tensor:
        """Where the tokens belong in a padded grid (texts * width)."""
        return self.text * self.width + self.position

    @cached_property
    def mask(self) -> torch.Tensor:
        """True where the grid (texts, 1, 1, width) holds a token."""
        return (torch.arange(self.width, device=self.lengths.device) < self.lengths[:, None])[
            :, None, None, :
        ]

    @cached_property
    def layout(self) -> Layout:
        """The same for attention on a CPU."""
        return Layout(tuple(self.lengths.tolist()), self.heads)


def make_packing(lengths: torch.Tensor, model: PreTrainedModel) -> Packing:
    """The packing of texts of these lengths (texts,) for `model`."""
    text = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
    first = lengths.cumsum(0) - lengths
    return Packing(
        lengths,
        int(model.config.num_attention_heads),
        text,
        torch.arange(len(text), device=lengths.device) - first[text],
    )


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
    q, k, v = (
        states.squeeze(0).transpose(0, 1) for states in (query, key, value)
    )  # (tokens, heads, size)
    if q.device.type == "cpu":
        scale = q.shape[-1] ** -0.5 if scaling is None else scaling
        return attend(q, k, v, packing.layout, scale, dropout).unsqueeze(0), None
    return attend_on_grid(q, k, v, packing, dropout, scaling), None


def attend_on_grid(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    packing: Packing,
    dropout: float,
    scaling: float | None,
) -> torch.Tensor:
    """PyTorch's own attention on texts padded to the longest: (tokens, heads, size) each, to (1, tokens, heads, size)."""
    q, k, v = (_padded(states, packing) for states in (q, k, v))
    attended = scaled_dot_product_attention(
        q, k, v, attn_mask=packing.mask, dropout_p=dropout, scale=scaling
    )
    return attended.transpose(1, 2).flatten(0, 1).index_select(0, packing.slot).unsqueeze(0)


def _padded(states: torch.Tensor, packing: Packing) -> torch.Tensor:
    """(tokens, heads, size) as (texts, heads, width, size), zeros where there is no token."""
    texts, width = len(packing.lengths), packing.width
    grid = states.new_zeros(texts * width, *states.shape[1:]).index_copy(0, packing.slot, states)
    return grid.view(texts, width, *states.shape[1:]).transpose(1, 2)


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


def encode_packed(
    model: PreTrainedModel, ids: torch.Tensor, lengths: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Last hidden states (tokens, hidden), and each token's text (tokens,), of packed `ids` (tokens,)."""
    packing = make_packing(lengths, model)
    positions = (packing.position + position_offset(model)).unsqueeze(0)
    return model(
        input_ids=ids.unsqueeze(0), position_ids=positions, packing=packing
    ).last_hidden_state[0], packing.text


def embed_packed(model: PreTrainedModel, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """The embeddings' output (tokens, hidden) for packed `ids` (tokens,): where `layers_packed` goes on."""
    positions = make_packing(lengths, model).position + position_offset(model)
    embeddings = model.get_submodule("embeddings")
    embedded: torch.Tensor = embeddings(input_ids=ids[None], position_ids=positions[None])
    return embedded[0]


def layers_packed(
    model: PreTrainedModel,
    hidden: torch.Tensor,
    lengths: torch.Tensor,
    first: int,
    last: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states (tokens, hidden), and each token's text (tokens,), after the layers `first` to `last` - 1.

    `hidden` (tokens, hidden) is the output of the layer below `first`. With no `last`, all is run
    that `encode_packed` runs above that.
    """
    packing = make_packing(lengths, model)
    states = hidden.unsqueeze(0)
    for layer in transformer_layers(model)[first:last]:
        states = layer(states, None, packing=packing)
    norm = dict(model.get_submodule("encoder").named_children()).get("LayerNorm")
    if last is None and norm is not None:  # XLM-R XL normalises once more above its layers
        states = norm(states)
    return states[0], packing.text
