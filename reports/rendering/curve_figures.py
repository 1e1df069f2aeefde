"""Draw training curves and the gradients of the loss terms (Figures 4 and 5)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ablation.core.counting import counted
from reports.analysis.curve_study import Contrast
from reports.analysis.curves import Curve, mean_curve, mean_of
from reports.rendering.plotting import (
    GREY,
    NARROW,
    WIDE,
    add_legend,
    colour,
    dashes,
    new_axes,
    new_grid,
)
from reports.rendering.style import styled

#: Curves by contrast, then by the label of the loss.
Panels = Mapping[Contrast, Mapping[str, Sequence[Curve]]]


@styled
def training_curves(curves: Mapping[str, Sequence[Curve]]) -> Figure:
    """Draw training Pearson by step for each label: every seed thin, the mean bold, unsmoothed."""
    figure, axes = new_axes(NARROW, 2.3)
    for i, (label, of_label) in enumerate(curves.items()):
        seeds = counted(len(of_label), "seed")
        for curve in of_label:
            axes.plot(curve.step, curve.pearson, color=colour(i), linewidth=0.5, alpha=0.55)
        mean = mean_curve(of_label)
        axes.plot(
            mean.index,
            mean.to_numpy(),
            color=colour(i),
            linestyle=dashes(i),
            linewidth=1.8,
            label=f"{label}, {seeds}",
        )
    axes.set(xlabel="optimizer step", ylabel="training Pearson")
    axes.axhline(0, color=GREY, linewidth=0.5)
    add_legend(figure, axes, "lower right", size=7)
    return figure


@styled
def study_curves(panels: Panels) -> Figure:
    """Draw training Pearson for each reading of Eq. 9 (rows) and temperature (columns)."""
    return _panels(panels, "training Pearson", _draw_pearson)


@styled
def study_gradients(panels: Panels) -> Figure:
    """Draw norms of each term's gradient and of their sum by step, means over seeds."""
    return _panels(panels, "gradient norm", _draw_norms)


@styled
def study_cosines(panels: Panels) -> Figure:
    """Draw the cosine between the terms' gradients by step: seeds thin, the mean bold."""
    return _panels(panels, "cosine", _draw_cosine)


def _panels(
    panels: Panels, ylabel: str, draw: Callable[[Axes, int, str, Sequence[Curve]], None]
) -> Figure:
    """Draw each contrast into its panel: a row for each sign, a column for each temperature."""
    signs = list(dict.fromkeys(contrast.sign for contrast in panels))
    taus = sorted({contrast.tau for contrast in panels})
    size = (WIDE, 0.5 + 1.7 * len(signs))
    figure, grid = new_grid(len(signs), len(taus), size, shared=True)
    for contrast, curves in panels.items():
        axes = grid[signs.index(contrast.sign)][taus.index(contrast.tau)]
        for i, (label, of_label) in enumerate(curves.items()):
            if of_label:
                draw(axes, i, label, of_label)
        axes.set_title(str(contrast), fontsize=7)
    for axes in grid[-1]:
        axes.set_xlabel("optimizer step")
    for row in grid:
        row[0].set_ylabel(ylabel)
    handles, labels = grid[0][0].get_legend_handles_labels()
    columns = min(3, len(labels))
    figure.legend(handles, labels, fontsize=6, loc="outside upper center", ncols=columns)
    return figure


def _draw_pearson(axes: Axes, i: int, label: str, curves: Sequence[Curve]) -> None:
    _draw_seeds(axes, i, label, [pd.Series(c.pearson, index=c.step) for c in curves])


def _draw_cosine(axes: Axes, i: int, label: str, curves: Sequence[Curve]) -> None:
    _draw_seeds(axes, i, label, _gradients(curves, "cosine"))


def _draw_seeds(axes: Axes, i: int, label: str, series: Sequence[pd.Series]) -> None:
    for one in series:
        axes.plot(one.index, one.to_numpy(), color=colour(i), linewidth=0.4, alpha=0.55)
    mean = mean_of(series)
    axes.plot(mean.index, mean.to_numpy(), color=colour(i), linewidth=1.6, label=label)
    axes.axhline(0, color=GREY, linewidth=0.5)


def _draw_norms(axes: Axes, i: int, label: str, curves: Sequence[Curve]) -> None:
    for term, line in (("regression", ":"), ("contrastive", "--"), ("sum", "-")):
        mean = mean_of(_gradients(curves, term))
        style: dict[str, Any] = {"color": colour(i), "linewidth": 0.9, "linestyle": line}
        axes.plot(mean.index, mean.to_numpy(), label=f"{label}: {term}", **style)
    axes.set_yscale("log")


def _gradients(curves: Sequence[Curve], name: str) -> list[pd.Series]:
    return [curve.gradients[name] for curve in curves if name in curve.gradients]
