"""The mean squared error, Eq. 2."""

import torch


def mse(prediction: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Return the mean of (y - ŷ)², Eq. 2: two tensors (batch,) to a float32 scalar."""
    return (label.float() - prediction.float()).square().mean()
