"""Assess the paper's claims on the runs at hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ablation.core.counting import counted
from ablation.data.splits import LEAVE_ONE_OUT
from reports.analysis.claims import (
    COLLAPSE,
    CURVE_CLAIMS,
    CURVE_FAMILY,
    CollapseClaim,
    CurveClaim,
    Effect,
    ScoreClaim,
    claims_of,
    score_family,
)
from reports.analysis.curves import Curve
from reports.analysis.estimates import NAN, Estimate
from reports.analysis.few_runs import (
    clopper_pearson,
    decide,
    decide_rates,
    fisher,
    paired_runs_for_rates,
    runs_to_decide,
    sign_flip,
    subset_mean_interval,
)
from reports.analysis.inference import Interval
from reports.analysis.measures import Measurements
from reports.analysis.printed import printed_effect
from reports.analysis.replication import DECIDED, Verdict
from reports.analysis.selection import FLATTERED, are_flattered
from reports.analysis.subsets import TEST, EvalSubset
from reports.analysis.verdicts import (
    Assessment,
    assess_claimed_sign,
    assess_effect,
    combine_assessments,
)


@dataclass(frozen=True)
class CurveEstimate(Estimate):
    """A mean difference of training curves, whose interval is exact for a handful of seeds."""

    @property
    def over_seeds(self) -> Interval:
        """95% for the centre of the differences; none below six seeds."""
        return subset_mean_interval(self.per_seed)

    @property
    def interval(self) -> Interval:
        return self.over_seeds


def assess_score_claims(measurements: Measurements, obstacle: str) -> dict[str, Assessment]:
    """Assess each claim about the table's scores, by id.

    Args:
        measurements: What was measured.
        obstacle: Why the paper's figures do not apply to these data; empty if they do.
    """
    return {
        claim.id: _assess_score_claim(
            claim, [_assess_part(claim, e, measurements, obstacle) for e in claim.effects]
        )
        for claim in claims_of(measurements.group.table).values()
        if isinstance(claim, ScoreClaim)
    }


def assess_curve_claims(
    curves: Mapping[str, Mapping[int, Curve]], obstacle: str
) -> dict[str, Assessment]:
    """Assess by id each claim that the ablation's own curves (by variant and seed) can answer."""
    assessments = {}
    for claim in CURVE_CLAIMS:
        if not claim.needs_gradients:
            sides = [curves.get(v, {}) for v in claim.variants]
            runs = tuple(c.run.run_id for side in sides for c in side.values())
            values = curve_differences(claim, sides)
            assessments[claim.id] = assess_curve_claim(claim, values, obstacle, runs)
    falling, stable = (list(curves.get(v, {}).values()) for v in COLLAPSE.variants)
    assessments[COLLAPSE.id] = assess_collapse(COLLAPSE, falling, stable, obstacle)
    return assessments


def curve_differences(claim: CurveClaim, sides: Sequence[Mapping[int, Curve]]) -> np.ndarray:
    """Return the claim's quantity, smaller minus larger, for each seed that can be measured.

    Args:
        claim: The claim.
        sides: Curves by seed of each of `claim.variants`.
    """
    seeds = sorted(set.intersection(*(set(side) for side in sides)))
    quantities = [[getattr(side[seed], claim.quantity) for seed in seeds] for side in sides]
    smaller, *larger = (np.array(values, dtype=np.float64) for values in quantities)
    differences = smaller - larger[0] if larger else smaller
    return np.asarray(differences[np.isfinite(differences)])


def assess_curve_claim(
    claim: CurveClaim, values: np.ndarray, obstacle: str, runs: tuple[str, ...] = ()
) -> Assessment:
    """Compare a quantity's differences with the claim that they are below -`claim.margin`.

    The test flips the differences' signs, which is exact for few seeds and holds with ties.

    Args:
        claim: The claim.
        values: (seeds,), paired differences.
        obstacle: Why the paper's claims are not decided by these data; empty if they are.
        runs: Ids of the runs behind the values.
    """
    estimate = CurveEstimate(
        float(values.mean()) if len(values) else NAN,
        seeds=tuple(range(len(values))),
        per_seed=values,
        runs=runs if len(values) else (),
    )
    p = CURVE_FAMILY.adjusted(sign_flip(values, null=-claim.margin).p)
    found = Assessment(Verdict.MISSING, "", estimate, p=p, subject=claim.unit)
    if not len(values):
        return replace(found, reason="not both sides have curves that can be measured")
    if obstacle:
        return replace(found, verdict=Verdict.NOT_COMPARABLE, reason=obstacle)
    direction = decide(values, margin=claim.margin, alpha=CURVE_FAMILY.per_claim)
    if direction == "below":
        reason = "by more than a factor of two" if claim.margin else "below zero"
        return replace(found, verdict=Verdict.REPLICATED, reason=reason)
    if direction == "above":
        if claim.margin:
            reason = "by less than a factor of two, if at all"
            return replace(found, verdict=Verdict.SMALLER, reason=reason)
        return replace(found, verdict=Verdict.OPPOSITE, reason="the opposite holds")
    bound = "a factor of two" if claim.margin else "zero"
    needed = runs_to_decide(CURVE_FAMILY.per_claim)
    seeds = counted(len(values), "seed")
    return replace(
        found,
        verdict=Verdict.UNDECIDED,
        reason=f"{seeds} cannot distinguish it from {bound}",
        need=f"at least {needed} seeds that agree" if len(values) < needed else "",
    )


