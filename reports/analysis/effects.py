"""Compute main effects and interactions of EPM, CL and FT from the variants at hand.

Table 3 is five cells of a 2 x 2 x 2 factorial. An effect is the mean over all pairs (for an
interaction: quadruples) of cells that differ in nothing but its factors; it names the cells that
it is taken from and those that are missing.
"""

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

FACTORS: Final = ("EPM", "CL", "FT")
Levels = tuple[int, int, int]

#: The variants as cells of the factorial: with (1) or without (0) EPM, CL, FT.
CELLS: Final[Mapping[str, Levels]] = {
    "mse": (0, 0, 0),
    "epm": (1, 0, 0),
    "mse+cl": (0, 1, 0),
    "mse+ft": (0, 0, 1),
    "epm+cl": (1, 1, 0),
    "epm+ft": (1, 0, 1),
    "mse+cl+ft": (0, 1, 1),
    "epm+cl+ft": (1, 1, 1),
}
_NAME: Final = {levels: name for name, levels in CELLS.items()}


@dataclass(frozen=True)
class FactorialEffect:
    """A contrast of variants.

    Attributes:
        name: Its factors, such as `EPM × CL`.
        weights: A weight for each variant; empty if no complete set of cells is there.
        missing: Variants whose runs would complete it.
    """

    name: str
    weights: Mapping[str, float]
    missing: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """True if no set of cells is missing."""
        return not self.missing

    @property
    def cells(self) -> tuple[str, ...]:
        """Variants that it is taken from, in the order of the factorial."""
        return tuple(name for name in CELLS if self.weights.get(name))


def find_effects(present: Collection[str]) -> list[FactorialEffect]:
    """Return all main effects and interactions, taken from the variants that are `present`."""
    sets = (
        factors
        for size in (1, 2, 3)
        for factors in itertools.combinations(range(len(FACTORS)), size)
    )
    return [_effect(factors, present) for factors in sets]


def _effect(factors: tuple[int, ...], present: Collection[str]) -> FactorialEffect:
    """Average, over the other factors' settings, the signed sum over the 2^k cells of these."""
    others = [f for f in range(len(FACTORS)) if f not in factors]
    sets: list[dict[str, float]] = []
    missing: set[str] = set()
    for rest in itertools.product((0, 1), repeat=len(others)):
        cells = {}
        for setting in itertools.product((0, 1), repeat=len(factors)):
            levels = dict(zip(others, rest, strict=True)) | dict(zip(factors, setting, strict=True))
            name = _NAME[(levels[0], levels[1], levels[2])]
            cells[name] = float((-1) ** (len(factors) - sum(setting)))
        absent = set(cells) - set(present)
        missing |= absent
        if not absent:
            sets.append(cells)
    weights: dict[str, float] = {}
    for cells in sets:
        for name, sign in cells.items():
            weights[name] = weights.get(name, 0.0) + sign / len(sets)
    name = " × ".join(FACTORS[f] for f in factors)
    return FactorialEffect(name, weights, tuple(cell for cell in CELLS if cell in missing))
