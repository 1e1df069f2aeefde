"""Figures that stay readable with many rows."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from reports.analysis.collect import StoredRun
from reports.analysis.curves import Curve
from reports.rendering import figures
from reports.rendering.curve_figures import training_curves
from reports.rendering.plotting import FORMATS, colour, dashes, fix_layout, marker, save


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


@pytest.mark.filterwarnings("error")
def test_names_in_any_script_have_their_letters(tmp_path: Path) -> None:
    names = [
        "\u5c0f\u8bf4",
        "\ub274\uc2a4",
        "\u0939\u093f\u0928",
        "\u12a0\u121b",
        "\N{FIRE}",
        "\u0627\u0644",
    ]
    scores = pd.DataFrame({name: [0.5, 0.25] for name in names}, index=["MSE", "EPM"])
    for i, figure in enumerate((draw_calibration(names), figures.heat(scores))):
        fix_layout(figure)
        for form in FORMATS:
            save(figure, tmp_path, f"figure{i}", form)


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