def assess_collapse(
    claim: CollapseClaim, collapsing: Sequence[Curve], stable: Sequence[Curve], obstacle: str
) -> Assessment:
    """Compare how many runs collapsed with the claim, by Fisher's exact test."""
    sides = collapsing, stable
    fell, others = ((sum(c.collapse is not None for c in side), len(side)) for side in sides)
    tally = f"MSE + CL {fell[0]} of {fell[1]}, EPM + CL {others[0]} of {others[1]}"
    runs = tuple(c.run.run_id for side in sides for c in side)
    p = CURVE_FAMILY.adjusted(fisher(fell, others).p)
    found = Assessment(
        Verdict.MISSING, tally, Estimate(runs=runs), p=p, subject="runs that collapsed"
    )
    if not collapsing or not stable:
        return replace(found, reason=f"{tally}; not both sides have curves")
    if obstacle:
        return replace(found, verdict=Verdict.NOT_COMPARABLE, reason=f"{tally}; {obstacle}")
    direction = decide_rates(fell, others, CURVE_FAMILY.per_claim)
    if direction == "above":
        return replace(found, verdict=Verdict.REPLICATED)
    if direction == "below":
        return replace(found, verdict=Verdict.OPPOSITE)
    needed = paired_runs_for_rates(CURVE_FAMILY.per_claim)
    rates = " against ".join(_rate_text(*side) for side in (fell, others))
    return replace(
        found,
        verdict=Verdict.UNDECIDED,
        reason=f"{tally}; rates of {rates} remain possible",
        need=f"at least {needed} runs a side" if min(fell[1], others[1]) < needed else "",
    )


def _rate_text(count: int, runs: int) -> str:
    interval = clopper_pearson(count, runs)
    return f"{interval.low:.0%} to {interval.high:.0%}"


def _assess_part(
    claim: ScoreClaim, effect: Effect, measurements: Measurements, obstacle: str
) -> Assessment:
    """Assess an effect; development rows that stand in for the test rows refute nothing.

    On the rows that chose its members, an ensemble can't be below the best of them: nothing is
    decided there.
    """
    claimed, subset = effect.subsets[0], find_subset(effect, measurements)
    table = measurements.group.table
    estimate, parts = measurements.contrast(effect.weights, subset), len(claim.effects)
    printed = printed_effect(effect.weights, claimed, table)
    family = score_family(table)
    if np.isfinite(printed) or table.is_the_papers:
        assessment = assess_effect(
            estimate, printed, family, kind=claim.kind, parts=parts, obstacle=obstacle
        )
    else:
        assessment = assess_claimed_sign(estimate, family, parts=parts, obstacle=obstacle)
    assessment = replace(assessment, subject=str(subset))
    if are_flattered(effect.weights, subset, table) and assessment.verdict in (
        *DECIDED,
        Verdict.UNDECIDED,
    ):
        return replace(assessment, verdict=Verdict.UNDECIDED, reason=FLATTERED, need="")
    if claimed.is_test and not subset.is_test and assessment.verdict in DECIDED:
        reason = f"{subset} only stands in for {claimed}, on which nothing was scored"
        if assessment.verdict != Verdict.REPLICATED:
            return replace(assessment, verdict=Verdict.UNDECIDED, reason=reason)
        return replace(assessment, reason=f"{assessment.reason} ({reason})")
    return assessment


def _assess_score_claim(claim: ScoreClaim, parts: Sequence[Assessment]) -> Assessment:
    what = "size" if claim.kind == "size" else "sign"
    word = "printed" if any(np.isfinite(part.printed) for part in parts) else "claimed"
    stand_ins = [part.reason for part in parts if "stands in" in part.reason]
    all_hold = stand_ins[0] if stand_ins else f"every effect has the {word} {what}"
    assessment = replace(combine_assessments(parts, all_hold), subject=claim.text)
    missing = dict.fromkeys(p.subject for p in parts if p.verdict == Verdict.MISSING)
    if missing and assessment.verdict != Verdict.NOT_COMPARABLE:
        listed = " and ".join(missing)
        assessment = replace(assessment, reason=f"{assessment.reason} (nothing on {listed})")
    return assessment


def find_subset(effect: Effect, measurements: Measurements) -> EvalSubset:
    """Return the first subset on which all the variants have a score; the first if none has.

    Without labels in languages that are unseen in training, development rows in held-out ones stand
    in for them, whatever the split that holds them out.
    """
    subsets = [measurements.find(s.eval_set, s.languages) for s in effect.subsets]
    if EvalSubset(TEST, "unseen") in effect.subsets:
        subsets += [
            column if column.eval_set == LEAVE_ONE_OUT else replace(column, languages="unseen")
            for column in measurements.columns
            if not column.is_test
        ]
    scored = (s for s in subsets if measurements.contrast(effect.weights, s).exists)
    return next(scored, subsets[0])
