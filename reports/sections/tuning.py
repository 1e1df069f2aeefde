"""Whether every row of the table had the same chance: how many trials tuned each, and what they gained.

Read from the suites of the runs at hand, which carry what their profile says of its tuning.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from ablation.config.tuning_record import Tuning
from ablation.config.variants import VARIANTS
from ablation.tracking import names
from reports.analysis.collect import Experiment, read_suite_json
from reports.analysis.groups import Group
from reports.rendering.tables import Cell, Column, Table, number
from reports.sections.scores import title

NOT_TUNED: Final = "none"


@dataclass(frozen=True)
class Budgets:
    """The tuning of one group of runs, and the group's trained variants."""

    tuning: Tuning
    variants: Sequence[str]

    @cached_property
    def counts(self) -> dict[str, int]:
        """Trials by variant; 0 for one that was not tuned."""
        return {variant: len(self.tuning.trials.get(variant, ())) for variant in self.variants}

    @property
    def equal(self) -> bool:
        return len(set(self.counts.values())) == 1

    def best_so_far(self, variant: str) -> np.ndarray:
        """Highest development Pearson after each trial (trials,); NaN before the first that was completed."""
        values = np.array(self.tuning.trials.get(variant, ()), dtype=np.float64)
        return np.fmax.accumulate(values) if len(values) else values

    @property
    def warning(self) -> str:
        """What a reader must know first; empty where all had the same chance."""
        if self.equal:
            return ""
        listed = ", ".join(
            f"{title(variant)} {count or NOT_TUNED}" for variant, count in self.counts.items()
        )
        return f"Unequal tuning: trials by row: {listed}. A row that was tuned longer may be better for that alone."


def find_budgets(experiment: Experiment, group: Group) -> Budgets | None:
    """The tuning that the group's runs carry; None where their settings were chosen by hand."""
    parents = {run.suite for run in group.runs}
    for suite in reversed([suite for suite in experiment.suites if suite.run_id in parents]):
        found = read_suite_json(experiment, suite, names.TUNING_FILE)
        if found is not None:
            trained = [v for v in group.variants if v in VARIANTS and not VARIANTS[v].combines_runs]
            return Budgets(Tuning.model_validate(found), trained)
    return None


def table(budgets: Budgets) -> Table:
    """Each row's trials and the best of them; unequal numbers marked."""
    most = max(budgets.counts.values())
    rows = []
    for variant, count in budgets.counts.items():
        best = budgets.best_so_far(variant)
        reached = (
            np.flatnonzero(best == best[-1])[0] + 1 if count and np.isfinite(best[-1]) else None
        )
        rows.append(
            (
                Cell(title(variant)),
                Cell(
                    str(count) if count else NOT_TUNED,
                    count,
                    mark="differs" if count != most else "",
                ),
                Cell(
                    str(int(np.isfinite(budgets.tuning.trials.get(variant, ())).sum()))
                    if count
                    else "–"
                ),
                number(100 * best[-1] if count else None),
                Cell("–") if reached is None else Cell(str(reached), float(reached)),
            )
        )
    heads = (
        Column("Method"),
        Column("trials", True),
        Column("completed", True),
        Column("best Pearson × 100", True),
        Column("at trial", True),
    )
    tuning = budgets.tuning
    notes = (
        f"Study {tuning.study!r}: {', '.join(tuning.fields)}, on development rows of {', '.join(tuning.splits)}. Scores on these"
        " rows are flattered by the choice; the others are not. Marked: fewer trials than another row.",
    )
    return Table("tuning", "How the settings were tuned", heads, tuple(rows), notes)
