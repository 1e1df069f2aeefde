"""Compare a table's steps from variant to variant on each of its columns."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ablation.config.variants import TABLE_3
from reports.analysis.estimates import Estimate
from reports.analysis.labels import short_title
from reports.analysis.measures import Measurements
from reports.analysis.printed import printed_cells, printed_step
from reports.analysis.replication import DECIDED, Family, Verdict
from reports.analysis.selection import FLATTERED, are_flattered
from reports.analysis.subsets import EvalSubset
from reports.analysis.verdicts import Assessment, assess_effect

_PRINTED_SUBSETS: Final = tuple(dict.fromkeys(subset for _, subset in printed_cells()))
#: The steps that the paper prints both ends of, on every column: as many whatever was run.
STEP_FAMILY: Final = Family(
    "the paper's steps",
    sum(np.isfinite(printed_step(*step, s)) for step in TABLE_3.steps for s in _PRINTED_SUBSETS),
)


@dataclass(frozen=True)
class Step:
    """A step on one subset, named `title`."""

    worse: str
    better: str
    subset: EvalSubset
    assessment: Assessment
    title: str

    @property
    def estimate(self) -> Estimate:
        return self.assessment.estimate

    def __str__(self) -> str:
        return self.title


def step_family(measurements: Measurements) -> Family:
    """Return the family of a table's steps: those that the paper prints, or all that could be."""
    table = measurements.group.table
    if table.is_the_papers:
        return STEP_FAMILY
    size = len(table.steps) * len(measurements.columns)
    return Family(f"the steps of “{table.title}”", max(1, size))


def compute_steps(measurements: Measurements, obstacle: str) -> list[Step]:
    """Return every step on every column for which there are runs, or a printed figure.

    Args:
        measurements: What was measured.
        obstacle: Why the paper's figures do not apply to these data; empty if they do.
    """
    table, family = measurements.group.table, step_family(measurements)
    steps = []
    for worse, better in table.steps:
        is_printed = all(table.variants[v].printed for v in (worse, better))
        title = f"{short_title(worse, table)} → {short_title(better, table)}"
        for subset in measurements.columns:
            estimate = measurements.step(worse, better, subset)
            printed = printed_step(worse, better, subset, table)
            if not (estimate.exists or (is_printed and np.isfinite(printed))):
                continue
            assessment = assess_effect(estimate, printed, family, obstacle=obstacle)
            if are_flattered((worse, better), subset, table) and assessment.verdict in DECIDED:
                undecided = Verdict.UNDECIDED
                assessment = replace(assessment, verdict=undecided, reason=FLATTERED, need="")
            if assessment.verdict == Verdict.MISSING:
                reason = _why_missing(measurements, worse, better, subset)
                assessment = replace(assessment, reason=reason)
            steps.append(Step(worse, better, subset, assessment, title))
    return steps


def why_empty(measurements: Measurements, variant: str, subset: EvalSubset) -> str:
    """Say in a word or two why a cell of Table 3 has no score."""
    runs = measurements.all_runs(variant, subset)
    if not runs:
        return "no runs"
    if subset.is_test and not measurements.has_test:
        return "no labels"
    collapsed = all(measurements.records[run.run_id].collapsed for run in runs)
    return "collapsed" if collapsed else "no Pearson"


def _why_missing(measurements: Measurements, worse: str, better: str, subset: EvalSubset) -> str:
    table = measurements.group.table
    reasons = [
        f"{short_title(variant, table)}: {why_empty(measurements, variant, subset)}"
        for variant in (worse, better)
        if not measurements.cell(variant, subset).exists
    ]
    return "; ".join(reasons) or "no seed that both have"
