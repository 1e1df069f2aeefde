"""Verdicts on printed figures: replicated, smaller, larger, no effect, opposite or undecided.

A verdict rests on the estimate, its uncertainty, the printed figure with the uncertainty of the
experiment behind that, and a level that was fixed before the runs: `Family` counts the claims that
could be made, not those for which there are runs, so that no verdict moves when runs of another
variant are added. Claims of *sign* ("A beats B") and of *size* ("about two points") differ: a
size is replicated only if the effect is at least a stated share of the printed one.

The printed figure comes from one training on its rows. It is compared by a prediction interval
for a second experiment of that size (Patil, Peng and Leek, 2016, "What should researchers expect
when they replicate studies?", Perspectives on Psychological Science 11). "No effect" is shown by
two one-sided tests against the smallest effect of interest (Schuirmann, 1987, J. Pharmacokinetics
and Biopharmaceutics 15), never by a large p.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Literal

import numpy as np

from reports.analysis.inference import ALPHA, LEVEL, NO_INTERVAL, Interval
from reports.analysis.power import Need, Size, Sources, needed, target_of_each
from reports.analysis.variance_components import (
    LEAST_LABELS,
    LEAST_ROWS,
    Factor,
    Uncertainty,
    contrast_interval,
    correlation_interval,
)


class Verdict(StrEnum):
    """The report's answer on a cell, an effect or a claim of the paper."""

    REPLICATED = "replicated"
    SMALLER = "smaller than printed"
    LARGER = "larger than printed"
    NO_EFFECT = "no effect"
    OPPOSITE = "opposite"
    UNDECIDED = "undecided"
    MISSING = "missing"
    NOT_COMPARABLE = "not comparable"


#: Those that say something of the truth.
DECIDED: Final = frozenset(Verdict) - {Verdict.UNDECIDED, Verdict.MISSING, Verdict.NOT_COMPARABLE}
#: Of the parts of a claim all of which have to hold, the first of these is the claim's verdict.
_LEADING: Final = (
    Verdict.OPPOSITE,
    Verdict.NO_EFFECT,
    Verdict.SMALLER,
    Verdict.NOT_COMPARABLE,
    Verdict.UNDECIDED,
    Verdict.MISSING,
    Verdict.LARGER,
    Verdict.REPLICATED,
)


ClaimKind = Literal["sign", "size"]


@dataclass(frozen=True)
class Family:
    """The claims that share an error rate, counted before any run.

    Attributes:
        name: For the report, e.g. "the paper's claims".
        size: How many claims could be made, with or without runs.
        alpha: The probability of any false verdict in the family.
    """

    name: str
    size: int
    alpha: float = ALPHA

    @property
    def per_claim(self) -> float:
        """The level of each claim's test (Bonferroni)."""
        return self.alpha / self.size

    def adjusted(self, p: float) -> float:
        """Return p multiplied by the family's size, at most 1; NaN for NaN."""
        return float(np.minimum(1.0, p * self.size))


@dataclass(frozen=True)
class Evidence:
    """A measured effect or score.

    Attributes:
        estimate: In Pearson, not times 100.
        uncertainty: Of the estimate, without leading axes.
        seeds: Seeds that it averages over.
        rows: Distinct rows that it was scored on.
        labels: Distinct labels among them.
        splits: Splits that it averages over.
        weights: Of the contrast, (1,) for a score; an interval stays within their range.
        rows_of_one: Distinct rows of one of the splits; `rows` if None.
    """

    estimate: float
    uncertainty: Uncertainty
    seeds: int
    rows: int
    labels: int
    splits: int = 1
    weights: tuple[float, ...] = (1.0, -1.0)
    rows_of_one: int | None = None

    @property
    def obstacle(self) -> str | None:
        """Why there is no verdict, whatever the interval; None if nothing stands against one."""
        if self.seeds < 2:
            return "one seed: how much trainings differ is not known"
        if self.rows < LEAST_ROWS:
            return f"{self.rows} distinct rows, a verdict takes at least {LEAST_ROWS}"
        if self.labels < LEAST_LABELS:
            return f"{self.labels} distinct labels, a verdict takes at least {LEAST_LABELS}"
        if not (np.isfinite(self.estimate) and np.isfinite(self.uncertainty.variance)):
            return "no interval"
        return None

    def interval(self, level: float = LEVEL) -> Interval:
        """Return the interval at this level; NO_INTERVAL if there is none or rows are too few."""
        if self.obstacle:
            return NO_INTERVAL
        return _interval(self, self.uncertainty, level)


@dataclass(frozen=True)
class Printed:
    """A printed figure and the size of the experiment behind it.

    Attributes:
        figure: In Pearson, not times 100; NaN if the paper prints none.
        rows: Its number of rows; as many as the measured ones of one split if None.
        seeds: Its number of trainings for each variant.
        same_rows: Whether its rows are those that were scored here, so that they cancel.
        word: "printed", or "claimed" for a sign that is claimed without a figure.
    """

    figure: float
    rows: int | None = None
    seeds: int = 1
    same_rows: bool = False
    word: str = "printed"


