"""Look up what a table prints for a variant, a difference or a contrast."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from ablation.config import paper_figures
from ablation.config.variant_table import VariantTable
from ablation.config.variants import TABLE_3
from ablation.data.splits import draw_kind
from reports.analysis.subsets import TEST, EvalSubset

#: The field of `PrintedCells` that an eval set and a subset of its languages belong to.
_CELLS: Final = {
    ("dev1", "all"): "dev1",
    ("dev2", "all"): "dev2",
    (TEST, "seen"): "seen",
    (TEST, "unseen"): "unseen",
    (TEST, "all"): "overall",
}


def printed_score(variant: str, subset: EvalSubset, table: VariantTable = TABLE_3) -> float:
    """Return the table's cell as a correlation, NaN if nothing is printed.

    The paper's overall score of the ensemble is that of its abstract.
    """
    key = draw_kind(subset.eval_set), subset.languages
    if table.is_the_papers and key == (TEST, "all") and variant == "ensemble":
        return paper_figures.OVERALL / 100
    cells = table.variants[variant].printed if variant in table.variants else None
    name = _CELLS.get(key)
    value = None if cells is None or name is None else getattr(cells, name)
    return float("nan") if value is None else value / 100


def printed_cells(table: VariantTable = TABLE_3) -> list[tuple[str, EvalSubset]]:
    """Return the cells of the table that are printed, the abstract's overall score included."""
    subsets = [EvalSubset(eval_set, languages) for eval_set, languages in _CELLS]
    cells = [(variant, subset) for variant in table.variants for subset in subsets]
    return [cell for cell in cells if np.isfinite(printed_score(*cell, table))]


def printed_effect(
    weights: Mapping[str, float], subset: EvalSubset, table: VariantTable = TABLE_3
) -> float:
    """Return the weighted sum of the table's cells; NaN if one of them is not printed."""
    return float(
        sum(weight * printed_score(name, subset, table) for name, weight in weights.items())
    )


def printed_step(
    worse: str, better: str, subset: EvalSubset, table: VariantTable = TABLE_3
) -> float:
    """Return the difference of two of the table's cells; NaN if one is not printed."""
    return printed_effect({better: 1.0, worse: -1.0}, subset, table)
