"""Give each verdict its mark; `document/` gives each mark its colour."""

from typing import Final

from reports.analysis.replication import Verdict
from reports.rendering.tables import Cell, Mark

MARKS: Final[dict[Verdict, Mark]] = {
    Verdict.REPLICATED: "good",
    Verdict.LARGER: "good",
    Verdict.SMALLER: "bad",
    Verdict.NO_EFFECT: "bad",
    Verdict.OPPOSITE: "bad",
    Verdict.UNDECIDED: "unsure",
    Verdict.MISSING: "",
    Verdict.NOT_COMPARABLE: "",
}


def verdict_cell(verdict: Verdict) -> Cell:
    """Return a verdict's cell with its mark."""
    return Cell(verdict.value, mark=MARKS[verdict])
