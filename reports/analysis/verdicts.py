"""Compare an estimate with the figure that the paper prints, and say what follows.

An effect is *reproduced* if its interval lies on the paper's side of zero, *not reproduced* if it
excludes an effect as large as the paper's (or lies on the other side), and *undecided* if it holds
both zero and the paper's effect. A cell's score is *reproduced* if its interval holds the paper's
figure and is narrow enough to mean something. Verdicts need at least two seeds and real data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from reports.analysis.inference import ALPHA
from reports.analysis.measures import MISSING, NAN, Estimate

#: A cell's interval may reach this far to either side: 2 points of Pearson.
CELL_TOLERANCE: Final = 0.02
ONE_SEED: Final = "one seed: the spread between trainings is unknown"
SYNTHETIC: Final = "the data are synthetic"
NOT_PRINTED: Final = "the paper prints no figure"


class Verdict(StrEnum):
    """The report's answer on a cell, an effect or a claim of the paper."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    UNDECIDED = "undecided"
    MISSING = "missing"
    NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True)
class Assessment:
    """A verdict with the reason in a few words and the numbers that it rests on.

    Attributes:
        verdict: The answer.
        reason: Why, as a clause without a full stop.
        estimate: The measured value; without a mean for a claim of several parts.
        printed: The paper's figure, as a correlation; NaN if it prints none.
        p: The estimate's p, adjusted for its family; NaN for a cell.
        subject: The thing measured: rows such as "test unseen", or a unit such as "steps".
        parts: For a claim, the assessments that all have to hold.
    """

    verdict: Verdict
    reason: str
    estimate: Estimate = MISSING
    printed: float = NAN
    p: float = NAN
    subject: str = ""
    parts: tuple["Assessment", ...] = ()

    @property
    def runs(self) -> tuple[str, ...]:
        """Ids of the runs that it rests on."""
        ids = (*self.estimate.runs, *(run for part in self.parts for run in part.runs))
        return tuple(dict.fromkeys(ids))


def assess_cell(estimate: Estimate, printed: float, *, comparable: bool) -> Assessment:
    """Compare a cell of Table 3 with the paper's.

    Args:
        estimate: The cell's mean over seeds.
        printed: The paper's figure as a correlation, NaN if the cell is empty.
        comparable: Whether the paper's figures apply to these data.
    """

    def conclude(verdict: Verdict, reason: str) -> Assessment:
        return Assessment(verdict, reason, estimate, printed)

    if not estimate.exists:
        return conclude(Verdict.MISSING, "no runs with a Pearson on these rows")
    if not comparable:
        return conclude(Verdict.NOT_COMPARABLE, SYNTHETIC)
    if not np.isfinite(printed):
        return conclude(Verdict.NOT_COMPARABLE, NOT_PRINTED)
    interval = estimate.interval
    if not np.isfinite(interval.low):
        return conclude(Verdict.UNDECIDED, "no interval")
    if printed not in interval:
        off = points(min(abs(printed - interval.low), abs(printed - interval.high)))
        return conclude(
            Verdict.NOT_REPRODUCED, f"the paper's figure lies {off} outside the interval"
        )
    if len(estimate.seeds) < 2:
        return conclude(Verdict.UNDECIDED, ONE_SEED)
    if interval.half_width > CELL_TOLERANCE:
        reach = points(interval.half_width)
        return conclude(Verdict.UNDECIDED, f"the interval reaches {reach} to either side")
    return conclude(Verdict.REPRODUCED, "the interval holds the paper's figure")


def assess_effect(estimate: Estimate, printed: float, p: float, *, comparable: bool) -> Assessment:
    """Compare an effect (a contrast of cells) with the paper's.

    Args:
        estimate: The measured effect.
        printed: The paper's effect as a difference of correlations, NaN if not printed.
        p: The estimate's p, adjusted for its family of tests.
        comparable: Whether the paper's figures apply to these data.
    """

    def conclude(verdict: Verdict, reason: str) -> Assessment:
        return Assessment(verdict, reason, estimate, printed, p)

    if not estimate.exists:
        return conclude(Verdict.MISSING, "not all of the runs are there")
    if not comparable:
        return conclude(Verdict.NOT_COMPARABLE, SYNTHETIC)
    if not np.isfinite(printed):
        return conclude(Verdict.NOT_COMPARABLE, NOT_PRINTED)
    if len(estimate.seeds) < 2:
        return conclude(Verdict.UNDECIDED, ONE_SEED)
    side = 1.0 if printed >= 0 else -1.0
    low, high = sorted((side * estimate.interval.low, side * estimate.interval.high))
    paper = f"the paper's {points(printed, signed=True)}"
    if p < ALPHA:
        if side * estimate.mean < 0:
            return conclude(Verdict.NOT_REPRODUCED, "the effect goes the other way")
        smaller = f", though smaller than {paper}" if high < abs(printed) else ""
        return conclude(Verdict.REPRODUCED, f"the interval is on the paper's side of zero{smaller}")
    if high < abs(printed):
        return conclude(Verdict.NOT_REPRODUCED, f"the interval excludes {paper}")
    if low > 0:
        return conclude(
            Verdict.UNDECIDED, "on the paper's side of zero, but not after Holm's correction"
        )
    return conclude(Verdict.UNDECIDED, f"the interval holds both no effect and {paper}")


def combine_verdicts(parts: Sequence[Assessment], all_hold: str) -> tuple[Verdict, str]:
    """Return the verdict of a claim whose parts all have to hold, and its reason.

    One part that is not reproduced refutes the claim; it is reproduced if every part is. Otherwise
    the first part without an answer gives the reason.
    """
    for decisive in (Verdict.NOT_REPRODUCED, Verdict.NOT_COMPARABLE):
        reasons = [part.reason for part in parts if part.verdict == decisive]
        if reasons:
            return decisive, reasons[0]
    open_parts = [part for part in parts if part.verdict != Verdict.REPRODUCED]
    if not open_parts:
        return Verdict.REPRODUCED, all_hold
    all_missing = all(part.verdict == Verdict.MISSING for part in parts)
    return (Verdict.MISSING if all_missing else Verdict.UNDECIDED), open_parts[0].reason


def points(value: float, *, signed: bool = False) -> str:
    """Write a difference of correlations in points of Pearson times 100."""
    text = f"{100 * value:+.2f}" if signed else f"{100 * value:.2f}"
    return f"{text} points".replace("-", "−")
