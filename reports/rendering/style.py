"""The figures' style, in force while one is drawn or written."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, ParamSpec

import matplotlib as mpl
from matplotlib.figure import Figure

from reports.rendering.typeface import figure_families

P = ParamSpec("P")
_FILE: Final = Path(str(files("reports.rendering") / "document" / "figures.mplstyle"))


def style() -> AbstractContextManager[None]:
    """Inside, matplotlib draws in the style of `document/figures.mplstyle`."""
    return mpl.rc_context(_settings())


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """`draw` under the style: text takes its size when it is made, not when it is saved."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with style():
            return draw(*args, **kwargs)

    return drawn


@functools.cache
def _settings() -> Any:
    """Read once: every figure enters the style five times."""
    settings = mpl.rc_params_from_file(_FILE, use_default_template=False)
    settings["font.family"] = list(figure_families())
    return settings
