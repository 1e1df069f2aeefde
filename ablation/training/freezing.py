"""Frozen tuning (FT; Section 3.3, Figure 3): which parameters train.

FT leaves the embeddings and the lowest k transformer layers as pre-training left them. The paper
does not say if dropout stays on in them. Here it is off, unless `model.frozen_dropout` is set.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn

from ablation.core.errors import UsageError
from ablation.encoders.loading import layer_stacks, padding_id
from ablation.encoders.trimming import embedding_of
from ablation.training.model import IntimacyRegressor

#: The length of the text that the encoder is tried on.
_PROBE_TOKENS: Final = 8


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

    Everything that the encoder runs before its last layer ends, and that is not in a higher layer,
    counts as embeddings: also position biases and norms that several layers share. Modules that
    run only above the last layer, such as a final norm, train.

    Args:
        model: The model to freeze.
        freeze_layers: The number of layers, at least 0.
        dropout: Keep dropout on in the frozen layers during training.

    Raises:
        UsageError: The encoder has fewer layers, or its frozen part can't be told from the rest.
    """
    stacks = layer_stacks(model.encoder)
    require_layers(freeze_layers, len(stacks[0]))
    below = _modules_below(model, stacks)
    model.encoder.requires_grad_(False)
    for stack in stacks:
        for layer in stack[freeze_layers:]:
            layer.requires_grad_(True)
    in_layers = {id(m) for stack in stacks for layer in stack for m in layer.modules()}
    for module in model.encoder.modules():
        if id(module) not in in_layers and id(module) not in below:
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(True)
    for stack in stacks:  # shared weights stay frozen
        for layer in stack[:freeze_layers]:
            layer.requires_grad_(False)
    ancestors = {
        id(m) for m in model.encoder.modules() if any(id(c) in in_layers for c in m.modules())
    }
    model.frozen_layers, model.frozen_dropout = freeze_layers, dropout
    model.frozen_modules = [
        *(m for m in model.encoder.modules() if id(m) in below and id(m) not in ancestors),
        *(layer for stack in stacks for layer in stack[:freeze_layers]),
    ]
    _require_frozen(model, stacks)
    counts = count_parameters(model)
    if not 0 < counts.trainable < counts.total:
        raise AssertionError(
            f"frozen tuning left {counts.trainable} of {counts.total} parameters to train"
        )
    return counts


def _modules_below(model: IntimacyRegressor, stacks: Sequence[nn.ModuleList]) -> set[int]:
    """Return the ids of the encoder's modules that do not run only after its last layer."""
    below: set[int] = set()
    above: set[int] = set()
    running = True  # until the last layer ends

    def on_call(module: nn.Module, _: object) -> None:
        (below if running else above).add(id(module))

    def on_end(*_: object) -> None:
        nonlocal running
        running = False

    with contextlib.ExitStack() as hooks, torch.no_grad():
        for module in model.encoder.modules():
            hooks.callback(module.register_forward_pre_hook(on_call).remove)
        hooks.callback(stacks[-1][-1].register_forward_hook(on_end).remove)
        _forward_probe(model)
    return {id(module) for module in model.encoder.modules()} - (above - below)


def _require_frozen(model: IntimacyRegressor, stacks: Sequence[nn.ModuleList]) -> None:
    """Check that nothing that trains, and no dropout, reaches the lowest layer that trains.

    Raises UsageError if it does.
    """
    family = model.encoder.config.model_type
    first = _inputs_of_trained(model, stacks)
    if any(value.requires_grad for value in first):
        raise UsageError(
            f"encoder family {family}: weights that train reach the frozen layers;"
            " frozen tuning can't be used, leave out +ft"
        )
    if model.frozen_dropout:
        return
    was_training = model.training
    model.train()
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    try:
        with torch.random.fork_rng(devices=list(devices)):
            again = [_inputs_of_trained(model, stacks) for _ in range(2)]
    finally:
        model.train(was_training)
    if not all(torch.equal(a, b) for a, b in zip(*again, strict=True)):
        raise UsageError(
            f"encoder family {family}: dropout can't be turned off in the frozen layers alone;"
            " set model.dropout=0 or model.frozen_dropout=true"
        )


def _inputs_of_trained(
    model: IntimacyRegressor, stacks: Sequence[nn.ModuleList]
) -> list[torch.Tensor]:
    """Return the floating-point inputs of the lowest trained layer, or the last layer's output."""
    tensors: list[torch.Tensor] = []
    depth = model.frozen_layers or 0

    def on_call(_: nn.Module, args: object, kwargs: object) -> None:
        tensors.extend(_tensors((args, kwargs)))

    def on_end(_: nn.Module, __: object, output: object) -> None:
        tensors.extend(_tensors(output))

    if depth < len(stacks[0]):
        hook = stacks[0][depth].register_forward_pre_hook(on_call, with_kwargs=True)
    else:
        hook = stacks[-1][-1].register_forward_hook(on_end)
    try:
        _forward_probe(model)
    finally:
        hook.remove()
    if not tensors:
        raise UsageError(
            f"encoder family {model.encoder.config.model_type}: its layers do not run one after"
            " another; frozen tuning can't be used, leave out +ft"
        )
    return [value for value in tensors if value.is_floating_point()]


def _forward_probe(model: IntimacyRegressor) -> None:
    """Run the encoder on one text of a few tokens, in the mode that the model is in."""
    device = next(model.parameters()).device
    rows = embedding_of(model.encoder).num_embeddings
    ids = (torch.arange(_PROBE_TOKENS, device=device) + padding_id(model.encoder) + 1) % rows
    model(ids, torch.tensor([_PROBE_TOKENS]))


def _tensors(values: object) -> Iterator[torch.Tensor]:
    """Yield the tensors in nested tuples, lists and dictionaries."""
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from _tensors(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)


def count_parameters(model: IntimacyRegressor) -> ParameterCounts:
    """Count all parameters and those that train."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return ParameterCounts(sum(n for n, _ in sizes), sum(n for n, trains in sizes if trains))
