"""The regressor of Eq. 1: an encoder, one sentence vector per text, a linear head.

Also its export to a folder, with the vocabulary whole again, and back.
"""

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ablation.core.errors import UsageError
from ablation.encoders.dropout import use_fast_dropout
from ablation.encoders.loading import Encoder, load_encoder, pooling_of
from ablation.encoders.packing import (
    encode_packed,
    is_packable,
    layers_packed,
    make_packing,
    use_packing,
)
from ablation.encoders.trimming import Vocabulary, embedding_of, restore


class Output(NamedTuple):
    """`prediction` (batch,) on the labels' scale; `sentence` (batch, hidden), the v_i of Eq. 9."""

    prediction: torch.Tensor
    sentence: torch.Tensor


class IntimacyRegressor(nn.Module):
    """y = w v + b, with v the first token's vector ("cls") or the mean over tokens ("mean").

    `frozen_layers` and `frozen_dropout` are what `ablation.training.freezing.freeze` was told; without it, None and False.
    """

    def __init__(
        self, encoder: PreTrainedModel, pooling: str, label_mean: float, seed: int
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.frozen_layers: int | None = None
        self.frozen_dropout = False
        use_fast_dropout(encoder)
        if is_packable(encoder):
            use_packing(encoder)
        hidden = int(encoder.config.hidden_size)
        self.head = nn.Linear(hidden, 1)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            # The bias starts at the labels' mean: the first steps need not travel there.
            self.head.weight.normal_(0.0, 0.02, generator=generator)
            self.head.bias.fill_(label_mean)

    def train(self, mode: bool = True) -> Self:
        """As for every module, but what is frozen stays in evaluation mode unless `frozen_dropout`."""
        super().train(mode)
        if mode and self.frozen_layers is not None and not self.frozen_dropout:
            for module in self.encoder.modules():
                trains = [p.requires_grad for p in module.parameters()]
                if trains and not any(trains):
                    module.eval()
        return self

    def forward(
        self, ids: torch.Tensor, lengths: torch.Tensor, hidden: torch.Tensor | None = None
    ) -> Output:
        """`ids` (tokens,): the texts' token ids laid end to end; `lengths` (batch,): tokens of each text.

        `hidden` (tokens, hidden): what the frozen layers give for them, if that is known; they are not run then.
        """
        if hidden is not None:
            hidden, text = layers_packed(self.encoder, hidden, lengths, self.frozen_layers or 0)
        elif is_packable(self.encoder):
            hidden, text = encode_packed(self.encoder, ids, lengths)
        else:
            hidden, text = self._encode_padded(ids, lengths)
        if self.pooling == "cls":
            sentence = hidden[lengths.cumsum(0) - lengths]
        else:
            total = hidden.new_zeros(len(lengths), hidden.shape[-1]).index_add(0, text, hidden)
            sentence = total / lengths.unsqueeze(-1)
        return Output(self.head(sentence).squeeze(-1).float(), sentence.float())

    def _encode_padded(
        self, ids: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What `encode_packed` gives, for encoder families whose attention can't be told of packing."""
        packing = make_packing(lengths, self.encoder)
        grid = ids.new_full((len(lengths) * packing.width,), int(self.encoder.config.pad_token_id))
        grid = grid.index_copy(0, packing.slot, ids).view(len(lengths), packing.width)
        output = self.encoder(input_ids=grid, attention_mask=packing.mask[:, 0, 0].long())
        return output.last_hidden_state.flatten(0, 1).index_select(0, packing.slot), packing.text


def build_model(
    encoder: PreTrainedModel, pooling: str, *, dropout: float | None, label_mean: float, seed: int
) -> IntimacyRegressor:
    """A fresh regressor on a copy of `encoder`; `dropout` replaces that of every layer if given."""
    encoder = copy.deepcopy(encoder)
    if dropout is not None:
        for module in encoder.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
    return IntimacyRegressor(encoder, pooling, label_mean, seed)


@dataclass(frozen=True)
class Exported:
    """A fine-tuned model as `load_exported` returns it, in evaluation mode; it expects `prefix` before each text."""

    model: IntimacyRegressor
    tokenizer: PreTrainedTokenizerBase
    max_tokens: int
    prefix: str


def export(
    folder: Path,
    model: IntimacyRegressor,
    source: Encoder,
    vocabulary: Vocabulary,
    *,
    max_tokens: int,
    prefix: str = "",
) -> None:
    """Write `model` to `folder`: the encoder in the Hub's layout with every token, and the head.

    `source` is the encoder that training started from; it gives the rows that were trimmed away.
    """
    folder.mkdir(parents=True, exist_ok=True)
    whole = copy.deepcopy(model.encoder)
    restore(whole, vocabulary, embedding_of(source.model).weight)
    whole.save_pretrained(folder)
    source.tokenizer.save_pretrained(folder)
    save_file(
        {name: value.contiguous() for name, value in model.head.state_dict().items()},
        folder / "head.safetensors",
    )
    description = {"pooling": model.pooling, "max_tokens": max_tokens, "prefix": prefix}
    (folder / "intimacy.json").write_text(json.dumps(description, indent=2) + "\n", "utf-8")


def load_exported(folder: Path) -> Exported:
    """The model that `export` wrote. Raises UsageError if the folder holds none."""
    try:
        description = json.loads((folder / "intimacy.json").read_text("utf-8"))
        pooling, max_tokens = str(description["pooling"]), int(description["max_tokens"])
        prefix = str(description.get("prefix", ""))  # older exports have none
        head = load_file(folder / "head.safetensors")
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UsageError(
            f"{folder}: not a model that `ablation run --export` wrote: {error}"
        ) from error
    encoder = load_encoder(str(folder))
    model = IntimacyRegressor(encoder.model, pooling_of(encoder, pooling), 0.0, seed=0)
    try:
        model.head.load_state_dict(head)
    except RuntimeError as error:
        raise UsageError(
            f"{folder}: head.safetensors does not fit the encoder beside it"
        ) from error
    return Exported(model.eval(), encoder.tokenizer, max_tokens, prefix)
