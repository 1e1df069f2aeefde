"""Assess the paper's claims on the runs at hand."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from scipy import stats

from reports.analysis.claims import (
    COLLAPSE,
    CURVE_CLAIMS,
    SCORE_CLAIMS,
    CollapseClaim,
    CurveClaim,
    Effect,
    ScoreClaim,
)
from reports.analysis.curves import Curve
from reports.analysis.inference import ALPHA, FEW_RUNS, holm, seed_interval
from reports.analysis.measures import NAN, Estimate, EvalSubset, Measurements
from reports.analysis.printed import printed_effect
from reports.analysis.verdicts import (
    SYNTHETIC,
    Assessment,
    Verdict,
    assess_effect,
    combine_verdicts,
)

#: Fewest seeds for a verdict on the ablation's own curves.
FEWEST_SEEDS: Final = 2


def assess_score_claims(measurements: Measurements, *, comparable: bool) -> dict[str, Assessment]:
    """Assess each claim about Table 3, by id; Holm's correction runs over all effects of all."""
    pairs = [
        (effect, _subset_with_scores(measurements, effect))
        for claim in SCORE_CLAIMS
        for effect in claim.effects
    ]
    estimates = [measurements.contrast(effect.weights, subset) for effect, subset in pairs]
    adjusted = holm([estimate.p for estimate in estimates])
    parts = iter(
        _assess_part(effect, subset, estimate, p, comparable=comparable)
        for (effect, subset), estimate, p in zip(pairs, estimates, adjusted, strict=True)
    )
    return {
        claim.id: _assess_score_claim(claim, [next(parts) for _ in claim.effects])
        for claim in SCORE_CLAIMS
    }


def assess_curve_claims(
    curves: Mapping[str, Mapping[int, Curve]], *, comparable: bool
) -> dict[str, Assessment]:
    """Assess by id each claim that the ablation's own curves (by variant and seed) can answer."""
    assessments = {}
    for claim in CURVE_CLAIMS:
        if not claim.needs_gradients:
            sides = [curves.get(v, {}) for v in claim.variants]
            values = curve_differences(claim, sides)
            assessments[claim.id] = assess_curve_claim(
                claim,
                values,
                t_test_p(values + claim.margin),
                comparable=comparable,
                runs=tuple(c.run.run_id for side in sides for c in side.values()),
            )
    falling, stable = (list(curves.get(v, {}).values()) for v in COLLAPSE.variants)
    assessments[COLLAPSE.id] = assess_collapse(COLLAPSE, falling, stable, comparable=comparable)
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


def t_test_p(values: np.ndarray) -> float:
    """Return Student's p that the mean of (seeds,) is 0; NaN below two values.

    Values that are all alike, to rounding, have no spread: p is 0, or 1 if they are 0.
    """
    if len(values) < 2:
        return NAN
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        return 1.0 if values[0] == 0 else 0.0
    return float(stats.ttest_1samp(values, 0.0).pvalue)


def assess_curve_claim(
    claim: CurveClaim,
    values: np.ndarray,
    p: float,
    *,
    comparable: bool,
    fewest_seeds: int = FEWEST_SEEDS,
    runs: tuple[str, ...] = (),
) -> Assessment:
    """Compare a quantity's differences with the claim that they are below -`claim.margin`.

    Args:
        claim: The claim.
        values: (seeds,), paired differences.
        p: That the mean is -`claim.margin`, adjusted for its family.
        comparable: Whether the paper's figures apply to these data.
        fewest_seeds: Seeds that a verdict needs.
        runs: Ids of the runs behind the values.
    """
    mean = float(values.mean()) if len(values) else NAN
    estimate = Estimate(
        mean,
        seeds=tuple(range(len(values))),
        per_seed=values,
        over_seeds=seed_interval(values),
        runs=runs if len(values) else (),
    )
    bound = "a factor of two" if claim.margin else "zero"
    seeds = f"{len(values)} seed{'s' * (len(values) != 1)}"
    verdict, reason = Verdict.UNDECIDED, f"{seeds} cannot distinguish it from {bound}"
    if not len(values):
        verdict, reason = Verdict.MISSING, "not both sides have curves that can be measured"
    elif not comparable:
        verdict, reason = Verdict.NOT_COMPARABLE, SYNTHETIC
    elif len(values) < fewest_seeds:
        reason = f"{seeds}: too few"
    elif p < ALPHA and mean < -claim.margin:
        verdict = Verdict.REPRODUCED
        reason = "by more than a factor of two" if claim.margin else "below zero"
    elif p < ALPHA:
        verdict = Verdict.NOT_REPRODUCED
        opposite = "the opposite holds"
        reason = "by less than a factor of two, if at all" if claim.margin else opposite
    return Assessment(verdict, reason, estimate, p=p, subject=claim.unit)


