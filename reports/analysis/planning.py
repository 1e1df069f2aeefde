"""Plan the runs that decide the paper's claims, from a pilot's variances or from stated ones.

The deciding test of an effect is the one that its verdict rests on: at the level of its family, of
the printed effect for a claimed sign, of half of it for a claimed size. A claim of several effects
is decided if all of them are shown. The seeds' variance comes from all rows of Table 3 at hand if
they vary alike, and is taken at its upper confidence limit, since a pilot has few seeds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np

from ablation.core.counting import counted
from reports.analysis.claim_verdicts import find_subset
from reports.analysis.claims import SCORE_CLAIMS, SCORE_FAMILY, SINGLE_MODELS, Effect, ScoreClaim
from reports.analysis.estimates import Estimate
from reports.analysis.inference import POWER
from reports.analysis.measures import Measurements
from reports.analysis.power import (
    Need,
    Size,
    Sources,
    needed,
    power,
    power_of_all,
    target_of_each,
)
from reports.analysis.printed import printed_effect
from reports.analysis.replication import effect_to_show
from reports.analysis.subsets import EvalSubset
from reports.analysis.variance_components import (
    POOLING_ALPHA,
    Component,
    Factor,
    Floats,
    pooled_seeds,
    seed_variances_differ,
)

#: Fewer rows of the table than these do not pool their seeds' variance.
LEAST_POOLED: Final = 3


@dataclass(frozen=True)
class Design:
    """The size that is planned for.

    Attributes:
        seeds: Trainings of each variant on each split.
        splits: Splits that are averaged over; 0 for as many as the pilot's effects average over.
        rows: Rows of each subset; None for as many as the pilot has.
        effect: The effect to show in place of the printed ones, as a difference of correlations.
        target: The power wanted, in (0, 1).
    """

    seeds: int = 3
    splits: int = 0
    rows: int | None = None
    effect: float | None = None
    target: float = POWER


@dataclass(frozen=True)
class Variances:
    """Variances of one effect with what they come from.

    Attributes:
        sources: By source, for one row, seed and split.
        rows: Rows that the effect is scored on.
        subset: Which.
        origin: Where the seeds' variance comes from, in a few words.
        splits: Splits that the effect is averaged over.
    """

    sources: Sources
    rows: int
    subset: EvalSubset
    origin: str
    splits: int = 1


class VarianceSource(Protocol):
    """Gives the variances of an effect, or None if it knows none."""

    def __call__(self, effect: Effect) -> Variances | None: ...


@dataclass(frozen=True)
class EffectPlan:
    """The plan of one effect of a claim.

    Attributes:
        effect: The effect.
        printed: The paper's, as a difference of correlations.
        to_show: The difference that the test has to tell from 0.
        variances: Of the estimate; None if the pilot lacks a run of it.
        need: What reaches the target with the other sizes as they are; None without variances.
    """

    effect: Effect
    printed: float
    to_show: float
    variances: Variances | None
    need: Need | None


@dataclass(frozen=True)
class ClaimPlan:
    """The plan of a claim, all of whose effects have to be shown."""

    claim: ScoreClaim
    design: Design
    effects: tuple[EffectPlan, ...]

    @property
    def is_known(self) -> bool:
        """Tell if every effect has variances to plan by."""
        return all(plan.variances is not None for plan in self.effects)

    def power(self, seeds: Iterable[int] | None = None, *, rows_factor: float = 1.0) -> Floats:
        """Return the power to show every effect, (seeds,), at least.

        Args:
            seeds: Numbers of seeds; the design's by default.
            rows_factor: Multiplies the rows of every subset.
        """
        counts = np.asarray([self.design.seeds] if seeds is None else [*seeds], dtype=np.int64)
        powers = []
        for plan in self.effects:
            if plan.variances is None:
                return np.full(len(counts), np.nan)
            rows = max(2, round(plan.variances.rows * rows_factor))
            size = Size(counts, rows, plan.variances.splits)
            sources, alpha = plan.variances.sources, SCORE_FAMILY.per_claim
            powers.append(power(plan.to_show, sources, size, alpha))
        return power_of_all(powers)


def plan_claims(
    claims: Sequence[ScoreClaim], design: Design, variances_of: VarianceSource
) -> list[ClaimPlan]:
    """Plan each claim at the level that the family of all of the paper's claims leaves it."""
    return [_plan_claim(claim, design, variances_of) for claim in claims]


