"""The regressor of Eq. 1: an encoder, one sentence vector per text, a linear head."""

import copy
from typing import NamedTuple

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn
from transformers import PreTrainedModel

from ablation.config.model_parts import LINEAR, has_own_parts
from ablation.config.own_code import parse_own
from ablation.core.errors import UsageError
from ablation.core.suggest import did_you_mean
from ablation.encoders.dropout import use_fast_dropout
from ablation.encoders.loading import padding_id
from ablation.encoders.packing import (
    Packing,
    encode_packed,
    is_packable,
    layers_packed,
    make_packing,
    use_packing,
)
from ablation.training.own_parts import (
    OwnHead,
    OwnPooling,
    features_of,
    make_head,
    make_pooling,
    on_grid,
)
from ablation.training.pooling import POOLINGS


class Output(NamedTuple):
    """Predictions on the scale of the labels, and the sentence vectors v_i of Eq. 9."""

    prediction: Float32[Tensor, " batch"]
    sentence: Float32[Tensor, "batch hidden"]


class IntimacyRegressor(nn.Module):
    """y = w v + b (Eq. 1), with the sentence vector v of an encoder.

    Pooling and head may be one's own (`ablation.training.own_parts`).

    `frozen_layers`, `frozen_dropout` and `frozen_modules` are set by
    `ablation.training.freezing.freeze`; a model that is not frozen has None, False and none.
    """

    def __init__(
        self,
        encoder: PreTrainedModel,
        pooling: str,
        label_mean: float,
        seed: int,
        head: str = LINEAR,
    ) -> None:
        """Put a new head on `encoder`, which is changed in place.

        Args:
            encoder: The encoder.
            pooling: One of `POOLINGS`, or the pinned name of one's own.
            label_mean: The initial bias, so that training need not first move there.
            seed: The seed of the head's initial weights.
            head: "linear", or the pinned name of one's own.

        Raises:
            UsageError: `pooling` is unknown, or a part of one's own can't be made.
        """
        super().__init__()
        has_own_pooling = parse_own(pooling) is not None
        if pooling not in POOLINGS and not has_own_pooling:
            raise UsageError(f"unknown pooling {pooling!r}: {did_you_mean(pooling, POOLINGS)}")
        self.encoder = encoder
        self.pooling = pooling
        self.frozen_layers: int | None = None
        self.frozen_dropout = False
        self.frozen_modules: list[nn.Module] = []
        use_fast_dropout(encoder)
        if is_packable(encoder):
            use_packing(encoder)
        hidden = int(encoder.config.hidden_size)
        self.own_pooling: OwnPooling | None = None
        if has_own_pooling:
            self.own_pooling = make_pooling(pooling, hidden, seed)
            hidden = features_of(self.own_pooling, hidden)
        self.has_own_parts = has_own_parts(pooling, head)
        self.head: nn.Linear | OwnHead
        if head != LINEAR:
            self.head = make_head(head, hidden, label_mean, seed)
            return
        self.head = nn.Linear(hidden, 1)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.head.weight.normal_(0.0, 0.02, generator=generator)
            self.head.bias.fill_(label_mean)

    def train(self, mode: bool = True) -> "IntimacyRegressor":
        """Set the mode; frozen modules stay in evaluation mode unless `frozen_dropout`."""
        super().train(mode)
        if mode and self.frozen_layers is not None and not self.frozen_dropout:
            for module in self.encoder.modules():
                requires_grad = [p.requires_grad for p in module.parameters()]
                if requires_grad and not any(requires_grad):
                    module.eval()
            for module in self.frozen_modules:  # those without parameters count as well
                module.eval()
        return self

    def forward(
        self,
        ids: Int64[Tensor, " tokens"],
        lengths: Int64[Tensor, " batch"],
        hidden: Float[Tensor, "tokens hidden"] | None = None,
    ) -> Output:
        """Predict packed texts.

        Args:
            ids: Token ids, one text after another.
            lengths: The number of tokens of each text, on the CPU.
            hidden: Outputs of the frozen layers for the tokens. If given, the embeddings and the
                frozen layers are not run, and `ids` is not read.
        """
        return self.predict_packed(ids, make_packing(lengths, self.encoder), hidden)

    def predict_packed(
        self,
        ids: Int64[Tensor, " tokens"],
        packing: Packing,
        hidden: Float[Tensor, "tokens hidden"] | None = None,
    ) -> Output:
        """Predict packed texts; see `forward`."""
        if hidden is not None:
            hidden = layers_packed(self.encoder, hidden, packing, self.frozen_layers or 0)
        elif is_packable(self.encoder):
            hidden = encode_packed(self.encoder, ids, packing)
        else:
            hidden = self._encode_padded(ids, packing)
        if self.own_pooling is not None:
            sentence = self.own_pooling(on_grid(hidden, packing), packing.mask[:, 0, 0])
        else:
            sentence = POOLINGS[self.pooling](hidden, packing)
        return Output(self.head(sentence).squeeze(-1).float(), sentence.float())

    def _encode_padded(
        self, ids: Int64[Tensor, " tokens"], packing: Packing
    ) -> Float[Tensor, "tokens hidden"]:
        """Return what `encode_packed` does, for encoder families that have no packed attention."""
        texts = len(packing.lengths)
        grid = ids.new_full((texts * packing.width,), padding_id(self.encoder))
        grid = grid.index_copy(0, packing.slot, ids).view(texts, packing.width)
        output = self.encoder(input_ids=grid, attention_mask=packing.mask[:, 0, 0].long())
        hidden: Tensor = output.last_hidden_state.flatten(0, 1).index_select(0, packing.slot)
        return hidden


def set_dropout(encoder: PreTrainedModel, dropout: float) -> None:
    """Set every dropout probability in `encoder`, in place: of modules, attributes and config."""
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
    for holder in (encoder.config, *encoder.modules()):
        for name, value in list(vars(holder).items()):
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if "dropout" in name and is_number:
                setattr(holder, name, dropout)


def build_model(
    encoder: PreTrainedModel,
    pooling: str,
    *,
    dropout: float | None,
    label_mean: float,
    seed: int,
    head: str = LINEAR,
) -> IntimacyRegressor:
    """Create a regressor on a copy of `encoder`.

    Args:
        encoder: The pre-trained encoder, which stays unchanged.
        pooling: One of `POOLINGS`, or the pinned name of one's own.
        dropout: The dropout probability of every encoder layer; the encoder's own if None.
        label_mean: The head's initial bias.
        seed: The seed of the head's initial weights.
        head: "linear", or the pinned name of one's own.
    """
    encoder = copy.deepcopy(encoder)
    if dropout is not None:
        set_dropout(encoder, dropout)
    return IntimacyRegressor(encoder, pooling, label_mean, seed, head)