def assess_collapse(
    claim: CollapseClaim,
    collapsing: Sequence[Curve],
    stable: Sequence[Curve],
    *,
    comparable: bool,
) -> Assessment:
    """Compare how many runs collapsed with the claim; fewer than three runs a side say nothing."""
    counts = [sum(c.collapse is not None for c in side) for side in (collapsing, stable)]
    fell, others = counts
    tally = f"MSE + CL {fell} of {len(collapsing)}, EPM + CL {others} of {len(stable)}"
    estimate = Estimate(runs=tuple(c.run.run_id for c in (*collapsing, *stable)))
    verdict, reason = Verdict.REPRODUCED, tally
    if not collapsing or not stable:
        verdict, reason = Verdict.MISSING, f"{tally}; not both sides have curves"
    elif not comparable:
        verdict, reason = Verdict.NOT_COMPARABLE, f"{tally}; {SYNTHETIC}"
    elif min(len(collapsing), len(stable)) < FEW_RUNS:
        verdict, reason = Verdict.UNDECIDED, f"{tally}; too few runs"
    elif not fell or others:
        verdict = Verdict.NOT_REPRODUCED
    return Assessment(verdict, reason, estimate, subject="runs that collapsed")


def _assess_part(
    effect: Effect, subset: EvalSubset, estimate: Estimate, p: float, *, comparable: bool
) -> Assessment:
    """Assess an effect; development rows that stand in for the test rows refute nothing."""
    claimed = effect.subsets[0]
    printed = printed_effect(effect.weights, claimed)
    assessment = assess_effect(estimate, printed, p, comparable=comparable)
    if assessment.verdict == Verdict.NOT_REPRODUCED and claimed.is_test and not subset.is_test:
        reason = f"{subset} only stands in for {claimed}, on which nothing was scored"
        assessment = replace(assessment, verdict=Verdict.UNDECIDED, reason=reason)
    return replace(assessment, subject=str(subset))


def _assess_score_claim(claim: ScoreClaim, parts: Sequence[Assessment]) -> Assessment:
    verdict, reason = combine_verdicts(parts, "every effect is on the paper's side of zero")
    missing = dict.fromkeys(p.subject for p in parts if p.verdict == Verdict.MISSING)
    if missing and verdict != Verdict.NOT_COMPARABLE:
        reason += f" (nothing on {' and '.join(missing)})"
    return Assessment(verdict, reason, subject=claim.text, parts=tuple(parts))


def _subset_with_scores(measurements: Measurements, effect: Effect) -> EvalSubset:
    """Return the first subset on which all the variants have a score; the first if none has."""
    subsets = [_resolve_dev2(measurements, subset) for subset in effect.subsets]
    scored = (s for s in subsets if measurements.contrast(effect.weights, s).exists)
    return next(scored, subsets[0])


def _resolve_dev2(measurements: Measurements, subset: EvalSubset) -> EvalSubset:
    """Take a Dev2 with named held-out languages for `dev2` if there is no other."""
    splits = [s for s in measurements.group.splits if s.split(":")[0] == subset.eval_set]
    if subset.is_test or subset.eval_set in splits or not splits:
        return subset
    return replace(subset, eval_set=splits[0])
