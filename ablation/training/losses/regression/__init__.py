"""Regression losses, one module each, chosen by `loss.regression`.

To add a loss, add one file: `NAME.py` in this folder, with a function `NAME` of the type
`RegressionLoss`. `loss.regression=NAME` then works in profiles, sweeps and `--set`, and the name
appears in the help text. No other file changes. A loss with a constant of its own (such as the
threshold of a Huber loss) keeps it in its module: the code is part of a run's identity.
"""

import functools
from collections.abc import Callable
from importlib import import_module

from jaxtyping import Float, Float32
from torch import Tensor

from ablation.config.loss_names import check_regression_loss
from ablation.core.errors import UsageError, first_line

#: A function of predictions and labels that returns the mean loss of a batch.
RegressionLoss = Callable[[Float[Tensor, " batch"], Float[Tensor, " batch"]], Float32[Tensor, ""]]


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
