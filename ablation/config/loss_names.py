"""Names of the regression losses: the modules in `ablation/training/losses/regression`.

The names are read from the folder, not imported, so that planning does not load torch.
`ablation.training.losses.regression` says how to add a loss.
"""

from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from ablation.core.suggest import did_you_mean

REGRESSION_FOLDER: Final[Traversable] = files("ablation") / "training" / "losses" / "regression"


def regression_losses() -> tuple[str, ...]:
    """Return the name of each regression loss, in alphabetical order."""
    modules = (file.name for file in REGRESSION_FOLDER.iterdir() if file.name.endswith(".py"))
    return tuple(sorted(name.removesuffix(".py") for name in modules if not name.startswith("_")))


def check_regression_loss(name: str) -> str:
    """Return `name` if it is a regression loss, else raise ValueError with the nearest name."""
    known = regression_losses()
    if name not in known:
        raise ValueError(f"unknown loss: {did_you_mean(name, known)}")
    return name
