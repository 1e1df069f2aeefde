"""Draw specification curves: an effect's estimates over all readings, and the choices of each."""

from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.analysis.specifications import Specification, SpecificationCurve
from reports.rendering.plotting import COLOURS, GREY, WIDE, exists, new_grid
from reports.rendering.style import styled

_OWN: Final = COLOURS[1]
_OTHER: Final = COLOURS[0]
#: Inches: the estimates' panel, and a line of the choices.
_ESTIMATES: Final = 1.7
_LINE: Final = 0.15


@styled
def specification_curve(curve: SpecificationCurve, *, with_paper: bool) -> Figure:
    """Draw estimates with 95% intervals, smallest first; under each, the choices that it makes."""
    choices = curve.choices
    heights = [_ESTIMATES, 0.3 + _LINE * len(choices)]
    figure, grid = new_grid(2, 1, (WIDE, sum(heights) + 0.3), height_ratios=heights)
    (above,), (below,) = grid
    _draw_estimates(above, curve, 100 * curve.printed if with_paper else float("nan"))
    _draw_choices(below, curve, choices)
    limits = (-0.7, len(curve.specifications) - 0.3)
    for axes in (above, below):
        axes.set(xlim=limits, xticks=[])
    return figure


def _draw_estimates(axes: Axes, curve: SpecificationCurve, printed: float) -> None:
    for i, specification in enumerate(curve.specifications):
        interval = specification.estimate.interval
        ink = _OWN if specification is curve.own else _OTHER
        if exists(interval):
            ends = [100 * interval.low, 100 * interval.high]
            axes.plot([i, i], ends, color=ink, linewidth=0.8, alpha=0.7)
        axes.plot(i, 100 * specification.estimate.mean, "o", color=ink, markersize=3)
    axes.axhline(0, color=GREY, linewidth=0.6)
    if np.isfinite(printed):
        axes.axhline(printed, color="#555555", linestyle="--", linewidth=0.8)
    axes.set(ylabel="Pearson × 100")
    # Wide intervals would flatten the curve of the estimates.
    means = np.append(100 * curve.means, [0.0, np.nan_to_num(printed)])
    spread = max(1.0, float(np.ptp(means)))
    axes.set(ylim=(means.min() - spread, means.max() + spread))


def _draw_choices(axes: Axes, curve: SpecificationCurve, choices: list[str]) -> None:
    for i, specification in enumerate(curve.specifications):
        ink = _OWN if specification is curve.own else _OTHER
        made = [choices.index(choice) for choice in _choices_of(specification)]
        axes.plot([i] * len(choices), range(len(choices)), "o", color="#DDDDDD", markersize=2.5)
        axes.plot([i] * len(made), made, "o", color=ink, markersize=3)
    axes.set_yticks(range(len(choices)), choices)
    axes.set(ylim=(len(choices) - 0.5, -0.5))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _choices_of(specification: Specification) -> list[str]:
    return [*specification.readings, f"models of {specification.split}"]
