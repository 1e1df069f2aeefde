"""Apply the figures' style while one is drawn or written."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.resources import files
from pathlib import Path
from typing import Final, ParamSpec

import matplotlib as mpl
from matplotlib.figure import Figure

P = ParamSpec("P")
_FILE: Final = Path(str(files("reports.rendering") / "document" / "figures.mplstyle"))


def style() -> AbstractContextManager[None]:
    """Return a context in which matplotlib draws in the style of `document/figures.mplstyle`."""
    return mpl.rc_context(_settings())


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorate `draw` to run under the style: text takes its size when made, not when saved."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with style():
            return draw(*args, **kwargs)

    return drawn


@functools.cache
def _settings() -> mpl.RcParams:
    """Read the style file once: every figure enters the style five times."""
    return mpl.rc_params_from_file(_FILE, use_default_template=False)
