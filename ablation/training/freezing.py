"""Frozen tuning (Section 3.3, Figure 3): which parameters train.

FT keeps the embeddings and the lowest k transformer layers as pre-training left them. The paper does
not say whether dropout goes on in them; here it does not, unless `model.frozen_dropout`.
"""

from dataclasses import dataclass

from ablation.core.errors import UsageError
from ablation.encoders.loading import transformer_layers
from ablation.training.model import IntimacyRegressor


@dataclass(frozen=True)
class ParameterCounts:
    """Numbers of scalar parameters."""

    total: int
    trainable: int

    @property
    def frozen(self) -> int:
        return self.total - self.trainable


def require_layers(freeze_layers: int, available: int) -> None:
    """Raises UsageError if more layers are to be frozen than the encoder has."""
    if freeze_layers > available:
        raise UsageError(
            f"model.freeze_layers = {freeze_layers}: the encoder has {available} layers"
        )


def freeze(
    model: IntimacyRegressor, freeze_layers: int, *, dropout: bool = False
) -> ParameterCounts:
    """Freeze, in place, the embeddings and the lowest `freeze_layers` layers; `dropout`: theirs stays on in training.

    Raises UsageError.
    """
    layers = transformer_layers(model.encoder)
    require_layers(freeze_layers, len(layers))
    trained = {id(p) for layer in layers[freeze_layers:] for p in layer.parameters()}
    below = {id(p) for layer in layers for p in layer.parameters()} - trained
    for name, parameter in model.encoder.named_parameters():
        embedding = (
            id(parameter) not in trained
            and id(parameter) not in below
            and "embedding" in name.lower()
        )
        parameter.requires_grad_(not embedding and id(parameter) not in below)
    model.frozen_layers, model.frozen_dropout = freeze_layers, dropout
    counts = count_parameters(model)
    if not 0 < counts.trainable < counts.total:
        raise AssertionError(
            f"frozen tuning left {counts.trainable} of {counts.total} parameters to train"
        )
    return counts


def count_parameters(model: IntimacyRegressor) -> ParameterCounts:
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return ParameterCounts(sum(n for n, _ in sizes), sum(n for n, trains in sizes if trains))
