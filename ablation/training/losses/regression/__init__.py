"""Regression losses, one module each, chosen by `loss.regression`.

To add a loss, add one file: `NAME.py` in this folder, with a function `NAME` of the type
`RegressionLoss`. `loss.regression=NAME` then works in profiles, sweeps and `--set`, and the name
appears in the help text. No other file changes. A loss with a constant of its own (such as the
threshold of a Huber loss) keeps it in its module: the code is part of a run's identity.
"""

import functools
from importlib import import_module
from typing import Protocol

import torch

from ablation.config.loss_names import check_regression_loss
from ablation.core.errors import UsageError, first_line


class RegressionLoss(Protocol):
    """A function of predictions and labels, both (batch,), that returns a float32 scalar."""

    def __call__(self, prediction: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of the batch; both arguments may be in half precision."""


@functools.cache
def regression_loss(name: str) -> RegressionLoss:
    """Return the regression loss `name`.

    Raises:
        UsageError: There is no such loss, its module can't be imported, or the module has no
            function of that name.
    """
    try:
        module = import_module(f"{__name__}.{check_regression_loss(name)}")
    except Exception as error:
        raise UsageError(f"loss.regression = {name!r}: {first_line(error)}") from error
    loss: RegressionLoss | None = getattr(module, name, None)
    if not callable(loss):
        raise UsageError(f"loss.regression = {name!r}: {module.__file__} has no function {name!r}")
    return loss
