"""Hold everything that a report's sections show, each part computed once, when it is needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from ablation.data.layout import CorpusLayout
from ablation.tracking.bundle import TEXT, without_texts
from reports.analysis import claim_verdicts
from reports.analysis.budgets import Budgets, find_budgets
from reports.analysis.collect import Experiment, read_corpus, read_layout
from reports.analysis.comparability import Comparability, compare_with_paper
from reports.analysis.costs import Cost, compute_costs
from reports.analysis.curve_study import CurveStudy, find_study
from reports.analysis.curves import Curve, curves_by_variant, read_curves
from reports.analysis.groups import Group
from reports.analysis.measures import (
    Measurements,
    compute_measurements,
    with_test_rows,
)
from reports.analysis.own_task import Comparison, compare_variants
from reports.analysis.residuals import Residuals, compute_residuals
from reports.analysis.scope import DEFAULT_SCOPE, Scope
from reports.analysis.specifications import SpecificationCurve, by_draws, specification_curves
from reports.analysis.steps import Step, compute_steps
from reports.analysis.targets import target_groups
from reports.analysis.verdicts import Assessment


@dataclass(frozen=True)
class ReportInputs:
    """The group of runs that a report shows, and everything computed from it.

    Attributes:
        experiment: The whole experiment.
        groups: Its groups of runs.
        group: The one to show; empty if the experiment holds a curve study and nothing else.
        seed: Seed of all resampling.
        texts: Whether texts of the corpus may be shown.
        scope: What intervals and verdicts are about.
    """

    experiment: Experiment
    groups: Sequence[Group]
    group: Group
    seed: int = 0
    texts: bool = True
    scope: Scope = DEFAULT_SCOPE

    @cached_property
    def measurements(self) -> Measurements:
        return compute_measurements(self.experiment, self.group, self.scope)

    @cached_property
    def targets(self) -> dict[str, Measurements]:
        """The measurements on each target of the corpus, by name; none if there is one only."""
        groups = target_groups(self.experiment, self.groups, self.group, self.layout)
        return {
            name: self.measurements
            if group is self.group
            else compute_measurements(self.experiment, group, self.scope)
            for name, group in groups.items()
        }

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """The rows compared with each other, on every target that has runs."""
        of_corpus = max(1, len(self.layout.columns.label))
        return compare_variants(self.targets or {"": self.measurements}, of_corpus)

    @cached_property
    def by_test_split(self) -> dict[str, Measurements]:
        """The measurements with each split's models in the test columns, by split."""
        own = self.measurements
        return {
            split: own
            if split == own.test_from or not own.has_test
            else with_test_rows(self.experiment, own, split)
            for split in self.group.splits
        }

    @cached_property
    def specification_curves(self) -> list[SpecificationCurve]:
        """Each effect of the claims under every reading of the paper that was run."""
        own, test_from = self.measurements, ""
        choices: dict[str, Measurements] = {}
        for choice, splits in by_draws(self.group.splits).items():
            if own.test_from in splits:
                choices[choice], test_from = own, choice
            elif not own.has_test or len(splits) == 1:
                choices[choice] = self.by_test_split[splits[0]]
            else:
                choices[choice] = with_test_rows(self.experiment, own, splits[0], splits)
        return specification_curves(choices, test_from)

    @cached_property
    def comparability(self) -> Comparability:
        """The paper's figures that apply to the group's runs."""
        return compare_with_paper(self.group.runs or self.experiment.curves, self.group.table)

    @cached_property
    def steps(self) -> list[Step]:
        return compute_steps(self.measurements, self.comparability.obstacle)

    @cached_property
    def claims(self) -> dict[str, Assessment]:
        """The claims about the group's scores, and the paper's about its curves, by id."""
        obstacle = self.comparability.obstacle
        scores = claim_verdicts.assess_score_claims(self.measurements, obstacle)
        if not self.group.table.is_the_papers:
            return scores
        return scores | claim_verdicts.assess_curve_claims(self.curves, obstacle)

    @cached_property
    def curves(self) -> dict[str, dict[int, Curve]]:
        """Training curves of the test columns' split, by variant and seed."""
        split = self.measurements.test_from
        runs = [run for run in self.group.runs if run.split == split]
        return curves_by_variant(read_curves(self.experiment, runs), split)

    @cached_property
    def curve_study(self) -> CurveStudy | None:
        return find_study(self.experiment)

    @cached_property
    def layout(self) -> CorpusLayout:
        """The range of labels, the kind of groups, and the words for both."""
        return read_layout(self.experiment, self.group.runs)

    @cached_property
    def residuals(self) -> Residuals | None:
        return compute_residuals(self.measurements, self.layout.label_range)

    @cached_property
    def costs(self) -> list[Cost]:
        return compute_costs(self.measurements)

    @cached_property
    def budgets(self) -> Budgets | None:
        return find_budgets(self.experiment, self.group)

    @cached_property
    def corpus(self) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
        """Training and test rows, with their texts if these may be shown; None if not kept."""
        train, test = read_corpus(self.experiment, self.group.runs)
        if self.texts:
            return train, test
        return (
            None if train is None else without_texts(train),
            None if test is None else without_texts(test),
        )

    @property
    def shows_texts(self) -> bool:
        """Tell if there are texts that may be shown."""
        return any(rows is not None and TEXT in rows for rows in self.corpus)

    @cached_property
    def best_variant(self) -> str | None:
        """The variant with the highest Pearson on the development rows that are looked at."""
        subset = self.measurements.developed
        means = {v: self.measurements.cell(v, subset).mean for v in self.group.variants}
        known = {v: mean for v, mean in means.items() if np.isfinite(mean)}
        return max(known, key=lambda v: known[v]) if known else None

    @property
    def analysed_rows(self) -> str:
        """The rows that errors and costs are looked at on, in words."""
        subset = self.measurements.analysed
        return "test rows" if subset.is_test else f"development rows of {subset}"