@dataclass(frozen=True)
class Thresholds:
    """The smallest effects of interest, stated before the runs; in Pearson, not times 100.

    Attributes:
        smallest_effect: The smallest effect of interest: half a point of Pearson times 100.
        least_share: A size is replicated if the effect is at least this share of the printed one.
        cell_half_width: The largest half-width of the interval of a score that is replicated.
    """

    smallest_effect: float = 0.005
    least_share: float = 0.5
    cell_half_width: float = 0.02


DEFAULTS: Final = Thresholds()


@dataclass(frozen=True)
class Judged:
    """A verdict with all that it rests on.

    Attributes:
        verdict: The verdict.
        why: The reason, in a few words.
        interval: The 95 % interval, of this estimate alone.
        decisive: The interval at the family's level, which decides.
        prediction: Where the printed figure would fall if the measured effect were the true one,
            at the family's level.
        p: Of "no effect", two-sided and of this estimate alone; NaN for a score.
        p_family: p times the family's size.
        family: The family whose size set the level.
    """

    verdict: Verdict
    why: str
    interval: Interval
    decisive: Interval
    prediction: Interval
    p: float
    p_family: float
    family: Family


def judge_claim(
    evidence: Evidence,
    printed: Printed,
    kind: ClaimKind,
    family: Family,
    *,
    parts: int = 1,
    thresholds: Thresholds = DEFAULTS,
) -> Judged:
    """Judge an effect against the printed one.

    Args:
        evidence: What was measured.
        printed: What the paper prints, not 0 and not NaN.
        kind: What is claimed of it.
        family: The family that the claim belongs to.
        parts: How many effects the claim rests on. All of them have to hold, so each is shown at
            the claim's level; any of them can refute it, so each refutes at the level over `parts`.
        thresholds: What counts as an effect.
    """
    if not np.isfinite(printed.figure) or printed.figure == 0:
        raise ValueError("A claim needs a printed effect other than 0; skip claims without one.")
    if evidence.obstacle:
        return _no_verdict(evidence.obstacle, family)
    side = float(np.sign(printed.figure))
    size = abs(printed.figure)
    refuting = family.per_claim / parts
    shown = _turned(evidence.interval(1 - family.per_claim), side)
    refuted = _turned(evidence.interval(1 - refuting), side)
    # Two one-sided tests at a level are the interval at twice that level.
    equivalence = evidence.interval(1 - 2 * refuting)
    prediction = predict(evidence, printed, 1 - refuting)
    reach = _turned(prediction, side)
    p = float(evidence.uncertainty.p(evidence.estimate))
    least = thresholds.smallest_effect

    def judged(verdict: Verdict, why: str) -> Judged:
        return Judged(
            verdict,
            why,
            evidence.interval(),
            evidence.interval(1 - family.per_claim),
            prediction,
            p,
            family.adjusted(p),
            family,
        )

    # A printed effect below the smallest one of interest is not refuted by an effect as small.
    if size >= least and -least < equivalence.low and equivalence.high < least:
        return judged(Verdict.NO_EFFECT, f"any effect is smaller than {_points(least)}")
    if refuted.high < 0:
        return judged(Verdict.OPPOSITE, "the effect goes the other way")
    if kind == "sign" and shown.low > 0:
        is_printed = printed.word == "printed"
        apart = ", smaller than printed" if reach.high < size and is_printed else ""
        apart = ", larger than printed" if reach.low > size and is_printed else apart
        return judged(Verdict.REPLICATED, f"the effect has the {printed.word} sign{apart}")
    if kind == "size" and reach.high < size:
        seen = "" if shown.low > 0 else "; whether there is one at all is open"
        return judged(Verdict.SMALLER, f"the effect is smaller than the printed one{seen}")
    if kind == "size" and shown.low > 0 and reach.low > size:
        return judged(Verdict.LARGER, "the effect is larger than the printed one")
    share = thresholds.least_share
    if kind == "size" and shown.low > share * size:
        return judged(
            Verdict.REPLICATED,
            f"the effect agrees with the printed one and is at least {share:.0%} of it",
        )
    if kind == "size" and shown.low > 0:
        why = f"an effect, but perhaps less than {share:.0%} of the printed one"
    elif shown.low > 0 or shown.high < 0:
        why = "the sign is not certain at the family's level"
    else:
        why = f"both no effect and the {printed.word} one remain possible at the family's level"
        if reach.high < size and printed.word == "printed":
            why = "no effect remains possible, the printed size does not"
    return judged(Verdict.UNDECIDED, why)


