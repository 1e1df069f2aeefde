"""Mixed precision, once for training, evaluation and the cache of frozen layers."""

import torch

from ablation.config.schema import Precision


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return a context in which matrix products on `device` are computed in `precision`.

    With "float32" the context changes nothing. Parameters stay float32 in either case.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
