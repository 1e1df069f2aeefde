"""Estimate each effect of the paper's claims under every reading of the paper that was run.

A specification is a choice of all open readings (`ablation.config.readings`), of the split whose
models made the test columns, and of the pair of languages that Dev2 held out. Draws of a split
(`dev1@0-4`) are no choices: they are averaged over. Simonsohn, Simmons
and Nelson (2020), "Specification curve analysis", Nature Human Behaviour 4. The curve describes:
the readings are no sample, so that nothing is tested over them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ablation.config.readings import combine, readings_of, variant_name
from ablation.config.variants import VARIANTS
from ablation.data.splits import draw_kind
from ablation.runs.comparison import column_name
from reports.analysis.claims import SCORE_CLAIMS, Effect
from reports.analysis.estimates import Estimate
from reports.analysis.measures import Measurements
from reports.analysis.printed import printed_effect
from reports.analysis.subsets import EvalSubset


@dataclass(frozen=True)
class Specification:
    """An effect under one choice of all readings.

    Attributes:
        readings: The readings in which it differs from the paper as printed.
        split: The split of its models.
        estimate: The effect.
    """

    readings: tuple[str, ...]
    split: str
    estimate: Estimate

    def __str__(self) -> str:
        """Name the choices, such as "attract, models of dev1"."""
        return f"{', '.join(self.readings) or 'as printed'}, models of {self.split}"


@dataclass(frozen=True)
class SpecificationCurve:
    """An effect under every reading that was run, the smallest estimate first.

    Attributes:
        effect: The effect.
        subset: Its rows, as the paper names them.
        printed: The paper's figure, as a difference of correlations.
        specifications: The choices with an estimate.
        own: The paper as printed, on the split that the report's other sections take.
    """

    effect: Effect
    subset: EvalSubset
    printed: float
    specifications: tuple[Specification, ...]
    own: Specification | None

    @property
    def means(self) -> np.ndarray:
        """(specifications,): the estimates."""
        return np.array([s.estimate.mean for s in self.specifications])

    @property
    def choices(self) -> list[str]:
        """The readings and splits among the specifications, in the order of their tables."""
        readings = dict.fromkeys(r for s in self.specifications for r in s.readings)
        splits = dict.fromkeys(s.split for s in sorted(self.specifications, key=lambda s: s.split))
        return [*readings, *(f"models of {split}" for split in splits)]

    @property
    def with_printed_sign(self) -> int:
        """Count the estimates that have the printed effect's sign."""
        return int(np.sum(np.sign(self.means) == np.sign(self.printed)))


def by_draws(splits: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Group splits that differ in the seed of their draw alone, by the name of such a choice."""
    drawn: dict[str, list[str]] = {}
    for split in splits:
        drawn.setdefault(split.partition("@")[0], []).append(split)
    return {column_name(name, members): tuple(members) for name, members in drawn.items()}


def specification_curves(
    by_split: Mapping[str, Measurements], test_from: str
) -> list[SpecificationCurve]:
    """Return the curve of each effect that a claim rests on, if it has several specifications.

    Args:
        by_split: The measurements with the models of each of `by_draws` in the test columns.
        test_from: Which of these the report's other sections take.
    """
    effects: dict[tuple[object, ...], Effect] = {}
    for claim in SCORE_CLAIMS:
        for effect in claim.effects:
            effects.setdefault((*sorted(effect.weights.items()), effect.subsets[0]), effect)
    curves = [_curve(effect, by_split, test_from) for effect in effects.values()]
    return [curve for curve in curves if len(curve.specifications) > 1]


def _curve(
    effect: Effect, by_split: Mapping[str, Measurements], test_from: str
) -> SpecificationCurve:
    subset = effect.subsets[0]
    found = [
        Specification(readings, split, estimate)
        for split, measurements in by_split.items()
        for readings in _readings(effect.weights)
        if (estimate := _estimate(effect, readings, split, measurements)).exists
    ]
    as_printed = [s for s in found if not s.readings]
    own = next((s for s in as_printed if s.split == test_from or not subset.is_test), None)
    return SpecificationCurve(
        effect,
        subset,
        printed_effect(effect.weights, subset),
        tuple(sorted(found, key=lambda s: s.estimate.mean)),
        own,
    )


def _readings(variants: Mapping[str, float]) -> list[tuple[str, ...]]:
    """Return the combinations of readings that concern any of the variants, none first."""
    concerned: dict[str, None] = {}
    for variant in variants:
        concerned |= dict.fromkeys(readings_of(VARIANTS[variant].changes))
    return [(), *combine(concerned)]


def _estimate(
    effect: Effect, readings: Sequence[str], split: str, measurements: Measurements
) -> Estimate:
    """Return the effect between the variants as these readings have them, of a split's models."""
    weights = {
        variant_name(v, set(readings) & set(readings_of(VARIANTS[v].changes))): weight
        for v, weight in effect.weights.items()
    }
    subset = effect.subsets[0]
    drawn = by_draws(measurements.group.splits)[split]
    if not subset.is_test and draw_kind(drawn[0]) != subset.eval_set:
        return Estimate()
    if len(drawn) > 1:
        subset = replace(subset, splits=drawn)
    elif not subset.is_test:
        subset = replace(subset, eval_set=split)
    return measurements.contrast(weights, subset)
