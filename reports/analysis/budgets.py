"""Compare how long each variant was tuned: trials, and what they gained.

Read from the suites of the runs at hand, which carry their profile's tuning record.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from ablation.config.tuning_record import Tuning
from ablation.config.variant_table import VariantTable
from ablation.config.variants import TABLE_3
from ablation.tracking import names
from reports.analysis.collect import Experiment, read_suite_json
from reports.analysis.groups import Group
from reports.analysis.labels import row_title

NOT_TUNED: Final = "none"


@dataclass(frozen=True)
class Budgets:
    """The tuning of one group of runs, and the group's trained variants, rows of `table`."""

    tuning: Tuning
    variants: Sequence[str]
    table: VariantTable = TABLE_3

    @cached_property
    def counts(self) -> dict[str, int]:
        """Trials by variant; 0 for one that was not tuned."""
        return {variant: len(self.tuning.trials.get(variant, ())) for variant in self.variants}

    @property
    def equal(self) -> bool:
        return len(set(self.counts.values())) == 1

    @property
    def warning(self) -> str:
        """Warning for the first page; empty if all variants had equal budgets."""
        if self.equal:
            return ""
        listed = ", ".join(
            f"{row_title(v, self.table)} {n or NOT_TUNED}" for v, n in self.counts.items()
        )
        return (
            f"Unequal tuning: trials by row: {listed}. A row may be better only because it was"
            " tuned longer."
        )

    def best_so_far(self, variant: str) -> np.ndarray:
        """Return the highest development Pearson after each trial, (trials,).

        NaN before the first trial that was completed.
        """
        values = np.array(self.tuning.trials.get(variant, ()), dtype=np.float64)
        return np.fmax.accumulate(values) if len(values) else values


def find_budgets(experiment: Experiment, group: Group) -> Budgets | None:
    """Read the tuning that the group's runs carry; None if their settings were chosen by hand."""
    parents = {run.suite for run in group.runs}
    for suite in reversed([suite for suite in experiment.suites if suite.run_id in parents]):
        record = read_suite_json(experiment, suite, names.TUNING_FILE)
        if record is not None:
            rows = group.table.variants
            trained = [v for v in group.variants if v in rows and not rows[v].combines_runs]
            return Budgets(Tuning.model_validate(record), trained, group.table)
    return None
