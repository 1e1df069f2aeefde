"""Frozen tuning (FT; Section 3.3, Figure 3): which parameters train.

FT leaves the embeddings and the lowest k transformer layers as pre-training left them. The paper
does not say if dropout stays on in them. Here it is off, unless `model.frozen_dropout` is set.
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
        """The number of parameters that do not train."""
        return self.total - self.trainable


def require_layers(freeze_layers: int, available: int) -> None:
    """Raise UsageError if `freeze_layers` is more than the layers `available` in the encoder."""
    if freeze_layers > available:
        raise UsageError(
            f"model.freeze_layers = {freeze_layers}: the encoder has {available} layers"
        )


def freeze(
    model: IntimacyRegressor, freeze_layers: int, *, dropout: bool = False
) -> ParameterCounts:
    """Freeze the embeddings and the lowest `freeze_layers` layers, in place.

    Args:
        model: The model to freeze.
        freeze_layers: The number of layers, at least 0.
        dropout: Keep dropout on in the frozen layers during training.

    Raises:
        UsageError: The encoder has fewer layers.
    """
    layers = transformer_layers(model.encoder)
    require_layers(freeze_layers, len(layers))
    trained = {id(p) for layer in layers[freeze_layers:] for p in layer.parameters()}
    frozen = {id(p) for layer in layers for p in layer.parameters()} - trained
    for name, parameter in model.encoder.named_parameters():
        in_layer = id(parameter) in trained or id(parameter) in frozen
        is_embedding = not in_layer and "embedding" in name.lower()
        parameter.requires_grad_(not is_embedding and id(parameter) not in frozen)
    model.frozen_layers, model.frozen_dropout = freeze_layers, dropout
    counts = count_parameters(model)
    if not 0 < counts.trainable < counts.total:
        raise AssertionError(
            f"frozen tuning left {counts.trainable} of {counts.total} parameters to train"
        )
    return counts


def count_parameters(model: IntimacyRegressor) -> ParameterCounts:
    """Count all parameters and those that train."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return ParameterCounts(sum(n for n, _ in sizes), sum(n for n, trains in sizes if trains))
