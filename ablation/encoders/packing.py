"""Pack a batch's texts end to end instead of padding them to the longest.

Posts differ in length, so a padded batch of random texts is half padding. In a BERT-like encoder
everything except attention works token by token, and only attention must know where a text ends.
Packed and padded batches give the same sentence vectors. Batches can therefore be drawn at random
at the speed of batches sorted by length.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from ablation.encoders.attention import Layout, attend
from ablation.encoders.loading import padding_id, transformer_layers

#: Families (`model_type`) whose attention transformers lets us replace. The value is
#: True if positions start behind the padding token's id. Other families are padded.
PACKABLE: Final[dict[str, bool]] = {
    "bert": False,
    "roberta": True,
    "camembert": True,
    "xlm-roberta": True,
    "xlm-roberta-xl": True,
}
#: The types that PyTorch's flash attention takes.
HALF_TYPES: Final = (torch.bfloat16, torch.float16)
#: The largest head, and the lowest compute capability, that PyTorch's flash attention takes.
_FLASH_LARGEST_SIZE: Final = 256
_FLASH_LEAST_CAPABILITY: Final = (8, 0)
#: The name under which transformers knows the packed attention.
NAME: Final = "packed"


@dataclass(frozen=True)
class Packing:
    """Texts packed end to end.

    Attributes:
        lengths: Tokens of each text, int64 (texts,).
        heads: Attention heads.
        width: Tokens of the longest text; kept here, since reading `lengths` waits for a GPU.
        text: Each token's text, int64 (tokens,).
        position: Each token's position in its text, from 0, int64 (tokens,).
        offsets: The first token of each text, then the number of tokens, int32 (texts + 1,).
    """

    lengths: torch.Tensor
    heads: int
    width: int
    text: torch.Tensor
    position: torch.Tensor
    offsets: torch.Tensor

    @cached_property
    def slot(self) -> torch.Tensor:
        """Return each token's index in a padded grid of texts * width, int64 (tokens,)."""
        return self.text * self.width + self.position

    @cached_property
    def mask(self) -> torch.Tensor:
        """Return a mask of the padded grid, bool (texts, 1, 1, width): True for tokens."""
        positions = torch.arange(self.width, device=self.lengths.device)
        return (positions < self.lengths[:, None])[:, None, None, :]

    @cached_property
    def layout(self) -> Layout:
        """Return the texts' layout in blocks, for attention on CPUs."""
        return Layout(tuple(self.lengths.tolist()), self.heads)


def make_packing(lengths: torch.Tensor, model: PreTrainedModel) -> Packing:
    """Return the packing of texts with these lengths, int64 (texts,) on the CPU, for `model`.

    Its tensors are on the device of `model`.
    """
    offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    text = torch.arange(len(lengths)).repeat_interleave(lengths)
    position = torch.arange(len(text)) - offsets[text]
    device = next(model.parameters()).device
    return Packing(
        to_device(lengths, device),
        int(model.config.num_attention_heads),
        int(lengths.max()),
        to_device(text, device),
        to_device(position, device),
        to_device(offsets.int(), device),
    )


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor of the CPU to `device`; to a GPU from pinned memory, without waiting for it."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within each text; implements transformers' attention interface.

    Args:
        module: The attention layer; unused.
        query: (1, heads, tokens, size), like `key` and `value`.
        key: See `query`.
        value: See `query`.
        attention_mask: Unused.
        options: `packing` (a `Packing`), and optionally `dropout` and `scaling`.

    Returns:
        The attended values (1, tokens, heads, size), and no attention weights.
    """
    packing: Packing = options["packing"]
    dropout: float = options.get("dropout", 0.0)
    scaling: float | None = options.get("scaling")
    # (tokens, heads, size)
    q, k, v = (states.squeeze(0).transpose(0, 1) for states in (query, key, value))
    if q.device.type == "cpu":
        scale = q.shape[-1] ** -0.5 if scaling is None else scaling
        return attend(q, k, v, packing.layout, scale, dropout).unsqueeze(0), None
    if has_flash(q):
        return attend_flash(q, k, v, packing, dropout, scaling), None
    return attend_on_grid(q, k, v, packing, dropout, scaling), None


def attend_on_grid(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    packing: Packing,
    dropout: float,
    scaling: float | None,
) -> torch.Tensor:
    """Attend with PyTorch's own attention on texts padded to the longest, for any GPU and type.

    `q`, `k` and `v` are (tokens, heads, size); the result is (1, tokens, heads, size).
    """
    q, k, v = (_padded(states, packing) for states in (q, k, v))
    attended = scaled_dot_product_attention(
        q, k, v, attn_mask=packing.mask, dropout_p=dropout, scale=scaling
    )
    return attended.transpose(1, 2).flatten(0, 1).index_select(0, packing.slot).unsqueeze(0)


def attend_flash(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    packing: Packing,
    dropout: float,
    scaling: float | None,
) -> torch.Tensor:
    """Attend with PyTorch's flash attention on texts of any lengths, for GPUs in 16 bits.

    Arguments and result are those of `attend_on_grid`. PyTorch's operator is called by its own
    name: `torch.nn.attention.varlen` has no dropout, and nested tensors take four times as long.
    """
    offsets, width = packing.offsets, packing.width
    attended: torch.Tensor = torch.ops.aten._flash_attention_forward(
        q, k, v, offsets, offsets, width, width, dropout, False, False, scale=scaling
    )[0]
    return attended.unsqueeze(0)


def has_flash(q: torch.Tensor) -> bool:
    """Tell if PyTorch's flash attention takes `q`, (tokens, heads, size): type, size, and GPU."""
    return (
        q.dtype in HALF_TYPES
        and q.shape[-1] % 8 == 0
        and q.shape[-1] <= _FLASH_LARGEST_SIZE
        and torch.version.cuda is not None
        and torch.cuda.get_device_capability(q.device) >= _FLASH_LEAST_CAPABILITY
    )


