"""Read the KL divergences between the sentence vectors of a real training batch (Figure 2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from ablation.tracking import names
from reports.analysis.collect import Experiment, read_tables
from reports.analysis.groups import Group
from reports.analysis.labels import row_title

#: Figure 2 shows as many rows of the batch as the paper's sketch has.
PAIRS_SHOWN: Final = 8
#: Variants to show, by preference: with CL, and without for comparison.
_PREFERRED: Final = ("epm+cl", "epm", "mse")
_MOST_SHOWN: Final = 2


@dataclass(frozen=True)
class Distances:
    """One batch's KL matrix, sorted by language.

    Attributes:
        title: The variant's, as in Table 3.
        kl: (rows, rows).
        language: (rows,).
        tau: The temperature of the run.
    """

    title: str
    kl: np.ndarray
    language: np.ndarray
    tau: float

    def sample(self, count: int = PAIRS_SHOWN) -> "Distances":
        """Return `count` of the rows, evenly from the batch's languages."""
        order = pd.Series(self.language).groupby(self.language).cumcount().to_numpy()
        rows = np.sort(np.lexsort((np.arange(len(order)), order))[:count])
        return Distances(self.title, self.kl[np.ix_(rows, rows)], self.language[rows], self.tau)


def read_distances(
    experiment: Experiment, group: Group, variants: Sequence[str] = ()
) -> list[Distances]:
    """Read the matrices of the first two of `variants` that kept one.

    Without `variants`, those with a contrastive term come first in a table that is not the paper's.

    They are of the lowest seed of the first split.
    """
    matrices = []
    for variant in variants or _preferred(group):
        runs = [r for r in group.runs if r.variant == variant and r.split == group.splits[0]][:1]
        for run in runs:
            frame = read_tables(experiment, [run], names.DISTANCES)[run.run_id]
            if frame is not None:
                kl = frame.filter(like="kl_").to_numpy(np.float64)
                tau = float(run.params["loss.tau"])
                language = frame["language"].to_numpy()
                matrices.append(Distances(row_title(variant, group.table), kl, language, tau))
    return matrices[:_MOST_SHOWN]


def _preferred(group: Group) -> Sequence[str]:
    if group.table.is_the_papers:
        return _PREFERRED
    runs = {run.variant: run for run in group.runs}
    return sorted(runs, key=lambda v: runs[v].params.get("loss.contrastive", "none") == "none")
