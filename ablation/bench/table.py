"""The table of measurements: what was compared, the value of each round, and the target."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

import numpy as np

Bound = Literal["at least", "at most", "none"]
_SIGNS: Final[dict[Bound, str]] = {"at least": "≥", "at most": "≤", "none": ""}


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        section: The section of `ablation bench`.
        what: What was measured.
        values: One number a round.
        unit: The unit: "x", "s", "%" or "".
        bound: The side of `target` on which the median should lie.
        target: The value to reach.
        ceiling: The best value that is possible on this machine, in words, if known.
        parts: The figures that the values were computed from.
    """

    section: str
    what: str
    values: tuple[float, ...]
    unit: str
    bound: Bound = "none"
    target: float | None = None
    ceiling: str = ""
    parts: dict[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return float(np.median(self.values))

    @property
    def is_met(self) -> bool | None:
        """True if the median reaches the target; None without a target."""
        if self.target is None:
            return None
        return (
            self.median >= self.target if self.bound == "at least" else self.median <= self.target
        )


COLUMNS: Final = ("what", "measured", "rounds", "to reach", "", "at best here")


def cells(row: Row) -> tuple[str, ...]:
    """Return the row's texts, one for each of `COLUMNS`."""
    low, high = min(row.values), max(row.values)
    spread = (
        f"{_number(low, row.unit)} to {_number(high, row.unit)}" if len(row.values) > 1 else "one"
    )
    target = "" if row.target is None else f"{_SIGNS[row.bound]} {_number(row.target, row.unit)}"
    verdict = {None: "", True: "met", False: "not met"}[row.is_met]
    return (row.what, _number(row.median, row.unit), spread, target, verdict, row.ceiling)


def as_markdown(rows: Sequence[Row], caption: str) -> str:
    """Return the whole table, with `caption` above it."""
    lines = [caption, "", "| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    lines += [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in cells(row)) + " |" for row in rows
    ]
    return "\n".join(lines) + "\n"


def as_json(rows: Sequence[Row]) -> str:
    """Return the rows with their parts."""
    return (
        json.dumps(
            [{**asdict(row), "median": row.median, "met": row.is_met} for row in rows], indent=2
        )
        + "\n"
    )


def ratios(above: Sequence[float], below: Sequence[float]) -> tuple[float, ...]:
    """Return the ratio of each round, whose two values were measured one after the other."""
    return tuple(a / b for a, b in zip(above, below, strict=True))


def _number(value: float, unit: str) -> str:
    if unit == "%":
        return f"{100 * value:.2f} %" if value < 0.02 else f"{100 * value:.0f} %"
    return f"{value:.3g}{'x' if unit == 'x' else f' {unit}' if unit else ''}"
