"""Compute main effects and interactions of a table's components from the variants at hand.

Table 3 is five cells of a 2 x 2 x 2 factorial of EPM, CL and FT. An effect is the mean over all
pairs (for an interaction: quadruples) of cells that differ in nothing but its factors; it names the
cells that it is taken from and those that are missing.
"""

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from ablation.config.variant_table import VariantTable
from ablation.config.variants import TABLE_3

#: Factors of the highest interaction.
_HIGHEST: Final = 3


@dataclass(frozen=True)
class FactorialEffect:
    """A contrast of variants.

    Attributes:
        name: Its factors, such as `EPM × CL`.
        weights: A weight for each variant; empty if no complete set of cells is there.
        missing: Variants whose runs would complete it.
        order: The factorial's variants in their order.
    """

    name: str
    weights: Mapping[str, float]
    missing: tuple[str, ...]
    order: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """True if no set of cells is missing."""
        return not self.missing

    @property
    def cells(self) -> tuple[str, ...]:
        """Variants that it is taken from, in the order of the factorial."""
        return tuple(name for name in self.order if self.weights.get(name))


def find_effects(present: Collection[str], table: VariantTable = TABLE_3) -> list[FactorialEffect]:
    """Return the main effects and interactions, taken from the variants that are `present`.

    Interactions of up to three components; a table without components has none.
    """
    components = table.components
    return [
        _effect(factors, present, table)
        for size in range(1, min(len(components), _HIGHEST) + 1)
        for factors in itertools.combinations(components, size)
    ]


def _effect(
    factors: tuple[str, ...], present: Collection[str], table: VariantTable
) -> FactorialEffect:
    """Average, over the other factors' settings, the signed sum over the 2^k cells of these."""
    name_of = {cell: name for name, cell in table.cells.items()}
    others = [component for component in table.components if component not in factors]
    sets: list[dict[str, float]] = []
    missing: set[str] = set()
    for rest in itertools.product((0, 1), repeat=len(others)):
        cells: dict[str, float] = {}
        having = {component for component, is_on in zip(others, rest, strict=True) if is_on}
        for setting in itertools.product((0, 1), repeat=len(factors)):
            on = {component for component, is_on in zip(factors, setting, strict=True) if is_on}
            name = name_of.get(frozenset(having | on))
            if name is not None:
                cells[name] = float((-1) ** (len(factors) - sum(setting)))
        if len(cells) < 2 ** len(factors):
            continue  # large tables have no rows for all cells
        absent = set(cells) - set(present)
        missing |= absent
        if not absent:
            sets.append(cells)
    weights: dict[str, float] = {}
    for cells in sets:
        for name, sign in cells.items():
            weights[name] = weights.get(name, 0.0) + sign / len(sets)
    order = tuple(table.cells)
    return FactorialEffect(
        " × ".join(factors), weights, tuple(cell for cell in order if cell in missing), order
    )
