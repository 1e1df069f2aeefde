"""Set up figures in one style and write them: sizes, colours, axes, files.

Figures take computed data and return a matplotlib Figure; `save` gives equal bytes for equal data.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from reports.analysis.inference import Interval
from reports.rendering.fonts import families_for
from reports.rendering.style import style

#: Inches: one column of a two-column page, and the whole width.
NARROW: Final = 3.4
WIDE: Final = 7.0
Corner = Literal["best", "lower right"]
Format = Literal["pdf", "svg", "png"]
#: The first is the one that the PDF takes.
FORMATS: Final[tuple[Format, ...]] = ("pdf", "svg", "png")
#: Okabe and Ito's colours, told apart without colour vision too; a marker each for print.
COLOURS: Final = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#8C8C00",
)
MARKERS: Final = "osD^vPX*"
GREY: Final = "#999999"
_DASHES: Final = ("-", "--", ":", "-.")
#: A legend of more lies over what is drawn.
_FEW_SERIES: Final = 5
#: Inches of a legend's line, and of a letter in it, at 5.5 points.
_HANDLE_IN: Final = 0.28
_LETTER_IN: Final = 0.035
#: No date goes into a file, so that equal data give equal bytes.
_METADATA: Final[dict[Format, dict[str, None]]] = {
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
    "png": {"Software": None},
}


def fix_layout(figure: Figure) -> None:
    """Lay the figure out once for all formats; call it before `save`.

    Letters that the style's font lacks, as in a group's name, are taken from other fonts.
    """
    with style():
        for axes in figure.axes:
            # Their texts are set when they are asked for.
            axes.get_xticklabels()
            axes.get_yticklabels()
        for text in figure.findobj(Text):
            if isinstance(text, Text) and (families := families_for(text.get_text())):
                text.set_fontfamily([*text.get_fontfamily(), *families])
        if (engine := figure.get_layout_engine()) is not None:
            engine.execute(figure)
        # With a layout engine, even one that does nothing, each format would be drawn twice.
        figure.set_layout_engine(None)


def save(figure: Figure, folder: Path, name: str, form: Format) -> None:
    """Write `name`.`form` to `folder`."""
    with style():
        figure.savefig(folder / f"{name}.{form}", dpi=200, metadata=_METADATA[form])


def new_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of this size in inches with one pair of axes."""
    figure, grid = new_grid(1, 1, (width, height))
    return figure, grid[0][0]


def new_grid(
    rows: int,
    columns: int,
    size: tuple[float, float],
    *,
    shared: bool = False,
    width_ratios: Sequence[float] | None = None,
    height_ratios: Sequence[float] | None = None,
) -> tuple[Figure, np.ndarray]:
    """Return a figure with (rows, columns) axes.

    Args:
        rows, columns: The grid.
        size: Width and height in inches.
        shared: Whether all axes have the same ranges.
        width_ratios: Relative widths of the columns.
        height_ratios: Relative heights of the rows.
    """
    # Not pyplot's figure: nothing is kept open, and threads can draw.
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(
        rows,
        columns,
        squeeze=False,
        sharex=shared,
        sharey=shared,
        width_ratios=width_ratios,
        height_ratios=height_ratios,
    )
    return figure, grid


def colour(number: int) -> str:
    """Return the colour of the series with this number, from 0."""
    return COLOURS[number % len(COLOURS)]


def marker(number: int) -> str:
    """Return the marker of the series with this number, from 0.

    Where colours begin anew, markers are moved by one: no two of 64 series look alike.
    """
    return MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]


def dashes(number: int) -> str:
    """Return the line style of the series with this number, from 0: new where colours repeat."""
    return _DASHES[number // len(COLOURS) % len(_DASHES)]


def add_legend(figure: Figure, axes: Axes, corner: Corner = "best", size: float = 5.5) -> None:
    """Add a legend of the series: in a corner if they are few and short, else above the axes."""
    handles, labels = axes.get_legend_handles_labels()
    width = _HANDLE_IN + _LETTER_IN * max(map(len, labels), default=0)
    if len(labels) <= _FEW_SERIES and width <= figure.get_figwidth() / 2:
        axes.legend(fontsize=size, loc=corner)
        return
    columns = max(1, min(3, int(figure.get_figwidth() / width)))
    lines = -(-len(labels) // columns)
    figure.set_figheight(figure.get_figheight() + 0.12 * lines)
    figure.legend(handles, labels, fontsize=5.5, ncols=columns, loc="outside upper center")


def exists(interval: Interval) -> bool:
    """Tell whether an interval has ends to draw."""
    return bool(np.isfinite(interval.low))


def label_cells(
    axes: Axes, values: np.ndarray, texts: np.ndarray, *, fontsize: float, dark: np.ndarray
) -> None:
    """Write `texts` into the cells of an image, white where `dark`; cells that are NaN stay empty.

    All arrays are (rows, columns).
    """
    for i, j in np.ndindex(*values.shape):
        if np.isfinite(values[i, j]):
            ink = "white" if dark[i, j] else "black"
            text_style: dict[str, Any] = {
                "ha": "center",
                "va": "center",
                "fontsize": fontsize,
                "color": ink,
            }
            axes.text(j, i, str(texts[i, j]), **text_style)