def judge_cell(
    evidence: Evidence, printed: Printed, family: Family, thresholds: Thresholds = DEFAULTS
) -> Judged:
    """Judge a score against the printed one.

    *Replicated* means that the printed figure is where a second experiment of its size would fall,
    and that the measured score is known to `cell_half_width`; *smaller* and *larger* that the
    measured score lies below or above the printed one.
    """
    if not np.isfinite(printed.figure):
        raise ValueError("A score can't be judged without a printed figure.")
    if evidence.obstacle:
        return _no_verdict(evidence.obstacle, family)
    prediction = predict(evidence, printed, 1 - family.per_claim)
    interval = evidence.interval()
    least = thresholds.cell_half_width
    if printed.figure > prediction.high:
        verdict, why = Verdict.SMALLER, "the printed figure lies above the prediction interval"
    elif printed.figure < prediction.low:
        verdict, why = Verdict.LARGER, "the printed figure lies below the prediction interval"
    elif interval.half_width > least:
        verdict = Verdict.UNDECIDED
        why = f"the interval reaches {_points(interval.half_width)} to either side"
    else:
        verdict, why = Verdict.REPLICATED, "the prediction interval holds the printed figure"
    return Judged(
        verdict,
        why,
        interval,
        evidence.interval(1 - family.per_claim),
        prediction,
        float("nan"),
        float("nan"),
        family,
    )


def find_leading(verdicts: Sequence[Verdict]) -> int:
    """Return the index of the part that gives a claim its verdict: the strongest refutation."""
    return min(range(len(verdicts)), key=lambda i: _LEADING.index(verdicts[i]))


def would_decide(
    evidence: Evidence,
    printed: Printed,
    kind: ClaimKind,
    family: Family,
    *,
    parts: int = 1,
    thresholds: Thresholds = DEFAULTS,
) -> Need:
    """Return how many seeds, or else rows, decide a claim if the printed effect is the true one.

    With 80 % power at the claim's level for all of its `parts`. The variances are the measured
    ones, that of the seeds at its upper limit (`Sources.cautious`), which takes at least two seeds.
    """
    if evidence.seeds < 2:
        raise ValueError("One seed has no variance to plan by; state one (power.Sources).")
    levels: dict[Factor, int] = {
        "rows": evidence.rows,
        "seeds": evidence.seeds,
        "splits": evidence.splits,
    }
    return needed(
        effect_to_show(printed.figure, kind, thresholds),
        Sources.of_pilot(evidence.uncertainty, levels).cautious(),
        Size(evidence.seeds, evidence.rows, evidence.splits),
        alpha=family.per_claim,
        target=target_of_each(parts),
    )


def effect_to_show(printed: float, kind: ClaimKind, thresholds: Thresholds = DEFAULTS) -> float:
    """Return the distance that the deciding test has to tell from 0 if `printed` is the truth.

    A sign is decided by a test that shows the printed effect, a size by one that shows that the
    effect exceeds its least share.
    """
    return printed if kind == "sign" else (1 - thresholds.least_share) * printed


def rows_for_cell(evidence: Evidence, thresholds: Thresholds = DEFAULTS) -> int | None:
    """Return the rows that a score needs however many seeds and splits.

    None if the rows at hand suffice.
    """
    others: dict[Factor, float] = {"seeds": 0.0, "splits": 0.0}
    many_seeds = replace(evidence, uncertainty=evidence.uncertainty.scaled(others))
    half_width = many_seeds.interval().half_width
    if not half_width > thresholds.cell_half_width:
        return None
    return int(np.ceil(evidence.rows * (half_width / thresholds.cell_half_width) ** 2))


def predict(evidence: Evidence, printed: Printed, level: float = LEVEL) -> Interval:
    """Return where another experiment of the printed one's size would fall.

    The variance of its difference from the measured one is the measured variance plus, for each
    component, the same for the other experiment's number of rows and trainings, one split.
    """
    rows = printed.rows or evidence.rows_of_one or evidence.rows
    factors: dict[Factor, float] = {
        "rows": 0.0 if printed.same_rows else 1 + evidence.rows / rows,
        "seeds": 1 + evidence.seeds / printed.seeds,
        "splits": 1.0 + evidence.splits,
    }
    return _interval(evidence, evidence.uncertainty.scaled(factors), level)


def _interval(evidence: Evidence, uncertainty: Uncertainty, level: float) -> Interval:
    half_width = float(uncertainty.half_width(level))
    if evidence.weights == (1.0,):
        return correlation_interval(evidence.estimate, half_width)
    return contrast_interval(evidence.estimate, half_width, evidence.weights)


def _turned(interval: Interval, side: float) -> Interval:
    """Return the interval with the printed effect's side as the positive one."""
    low, high = sorted((side * interval.low, side * interval.high))
    return Interval(low, high)


def _no_verdict(why: str, family: Family) -> Judged:
    nan = float("nan")
    return Judged(Verdict.UNDECIDED, why, NO_INTERVAL, NO_INTERVAL, NO_INTERVAL, nan, nan, family)


def _points(value: float) -> str:
    return f"{100 * value:.2f} points"
