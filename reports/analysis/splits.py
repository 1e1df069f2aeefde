"""Estimate a step on test rows over the models of several splits of a kind."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from reports.analysis.inference import Interval
from reports.analysis.measures import Measurements
from reports.analysis.scope import LEAST_SPLITS
from reports.analysis.subsets import EvalSubset
from reports.analysis.variance_components import (
    SPLITS_SEEDS_AND_ROWS,
    Floats,
    Uncertainty,
    analyse,
    contrast_interval,
    too_few_rows,
)


@dataclass(frozen=True)
class SplitEffect:
    """A step on test rows with the models of several splits.

    Attributes:
        splits: The splits, whose models saw different training rows.
        seeds: The seeds that all of them have.
        values: (splits, seeds), the step's differences.
        uncertainty: Splits, seeds and rows random.
        runs: Ids of the runs behind it.
    """

    splits: tuple[str, ...]
    seeds: tuple[int, ...]
    values: Floats
    uncertainty: Uncertainty
    runs: tuple[str, ...]

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    @property
    def interval(self) -> Interval:
        """95% for the models of other splits and seeds on other rows."""
        return contrast_interval(self.mean, float(self.uncertainty.half_width()))

    @property
    def sd(self) -> float:
        """The standard deviation of the splits' means."""
        return float(self.values.mean(axis=1).std(ddof=1))


def effect_over_splits(
    by_split: Mapping[str, Measurements], worse: str, better: str, subset: EvalSubset
) -> SplitEffect | None:
    """Return `better` minus `worse` on test rows over splits of a kind, such as Dev2's pairs.

    Args:
        by_split: The measurements with each split's models in the test columns, of one kind.
        worse, better: The variants.
        subset: Of the test rows.

    Returns:
        None for fewer than `LEAST_SPLITS` splits or two seeds that both variants have on the same
        rows, or too few rows.
    """
    steps = {split: m.step(worse, better, subset) for split, m in by_split.items()}
    splits = [split for split, step in steps.items() if step.exists]
    if len(splits) < LEAST_SPLITS:
        return None
    seeds = sorted(set.intersection(*(set(steps[split].seeds) for split in splits)))
    if len(seeds) < 2:
        return None
    runs = {
        (split, variant, seed): by_split[split].runs(variant, subset.eval_set)[seed].run_id
        for split in splits
        for variant in (worse, better)
        for seed in seeds
    }
    samples = [by_split[s].sample_of[run, subset.eval_set] for (s, _, _), run in runs.items()]
    if len({sample.row.tobytes() for sample in samples}) > 1:
        return None
    mask = samples[0].rows_of(subset.languages)
    if too_few_rows(samples[0].label[mask]):
        return None

    def on(split: str, variant: str, seed: int) -> tuple[float, np.ndarray]:
        run = runs[split, variant, seed]
        return by_split[split].values[run, subset], by_split[split].influence(run, subset)

    both = {key: on(*key) for key in runs}
    values = np.array(
        [[both[s, better, k][0] - both[s, worse, k][0] for k in seeds] for s in splits]
    )
    influence = np.array(
        [[both[s, better, k][1] - both[s, worse, k][1] for k in seeds] for s in splits]
    )
    uncertainty = analyse(SPLITS_SEEDS_AND_ROWS, values, influence, strata=samples[0].strata[mask])
    return SplitEffect(tuple(splits), tuple(seeds), values, uncertainty, tuple(runs.values()))
