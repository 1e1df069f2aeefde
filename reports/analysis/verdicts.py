"""What an estimate says about a figure that the paper prints.

An effect is *reproduced* if its interval lies on the paper's side of zero, *not reproduced* if it
excludes an effect as large as the paper's (or lies on the other side), and *underpowered* if it
holds both zero and the paper's effect. One seed can't tell a method from the luck of a training, so
one seed is underpowered whatever its rows say. A cell's score is *reproduced* if its interval holds
the paper's figure and is narrow enough to mean something.
"""

from typing import Final, Literal, NamedTuple

import numpy as np

from reports.analysis import inference as st
from reports.analysis.measures import Estimate

Verdict = Literal["reproduced", "not reproduced", "underpowered", "missing", "not comparable"]

#: A cell's interval may reach this far to either side and still reproduce a figure: 2 points of Pearson.
CELL_TOLERANCE: Final = 0.02
ONE_SEED: Final = "one seed: how much trainings differ is not known"
SYNTHETIC: Final = "the data are synthetic"


class Judgement(NamedTuple):
    """A verdict and the reason in a few words."""

    verdict: Verdict
    why: str


def judge_cell(estimate: Estimate, printed: float, *, comparable: bool) -> Judgement:
    """Whether a cell of Table 3 was reproduced. `printed` as a correlation, NaN where the cell is empty."""
    if not estimate.exists:
        return Judgement("missing", "no runs with a Pearson on these rows")
    if not comparable:
        return Judgement("not comparable", SYNTHETIC)
    if not np.isfinite(printed):
        return Judgement("not comparable", "the paper prints no figure")
    interval = estimate.interval
    if not np.isfinite(interval.low):
        return Judgement("underpowered", "no interval")
    if printed not in interval:
        off = min(abs(printed - interval.low), abs(printed - interval.high))
        return Judgement(
            "not reproduced", f"the paper's figure lies {points(off)} outside the interval"
        )
    if len(estimate.seeds) < 2:
        return Judgement("underpowered", ONE_SEED)
    if interval.half_width > CELL_TOLERANCE:
        return Judgement(
            "underpowered", f"the interval reaches {points(interval.half_width)} to either side"
        )
    return Judgement("reproduced", "the interval holds the paper's figure")


def judge_effect(estimate: Estimate, printed: float, p: float, *, comparable: bool) -> Judgement:
    """Whether an effect (a difference of cells) was reproduced; `p` is the one adjusted for its family."""
    if not estimate.exists:
        return Judgement("missing", "not every run that it takes is there")
    if not comparable:
        return Judgement("not comparable", SYNTHETIC)
    if not np.isfinite(printed):
        return Judgement("not comparable", "the paper prints no figure")
    if len(estimate.seeds) < 2:
        return Judgement("underpowered", ONE_SEED)
    side = 1.0 if printed >= 0 else -1.0
    low, high = sorted((side * estimate.interval.low, side * estimate.interval.high))
    if p < st.ALPHA:
        if side * estimate.mean < 0:
            return Judgement("not reproduced", "the effect goes the other way")
        smaller = (
            f", though smaller than the paper's {points(printed, signed=True)}"
            if high < abs(printed)
            else ""
        )
        return Judgement("reproduced", f"the interval is on the paper's side of zero{smaller}")
    if high < abs(printed):
        return Judgement(
            "not reproduced", f"the interval excludes the paper's {points(printed, signed=True)}"
        )
    if low > 0:
        return Judgement(
            "underpowered", "on the paper's side of zero, but not after Holm's correction"
        )
    return Judgement(
        "underpowered",
        f"the interval holds both no effect and the paper's {points(printed, signed=True)}",
    )


def points(value: float, *, signed: bool = False) -> str:
    """A difference of correlations in points of Pearson times 100."""
    text = f"{100 * value:+.2f}" if signed else f"{100 * value:.2f}"
    return f"{text} points".replace("-", "−")
