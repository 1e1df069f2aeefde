"""Figures that stay readable with many rows."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from reports.analysis.collect import StoredRun
from reports.analysis.curves import Curve
from reports.rendering import figures
from reports.rendering.curve_figures import training_curves
from reports.rendering.plotting import colour, dashes, marker


def series(names: Sequence[str]) -> pd.DataFrame:
    """Return a calibration of these rows, which fills the figure from corner to corner."""
    return pd.DataFrame(
        [
            {"variant": name, "predicted": at, "label": at if i % 2 else 5 - at}
            for i, name in enumerate(names)
            for at in np.linspace(1, 4, 7)
        ]
    )


def test_no_two_series_look_alike() -> None:
    assert len({(colour(i), marker(i)) for i in range(64)}) == 64
    assert len({(colour(i), dashes(i)) for i in range(32)}) == 32


def draw_calibration(names: Sequence[str]) -> Figure:
    return figures.calibration(series(names))


def draw_curves(names: Sequence[str]) -> Figure:
    run = StoredRun("r", "mse", "dev1", 0, "FINISHED", "", "", {}, {}, "")
    curve = Curve(run, np.arange(10), np.linspace(0, 1, 10))
    return training_curves({name: [curve] for name in names})


@pytest.mark.parametrize("draw", [draw_calibration, draw_curves])
@pytest.mark.parametrize(
    ("count", "name"),
    [
        *((count, "row") for count in (6, 11, 24)),
        *((count, "a row with a title that has quite many words") for count in (2, 6, 11, 24)),
    ],
)
def test_a_legend_of_many_rows_lies_beside_what_is_drawn(
    draw: Callable[[Sequence[str]], Figure], count: int, name: str
) -> None:
    figure = draw([f"{name} {i}" for i in range(count)])
    figure.draw_without_rendering()
    (axes,), (legend,) = figure.axes, figure.legends
    box = legend.get_window_extent()
    assert axes.get_legend() is None
    assert len(legend.get_texts()) == count
    assert not box.overlaps(axes.get_window_extent())
    assert figure.bbox.x0 <= box.x0
    assert box.x1 <= figure.bbox.x1
