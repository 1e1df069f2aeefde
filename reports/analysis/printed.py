"""Look up what the paper prints for a variant, a difference or a contrast."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from ablation.config import paper_figures
from ablation.config.variants import VARIANTS
from reports.analysis.measures import TEST, EvalSubset

#: The field of `PaperCells` that an eval set and a subset of its languages belong to.
_CELLS: Final = {
    ("dev1", "all"): "dev1",
    ("dev2", "all"): "dev2",
    (TEST, "seen"): "seen",
    (TEST, "unseen"): "unseen",
}


def printed_score(variant: str, subset: EvalSubset) -> float:
    """Return Table 3's cell as a correlation, NaN if empty; the abstract's for the ensemble."""
    if subset == EvalSubset(TEST) and variant == "ensemble":
        return paper_figures.OVERALL / 100
    cells = VARIANTS[variant].paper if variant in VARIANTS else None
    name = _CELLS.get((subset.eval_set.split(":")[0], subset.languages))
    value = None if cells is None or name is None else getattr(cells, name)
    return float("nan") if value is None else value / 100


def printed_cells() -> list[tuple[str, EvalSubset]]:
    """Return the cells of Table 3, and the abstract's overall score, that the paper prints."""
    subsets = [EvalSubset(eval_set, languages) for eval_set, languages in _CELLS]
    cells = [(variant, s) for variant in VARIANTS for s in (*subsets, EvalSubset(TEST))]
    return [cell for cell in cells if np.isfinite(printed_score(*cell))]


def printed_effect(weights: Mapping[str, float], subset: EvalSubset) -> float:
    """Return the weighted sum of the paper's cells; NaN if one of them is not printed."""
    return float(sum(weight * printed_score(name, subset) for name, weight in weights.items()))


def printed_step(worse: str, better: str, subset: EvalSubset) -> float:
    """Return the difference of two of the paper's cells; NaN if one is not printed."""
    return printed_effect({better: 1.0, worse: -1.0}, subset)
