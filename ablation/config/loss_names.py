"""Names of the regression losses: the modules in `ablation/training/losses/regression`.

The names are read from the folder, not imported, so that planning does not load torch.
`ablation.training.losses.regression` says how to add a loss.
"""

from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from ablation.config.own_code import parse_own, pin
from ablation.core.suggest import did_you_mean

REGRESSION_FOLDER: Final[Traversable] = files("ablation") / "training" / "losses" / "regression"


def regression_losses() -> tuple[str, ...]:
    """Return the name of each regression loss, in alphabetical order."""
    modules = (file.name for file in REGRESSION_FOLDER.iterdir() if file.name.endswith(".py"))
    return tuple(sorted(name.removesuffix(".py") for name in modules if not name.startswith("_")))


def check_regression_loss(name: str) -> str:
    """Return the name of a regression loss; one of one's own is pinned to its source.

    Raises:
        ValueError: There is no such loss; the message names the nearest one.
    """
    if parse_own(name) is not None:
        return pin(name)
    known = regression_losses()
    if name not in known:
        hint = did_you_mean(name, known, others="FILE.py:FUNCTION")
        raise ValueError(f"unknown loss: {hint}")
    return name