def pilot_variances(
    measurements: Measurements, *, cautious: bool = True, split_variance: float = 0.0
) -> VarianceSource:
    """Return the variances of a pilot's effects.

    Args:
        measurements: The pilot.
        cautious: Take the seeds' variance at its upper 80 % confidence limit, and the rows' with
            the part that differs from seed to seed.
        split_variance: Of an effect between splits; 0 for a fixed split.
    """

    def variances_of(effect: Effect) -> Variances | None:
        subset = find_subset(effect, measurements)
        estimate = measurements.contrast(effect.weights, subset)
        if estimate.uncertainty is None or len(estimate.seeds) < 2:
            return None
        levels: dict[Factor, int] = {
            "rows": estimate.rows,
            "seeds": len(estimate.seeds),
            "splits": max(1, len(estimate.splits)),
        }
        sources = Sources.of_pilot(estimate.uncertainty, levels)
        origin = f"{counted(len(estimate.seeds), 'seed')} of this effect"
        pooled = _pooled(measurements, effect, subset, estimate)
        if pooled is not None:
            component, variants = pooled
            sources = replace(
                sources,
                seeds=float(component.variance) * levels["seeds"] * levels["splits"],
                seed_df=float(component.df),
            )
            origin = f"{counted(len(estimate.seeds), 'seed')} of {counted(variants, 'variant')}"
        if split_variance or not estimate.splits_random:
            sources = replace(sources, splits=split_variance)
        if cautious:
            sources, origin = sources.cautious(), f"{origin}, 80% upper limit"
            if estimate.of_rows is not None:  # with the row-by-seed part: never cut off at 0
                of_rows = float(estimate.of_rows.variance) * estimate.rows
                sources = replace(sources, rows=max(sources.rows, of_rows))
        return Variances(sources, estimate.rows, subset, origin, levels["splits"])

    return variances_of


def stated_variances(sources: Sources, rows: int) -> VarianceSource:
    """Return the same stated variances for every effect, on as many rows."""

    def variances_of(effect: Effect) -> Variances | None:
        return Variances(sources, rows, effect.subsets[0], "stated")

    return variances_of


def claims_of(variants: Iterable[str]) -> list[ScoreClaim]:
    """Return the paper's claims about scores that runs of these variants can answer."""
    present = set(variants)
    return [
        claim
        for claim in SCORE_CLAIMS
        if all(present.issuperset(effect.weights) for effect in claim.effects)
    ]


def _plan_claim(claim: ScoreClaim, design: Design, variances_of: VarianceSource) -> ClaimPlan:
    target = target_of_each(len(claim.effects), design.target)
    plans = []
    for effect in claim.effects:
        printed = printed_effect(effect.weights, effect.subsets[0])
        to_show = effect_to_show(printed, claim.kind) if design.effect is None else design.effect
        variances, need = variances_of(effect), None
        if variances is not None:
            variances = replace(
                variances,
                rows=design.rows or variances.rows,
                splits=design.splits or variances.splits,
            )
            need = needed(
                to_show,
                variances.sources,
                Size(design.seeds, variances.rows, variances.splits),
                alpha=SCORE_FAMILY.per_claim,
                target=target,
            )
        plans.append(EffectPlan(effect, printed, to_show, variances, need))
    return ClaimPlan(claim, design, tuple(plans))


def _pooled(
    measurements: Measurements, effect: Effect, subset: EvalSubset, estimate: Estimate
) -> tuple[Component, int] | None:
    """Pool the seeds' variance over the single models at hand; None where they vary unlike.

    An ensemble is made of the others' runs, so that its effects keep their own variance.
    """
    cells = {variant: measurements.cell(variant, subset) for variant in SINGLE_MODELS}
    scores = [cell.per_seed for cell in cells.values() if cell.seeds == estimate.seeds]
    variants = [variant for variant, cell in cells.items() if cell.seeds == estimate.seeds]
    if len(variants) < LEAST_POOLED or not set(effect.weights) <= set(variants):
        return None
    if seed_variances_differ(scores) < POOLING_ALPHA:
        return None
    weights = [effect.weights.get(variant, 0.0) for variant in variants]
    return pooled_seeds(np.array(scores), weights), len(variants)
