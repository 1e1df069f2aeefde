"""The rows of the paper's Table 3, and a few that its text asks for.

A variant is the settings that make it that row, and the question it answers. A new
row is one line of `VARIANTS`. Two things in Table 3 are unclear and handled elsewhere as named
options: the sign of Eq. 9 (`loss.contrastive`), and which split's models produced the test
columns (`ablation.runs.comparison`).
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ablation.core.errors import UsageError


@dataclass(frozen=True)
class PaperCells:
    """A row of Table 3: Pearson times 100; None where the paper leaves the cell empty."""

    dev1: float | None
    dev2: float | None
    seen: float | None
    unseen: float | None


@dataclass(frozen=True)
class Variant:
    """`changes` maps config fields to the values that make this row what it is."""

    title: str
    question: str
    changes: Mapping[str, object] = field(default_factory=dict)
    paper: PaperCells | None = None
    combines_runs: bool = False


#: Every trained row says all three, so that no profile or override can make a row another than its title says.
_MSE: Final[dict[str, object]] = {
    "loss.regression": "mse",
    "loss.contrastive": "none",
    "model.frozen_tuning": False,
}
_EPM: Final[dict[str, object]] = _MSE | {"loss.regression": "epm"}
_CL: Final[dict[str, object]] = {"loss.contrastive": "as_printed"}
_ATTRACT: Final[dict[str, object]] = {"loss.contrastive": "attract"}
_FT: Final[dict[str, object]] = {"model.frozen_tuning": True}

VARIANTS: Final[dict[str, Variant]] = {
    # Table 3
    "mse": Variant(
        "MSE", "What does plain fine-tuning reach?", _MSE, PaperCells(68.66, 69.13, 67.26, 37.39)
    ),
    "epm": Variant(
        "+ EPM", "Does penalising hard samples help?", _EPM, PaperCells(68.86, 70.47, 69.61, 44.85)
    ),
    "epm+cl": Variant(
        "+ EPM + CL",
        "Does contrasting the languages help unseen ones?",
        _EPM | _CL,
        PaperCells(69.15, 71.36, 70.02, 46.86),
    ),
    "epm+ft": Variant(
        "+ EPM + FT",
        "Does freezing the lowest layers help unseen languages?",
        _EPM | _FT,
        PaperCells(68.98, 70.22, 70.04, 45.98),
    ),
    "epm+cl+ft": Variant(
        "+ EPM + CL + FT",
        "Do the two get in each other's way?",
        _EPM | _CL | _FT,
        PaperCells(68.59, 69.63, 69.81, 45.14),
    ),
    "ensemble": Variant(
        "Ensemble",
        "What do the models reach together?",
        {},
        PaperCells(None, None, 72.00, 46.92),
        combines_runs=True,
    ),
    # Figure 5, the other cells of the three components' factorial, and the sign of Eq. 9 that the paper's text describes
    "mse+cl": Variant(
        "MSE + CL", "Does CL without EPM make training collapse (Figure 5)?", _MSE | _CL
    ),
    "mse+ft": Variant("MSE + FT", "Does FT need EPM?", _MSE | _FT),
    "mse+cl+ft": Variant(
        "MSE + CL + FT", "Do CL and FT get in each other's way without EPM?", _MSE | _CL | _FT
    ),
    "epm+cl(attract)": Variant(
        "+ EPM + CL (attract)", "What if Eq. 9 really draws a language together?", _EPM | _ATTRACT
    ),
    "mse+cl(attract)": Variant(
        "MSE + CL (attract)",
        "Does MSE collapse too if Eq. 9 draws a language together?",
        _MSE | _ATTRACT,
    ),
    # The task's baseline (Pei et al., 2023), fine-tuned here; Table 3 quotes its figures.
    "baseline": Variant(
        "Baseline",
        "How far is the task's own baseline, XLM-T?",
        _MSE | {"model.encoder": "cardiffnlp/twitter-xlm-roberta-base"},
        PaperCells(None, None, 65.33, 41.25),
    ),
}

#: Names that stand for several variants.
GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "table3": ("mse", "epm", "epm+cl", "epm+ft", "epm+cl+ft", "ensemble"),
    "figure5": ("mse+cl", "epm+cl"),
    "factorial": ("mse", "epm", "epm+cl", "epm+ft", "epm+cl+ft", "mse+cl", "mse+ft", "mse+cl+ft"),
    "all": tuple(name for name in VARIANTS if name != "baseline"),
}


def select_variants(names: Iterable[str]) -> tuple[str, ...]:
    """Return the variants that `names` of variants and groups stand for, in the table's order.

    Raises UsageError for an unknown name (with the nearest known one), no name, or an ensemble
    that has nothing to combine.
    """
    asked = list(names)
    if not asked:
        raise UsageError(f"no variants given; known are {', '.join([*GROUPS, *VARIANTS])}")
    chosen: set[str] = set()
    problems = []
    for name in asked:
        if name in GROUPS:
            chosen.update(GROUPS[name])
        elif name in VARIANTS:
            chosen.add(name)
        else:
            near = difflib.get_close_matches(name, [*GROUPS, *VARIANTS], n=1)
            hint = (
                f"did you mean {near[0]!r}?"
                if near
                else f"known are {', '.join([*GROUPS, *VARIANTS])}"
            )
            problems.append(f"unknown variant {name!r}: {hint}")
    if problems:
        raise UsageError(problems)
    if all(VARIANTS[name].combines_runs for name in chosen):
        raise UsageError(
            "the ensemble combines other variants' runs: name some of those as well, e.g. 'table3'"
        )
    return tuple(name for name in VARIANTS if name in chosen)
