"""Draw the power of a plan by seeds and by rows."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from reports.analysis.planning import ClaimPlan
from reports.rendering.plotting import GREY, WIDE, colour, marker, new_grid
from reports.rendering.style import styled

#: Multiples of the rows at hand.
_ROWS: Final = 2.0 ** np.arange(-2, 5)
_FEWEST_SEEDS: Final = 10
_MOST_SEEDS: Final = 60
#: The rows' panel shows what rows alone can do.
_MANY_SEEDS: Final = 100


@styled
def power_curves(claims: Sequence[ClaimPlan]) -> Figure:
    """Draw the power to show all effects of each claim, by seeds and by rows.

    The dashed line is the power wanted; a curve that stays below it on the left is one that no
    number of seeds lifts. The rows' panel is for a hundred seeds.
    """
    figure, (row,) = new_grid(1, 2, (WIDE, 2.9))
    by_seeds, by_rows = row
    seeds = np.arange(2, _last_seed(claims) + 1)
    for i, claim in enumerate(claims):
        style: dict[str, Any] = {"color": colour(i), "marker": marker(i), "markersize": 2.5}
        every = {"markevery": max(1, len(seeds) // 10)}
        by_seeds.plot(seeds, claim.power(seeds), label=claim.claim.id, **style, **every)
        powers = [float(claim.power([_MANY_SEEDS], rows_factor=factor)[0]) for factor in _ROWS]
        by_rows.plot(_ROWS, powers, **style)
    design = claims[0].design
    for axes in row:
        axes.axhline(design.target, color=GREY, linestyle="--", linewidth=0.8)
        axes.set(ylim=(-0.03, 1.03))
    by_seeds.axvline(design.seeds, color=GREY, linestyle=":", linewidth=0.8)
    by_rows.axvline(1, color=GREY, linestyle=":", linewidth=0.8)
    by_seeds.set(xlabel="seeds (dotted: planned), rows as they are", ylabel="power")
    by_seeds.xaxis.set_major_locator(MaxNLocator(integer=True))
    by_rows.set(xlabel=f"rows, multiples of those at hand, {_MANY_SEEDS} seeds")
    by_rows.set_xscale("log", base=2)
    by_rows.set_xticks(_ROWS)
    by_rows.xaxis.set_minor_locator(NullLocator())
    by_rows.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    figure.legend(loc="outside right center", fontsize=6)
    return figure


def _last_seed(claims: Sequence[ClaimPlan]) -> int:
    """Return how many seeds to draw: past the largest need that seeds can meet."""
    needs = [plan.need.seeds for claim in claims for plan in claim.effects if plan.need]
    largest = max((seeds for seeds in needs if seeds is not None), default=0)
    return int(np.clip(1.2 * largest, max(_FEWEST_SEEDS, claims[0].design.seeds), _MOST_SEEDS))
