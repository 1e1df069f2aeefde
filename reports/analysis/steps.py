"""Compare the paper's steps from variant to variant on every column of Table 3."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ablation.config.variants import VARIANTS
from reports.analysis.labels import short_title
from reports.analysis.measures import Estimate, EvalSubset, Measurements
from reports.analysis.printed import printed_cells, printed_step
from reports.analysis.replication import Family, Verdict
from reports.analysis.verdicts import Assessment, assess_effect

#: Worse and better, as the paper has it; a step without its runs is left out.
STEPS: Final = (
    ("mse", "epm"),
    ("epm", "epm+cl"),
    ("epm", "epm+ft"),
    ("epm+cl", "epm+cl+ft"),
    ("epm+ft", "epm+cl+ft"),
    ("epm+cl", "ensemble"),
    ("baseline", "ensemble"),
    ("mse", "mse+cl"),
    ("mse+cl", "epm+cl"),
    ("epm+cl", "epm+cl(attract)"),
)


_PRINTED_SUBSETS: Final = tuple(dict.fromkeys(subset for _, subset in printed_cells()))
#: The steps that the paper prints both ends of, on every column: as many whatever was run.
STEP_FAMILY: Final = Family(
    "the paper's steps",
    sum(np.isfinite(printed_step(*step, s)) for step in STEPS for s in _PRINTED_SUBSETS),
)


@dataclass(frozen=True)
class Step:
    """A step on one subset."""

    worse: str
    better: str
    subset: EvalSubset
    assessment: Assessment

    @property
    def estimate(self) -> Estimate:
        return self.assessment.estimate

    def __str__(self) -> str:
        return f"{short_title(self.worse)} → {short_title(self.better)}"


def compute_steps(measurements: Measurements, obstacle: str) -> list[Step]:
    """Return every step on every column for which there are runs, or a printed figure.

    Args:
        measurements: What was measured.
        obstacle: Why the paper's figures do not apply to these data; empty if they do.
    """
    steps = []
    for worse, better in STEPS:
        in_table_3 = all(VARIANTS[v].paper for v in (worse, better))
        for subset in measurements.columns:
            estimate = measurements.step(worse, better, subset)
            printed = printed_step(worse, better, subset)
            if not (estimate.exists or (in_table_3 and np.isfinite(printed))):
                continue
            assessment = assess_effect(estimate, printed, STEP_FAMILY, obstacle=obstacle)
            if assessment.verdict == Verdict.MISSING:
                reason = _why_missing(measurements, worse, better, subset)
                assessment = replace(assessment, reason=reason)
            steps.append(Step(worse, better, subset, assessment))
    return steps


def why_empty(measurements: Measurements, variant: str, subset: EvalSubset) -> str:
    """Say in a word or two why a cell of Table 3 has no score."""
    runs = measurements.runs(variant, subset.eval_set)
    if not runs:
        return "no runs"
    if subset.is_test and not measurements.has_test:
        return "no labels"
    collapsed = all(measurements.records[run.run_id].collapsed for run in runs.values())
    return "collapsed" if collapsed else "no Pearson"


def _why_missing(measurements: Measurements, worse: str, better: str, subset: EvalSubset) -> str:
    reasons = [
        f"{short_title(variant)}: {why_empty(measurements, variant, subset)}"
        for variant in (worse, better)
        if not measurements.cell(variant, subset).exists
    ]
    return "; ".join(reasons) or "no seed that both have"
