"""AdamW with a learning rate for each layer, and the schedule of the rates."""

from typing import assert_never

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_constant_schedule_with_warmup, get_linear_schedule_with_warmup

from ablation.config.schema import OptimisationConfig
from ablation.encoders.loading import layer_stacks
from ablation.training.model import IntimacyRegressor


def make_optimizer(model: IntimacyRegressor, optimisation: OptimisationConfig) -> AdamW:
    """Create AdamW over the parameters that train: those of the top layer first, the head's last.

    Biases and normalisation weights do not decay. A layer's learning rate is `lr_encoder` times
    `lr_layer_decay` to the power of the number of layers above it; the embeddings count as the
    lowest layer.
    """
    stacks = layer_stacks(model.encoder)
    lowest = len(stacks[0])
    depth_of = {
        id(p): depth
        for stack in stacks
        for depth, layer in enumerate(reversed(stack))
        for p in layer.parameters()
    }
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.encoder.named_parameters():
        if parameter.requires_grad:
            depth = depth_of.get(id(parameter), lowest if "embed" in name.lower() else 0)
            groups.setdefault((depth, parameter.ndim > 1), []).append(parameter)
    settings = [
        {
            "params": parameters,
            "lr": optimisation.lr_encoder * optimisation.lr_layer_decay**depth,
            "weight_decay": optimisation.weight_decay if decays else 0.0,
        }
        for (depth, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
    above = [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not name.startswith("encoder.")
    ]
    settings += [
        {
            "params": parameters,
            "lr": optimisation.lr_head,
            "weight_decay": optimisation.weight_decay if decays else 0.0,
        }
        for decays in (True, False)
        if (parameters := [p for p in above if (p.ndim > 1) == decays])
    ]
    return AdamW(settings, eps=optimisation.adam_eps, fused=True)


def make_schedule(
    optimizer: Optimizer, optimisation: OptimisationConfig, total_steps: int
) -> LRScheduler:
    """Create the schedule: rates rise linearly during the warm-up, then fall linearly to 0 or stay.

    The warm-up takes the share `optimisation.warmup` of `total_steps`, rounded.
    """
    warmup_steps = round(optimisation.warmup * total_steps)
    schedule: LRScheduler
    match optimisation.decay:
        case "linear":
            schedule = get_linear_schedule_with_warmup(optimizer, warmup_steps, total_steps)
        case "constant":
            schedule = get_constant_schedule_with_warmup(optimizer, warmup_steps)
        case unknown:
            assert_never(unknown)
    return schedule