def _padded(states: torch.Tensor, packing: Packing) -> torch.Tensor:
    """Pad (tokens, heads, size) with zeros to (texts, heads, width, size)."""
    texts, width = len(packing.lengths), packing.width
    grid = states.new_zeros(texts * width, *states.shape[1:]).index_copy(0, packing.slot, states)
    return grid.view(texts, width, *states.shape[1:]).transpose(1, 2)


def is_packable(model: PreTrainedModel) -> bool:
    """Tell if the encoder's family supports packing."""
    return model.config.model_type in PACKABLE


def position_offset(model: PreTrainedModel) -> int:
    """Return the index of the first position in the encoder's position embeddings."""
    return padding_id(model) + 1 if PACKABLE.get(model.config.model_type, False) else 0


def use_packing(model: PreTrainedModel) -> None:
    """Make `model` use `packed_attention`, in place."""
    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)
    model.set_attn_implementation(NAME)


def encode_packed(model: PreTrainedModel, ids: torch.Tensor, packing: Packing) -> torch.Tensor:
    """Run the encoder on packed `ids`, int64 (tokens,); return the last states (tokens, hidden)."""
    positions = (packing.position + position_offset(model)).unsqueeze(0)
    output = model(input_ids=ids.unsqueeze(0), position_ids=positions, packing=packing)
    hidden: torch.Tensor = output.last_hidden_state[0]
    return hidden


def embed_packed(model: PreTrainedModel, ids: torch.Tensor, packing: Packing) -> torch.Tensor:
    """Return the embeddings (tokens, hidden) of packed `ids`, the input of the lowest layer."""
    positions = packing.position + position_offset(model)
    embeddings = model.get_submodule("embeddings")
    embedded: torch.Tensor = embeddings(input_ids=ids[None], position_ids=positions[None])
    return embedded[0]


def layers_packed(
    model: PreTrainedModel,
    hidden: torch.Tensor,
    packing: Packing,
    first: int,
    last: int | None = None,
) -> torch.Tensor:
    """Run the layers `first` to `last` - 1 on packed hidden states.

    Args:
        model: The encoder.
        hidden: Output of the layer below `first`, (tokens, hidden).
        packing: The texts.
        first: The lowest layer to run.
        last: The layer above the highest one to run; None runs to the encoder's output.

    Returns:
        Hidden states (tokens, hidden).
    """
    states = hidden.unsqueeze(0)
    for layer in transformer_layers(model)[first:last]:
        states = layer(states, None, packing=packing)
    norm = dict(model.get_submodule("encoder").named_children()).get("LayerNorm")
    if last is None and norm is not None:  # XLM-R XL has a norm above its layers
        states = norm(states)
    return states[0]
