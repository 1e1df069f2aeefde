"""Compare two variants that may come from different experiments, paired as far as they match.

Rows have to be the same, since correlations on different rows differ by the rows alone. Seeds that
both sides have are paired. Without a common seed, or with a single one among several, the seeds'
variances of the two sides add up, with Welch's degrees of freedom (1947, "The generalization of
'Student's' problem when several different population variances are involved", Biometrika 34).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from reports.analysis.estimates import MISSING, Estimate, with_uncertainty
from reports.analysis.measures import Measurements
from reports.analysis.subsets import EvalSubset
from reports.analysis.variance_components import Component, Uncertainty


@dataclass(frozen=True)
class Side:
    """A variant's runs in one group of an experiment."""

    measurements: Measurements
    variant: str

    def scores(self, subset: EvalSubset) -> dict[int, tuple[float, str]]:
        """Return Pearson and run id by seed, of the runs that have a Pearson."""
        runs = self.measurements.runs(self.variant, subset.eval_set)
        values = {
            seed: (self.measurements.values.get((run.run_id, subset), float("nan")), run.run_id)
            for seed, run in runs.items()
        }
        return {seed: value for seed, value in values.items() if np.isfinite(value[0])}


@dataclass(frozen=True)
class HeadToHead:
    """The second side minus the first on one subset.

    Attributes:
        first, second: The sides.
        subset: The rows.
        estimate: The difference; without a mean if the sides can't be compared.
        paired_on: "rows and seeds", "rows", or empty.
        seeds: Numbers of seeds: paired ones, or those of each side.
        means: Mean Pearson of each side over the seeds that were compared.
        obstacle: Why there is no comparison; empty if there is one.
    """

    first: Side
    second: Side
    subset: EvalSubset
    estimate: Estimate = MISSING
    paired_on: str = ""
    seeds: tuple[int, int] = (0, 0)
    means: tuple[float, float] = (float("nan"), float("nan"))
    obstacle: str = ""


def compare_sides(first: Side, second: Side, subset: EvalSubset) -> HeadToHead:
    """Compare two sides on one subset, paired on its rows and, if they share any, on seeds."""
    found = HeadToHead(first, second, subset)
    sides = first.scores(subset), second.scores(subset)
    if not all(sides):
        missing = [
            s.variant for s, scores in zip((first, second), sides, strict=True) if not scores
        ]
        return replace(found, obstacle=f"no Pearson of {' and '.join(dict.fromkeys(missing))}")
    if set(sides[0].values()) == set(sides[1].values()):
        return replace(found, obstacle="the same runs")
    if why := _unlike_rows(found, sides):
        return replace(found, obstacle=why)
    shared = sorted(sides[0].keys() & sides[1].keys())
    if len(shared) == 1 and min(map(len, sides)) > 1:
        shared = []  # one pair would leave nothing to know the seeds' variance by
    kept = [{seed: side[seed] for seed in shared} if shared else side for side in sides]
    values = [np.array([value for value, _ in side.values()]) for side in kept]
    influences = [
        np.array([side.measurements.influence(run, subset) for _, run in scores.values()])
        for side, scores in zip((first, second), kept, strict=True)
    ]
    runs = tuple(run for scores in kept for _, run in scores.values())
    sample = first.measurements.sample_of[runs[0], subset.eval_set]
    if shared:
        differences = values[1] - values[0]
        estimate = Estimate(
            mean=float(differences.mean()),
            sd=float(differences.std(ddof=1)) if len(shared) > 1 else float("nan"),
            seeds=tuple(shared),
            per_seed=differences,
            runs=runs,
        )
        estimate = with_uncertainty(estimate, influences[1] - influences[0], sample, subset)
    else:
        each = [
            with_uncertainty(
                Estimate(float(v.mean()), seeds=tuple(scores), per_seed=v, weights=(1.0,)),
                influence,
                sample,
                subset,
            )
            for v, influence, scores in zip(values, influences, kept, strict=True)
        ]
        mean = np.array([values[1].mean() - values[0].mean()])
        difference = influences[1].mean(axis=0) - influences[0].mean(axis=0)
        together = Estimate(float(mean[0]), seeds=(0,), per_seed=mean, runs=runs)
        together = with_uncertainty(together, difference[None], sample, subset)
        estimate = replace(together, seeds=(), uncertainty=_unpaired(together, each))
    return replace(
        found,
        estimate=estimate,
        paired_on="rows and seeds" if shared else "rows",
        seeds=(len(kept[0]), len(kept[1])),
        means=(float(values[0].mean()), float(values[1].mean())),
    )


def _unpaired(together: Estimate, each: list[Estimate]) -> Uncertainty | None:
    """Return rows and seeds of a difference whose sides share rows and no seed.

    Each side's row-by-seed part is in its rows and in its seeds; it is counted in the latter. With
    one seed on a side, only the rows are known.
    """
    if together.of_rows is None or any(side.of_rows is None for side in each):
        return None
    if any(len(side.seeds) < 2 for side in each):
        return together.of_rows
    (of_rows,) = together.of_rows.components
    rows = of_rows.variance
    seeds, terms = 0.0, 0.0
    for side in each:
        parts = {c.factor: c for c in side.uncertainty.components}  # type: ignore[union-attr]
        counted_twice = side.of_rows.variance - parts["rows"].variance  # type: ignore[union-attr]
        rows = rows - counted_twice
        variance = float(parts["seeds"].variance)
        seeds += variance
        terms += variance**2 / float(parts["seeds"].df)
    df = seeds**2 / terms if terms else float("inf")
    return Uncertainty(
        (
            replace(of_rows, variance=np.maximum(rows, 0.0)),
            Component("seeds", np.asarray(seeds), np.asarray(df)),
        ),
        floor=of_rows,
    )


def _unlike_rows(found: HeadToHead, sides: tuple[Mapping[int, tuple[float, str]], ...]) -> str:
    """Say why the sides were not scored on the same rows; empty if they were."""
    samples = [
        side.measurements.sample_of[run, found.subset.eval_set]
        for side, scores in zip((found.first, found.second), sides, strict=True)
        for _, run in scores.values()
    ]
    data = {
        run.part("data")
        for side in (found.first, found.second)
        for run in side.measurements.runs(side.variant, found.subset.eval_set).values()
    }
    if len(data) > 1:
        return "other data"
    masks = [sample.rows_of(found.subset.languages) for sample in samples]
    rows = {sample.row[mask].tobytes() for sample, mask in zip(samples, masks, strict=True)}
    labels = {sample.label[mask].tobytes() for sample, mask in zip(samples, masks, strict=True)}
    return "" if len(rows) == len(labels) == 1 else "scored on different rows"
