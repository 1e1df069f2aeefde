"""Figures that stay readable with many rows."""

import numpy as np
import pandas as pd
import pytest

from reports.rendering import figures
from reports.rendering.plotting import colour, marker


def series(count: int) -> pd.DataFrame:
    """Return a calibration of this many rows, which fills the figure from corner to corner."""
    return pd.DataFrame(
        [
            {"variant": f"row {i}", "predicted": at, "label": at if i % 2 else 5 - at}
            for i in range(count)
            for at in np.linspace(1, 4, 7)
        ]
    )


def test_no_two_series_look_alike() -> None:
    assert len({(colour(i), marker(i)) for i in range(64)}) == 64


@pytest.mark.parametrize("count", [6, 11, 24])
def test_a_legend_of_many_rows_lies_beside_what_is_drawn(count: int) -> None:
    figure = figures.calibration(series(count))
    figure.draw_without_rendering()
    (axes,), (legend,) = figure.axes, figure.legends
    assert axes.get_legend() is None
    assert len(legend.get_texts()) == count
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())
    assert axes.get_window_extent().height > figure.bbox.height / 2
