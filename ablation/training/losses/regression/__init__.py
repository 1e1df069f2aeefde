"""Regression losses, one module each, chosen by `loss.regression`.

To add a loss to the package, add one file: `NAME.py` in this folder, with a function `NAME` of the
type `RegressionLoss`. `loss.regression=NAME` then works in profiles, sweeps and `--set`, and the
name appears in the help text. No other file changes. A keyword-only argument `x` of `NAME` is given
the setting `loss.NAME_x` if there is one, and keeps its default otherwise; `weight` is given the
weights of the texts. A loss that is not a mean over texts is right in any way that a batch is run:
it always receives the whole batch (`ablation.training.step`).

A loss of one's own needs no file in the package: `loss.regression=my_losses.py:tilted` names a
function of the same type in a file, `package.module:tilted` one of an installed module.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

from jaxtyping import Float, Float32
from torch import Tensor

from ablation.config.loss_names import check_regression_loss
from ablation.config.own_code import parse_own
from ablation.config.schema import LossConfig
from ablation.core.errors import UsageError, first_line
from ablation.training.own_functions import load_function

#: Names of terms that the curves have already.
RESERVED: Final = ("regression", "contrastive")
#: A function of predictions and labels, both (batch,), that returns the loss of the batch: a
#: scalar, or several by name, which are added. Keyword-only arguments are settings.
RegressionLoss = Callable[..., Tensor | Mapping[str, Tensor]]


@functools.cache
def regression_loss(name: str) -> RegressionLoss:
    """Return the regression loss `name`, which may be one of the user's own.

    Raises:
        UsageError: There is no such loss, its module can't be imported, or the module has no
            function of that name.
    """
    if parse_own(name) is not None:
        try:
            return load_function(name)
        except UsageError as error:
            raise UsageError(f"loss.regression = {first_line(error)}") from error
    try:
        module = import_module(f"{__name__}.{check_regression_loss(name)}")
    except Exception as error:
        raise UsageError(f"loss.regression = {name!r}: {first_line(error)}") from error
    loss: RegressionLoss | None = getattr(module, name, None)
    if not callable(loss):
        raise UsageError(f"loss.regression = {name!r}: {module.__file__} has no function {name!r}")
    return loss


def regression_terms(
    prediction: Float32[Tensor, " batch"],
    label: Float[Tensor, " batch"],
    config: LossConfig,
    weight: Float32[Tensor, " batch"] | None = None,
) -> dict[str, Float32[Tensor, ""]]:
    """Return the terms of the configured regression loss by name; most losses have one, "".

    Raises:
        UsageError: The loss is unknown, can't be loaded, does not return scalars, or is given
            weights that it does not take.
    """
    name = config.regression
    loss = regression_loss(name)
    options = _keyword_arguments(loss)
    arguments: dict[str, Any] = {
        option: getattr(config, field)
        for option in options
        if (field := f"{name}_{option}") in LossConfig.model_fields
    }
    if weight is not None:
        if "weight" not in options:
            raise UsageError(
                f"loss.regression = {name!r}: takes no argument `weight`;"
                " it can't be used with weighted texts"
            )
        arguments["weight"] = weight
    value = loss(prediction, label, **arguments)
    terms = dict(value) if isinstance(value, Mapping) else {"": value}
    for term, part in terms.items():
        if term and (term in RESERVED or not str(term).isidentifier()):
            raise UsageError(
                f"loss.regression = {name!r}: a term is called {term!r}; give it another name, of"
                " letters, digits and underscores"
            )
        if not isinstance(part, Tensor) or part.ndim != 0:
            shape = f"shape {tuple(part.shape)}" if isinstance(part, Tensor) else repr(part)[:40]
            of_term = f" for the term {term!r}" if term else ""
            raise UsageError(
                f"loss.regression = {name!r}: returned {shape}{of_term}, not a scalar tensor"
            )
    if not terms:
        raise UsageError(f"loss.regression = {name!r}: returned no term")
    return terms


@functools.cache
def _keyword_arguments(loss: RegressionLoss) -> frozenset[str]:
    """Return the names of a loss's keyword-only arguments."""
    parameters = inspect.signature(loss).parameters.values()
    return frozenset(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)
