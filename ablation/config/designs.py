"""Rows that follow from a base and components: leave-one-out, add-one-in, and the factorial."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from ablation.config.variant_table import Variant

LEAVE_ONE_OUT: Final = "leave-one-out"
ADD_ONE_IN: Final = "add-one-in"
FACTORIAL: Final = "factorial"
#: Components of the largest factorial: 64 rows.
MOST_FACTORS: Final = 6


@dataclass(frozen=True)
class Component:
    """A part of the method that is switched on by settings.

    Attributes:
        title: Its name in the titles of rows.
        changes: Settings by field.
        question: The question that the row answers that adds it alone to the base.
    """

    title: str
    changes: Mapping[str, Any]
    question: str = ""


@dataclass(frozen=True)
class Design:
    """Rows made of a base and components.

    Attributes:
        rows: The rows that were not there before, by name.
        cells: Every row of the designs, old and new, with the components that it has.
        groups: The rows of each design.
    """

    rows: Mapping[str, Variant]
    cells: Mapping[str, frozenset[str]]
    groups: Mapping[str, tuple[str, ...]]


def make_design(
    base_name: str, base: Variant, components: Mapping[str, Component], given: Mapping[str, Variant]
) -> Design:
    """Return the rows of all designs.

    A new row is compared with those that lack one of its components. A row among `given` that
    makes a cell's changes is that cell, under its own name.

    Args:
        base_name: The name of the row without components; new names begin with it.
        base: The row without components.
        components: The components by name, in the order in which they are added.
        given: The rows that the table has already.
    """
    name_of: dict[frozenset[str], str] = {}
    rows: dict[str, Variant] = {}
    by_changes = {
        _canonical(variant.changes): name
        for name, variant in reversed(list(given.items()))
        if not variant.combines_runs
    }
    for parts in _cells(tuple(components)):
        changes = dict(base.changes)
        for part in parts:
            changes |= components[part].changes
        name = by_changes.get(_canonical(changes))
        if name is None:
            name = "+".join((base_name, *parts))
            rows[name] = _row(base, changes, [components[part] for part in parts])
            lesser = [name_of.get(frozenset(parts) - {part}) for part in parts]
            compared_with = tuple(one for one in lesser if one is not None)
            rows[name] = replace(rows[name], compared_with=compared_with)
        name_of[frozenset(parts)] = name
    everything = frozenset(components)
    groups = {
        LEAVE_ONE_OUT: _named(name_of, [everything, *(everything - {c} for c in components)]),
        ADD_ONE_IN: _named(name_of, [frozenset(), *(frozenset({c}) for c in components)]),
    }
    if len(components) <= MOST_FACTORS:
        groups[FACTORIAL] = tuple(name_of.values())
    cells = {name: cell for cell, name in name_of.items()}
    return Design(rows, cells, groups)


def clashes(components: Mapping[str, Component]) -> Iterator[str]:
    """Yield a line for each pair of components that set one field to different values."""
    for (first, one), (second, other) in itertools.combinations(components.items(), 2):
        for field in one.changes.keys() & other.changes.keys():
            if one.changes[field] != other.changes[field]:
                yield (
                    f"components {first} and {second} both set {field}: they can't be combined;"
                    " make one of them a row of its own"
                )


def _cells(components: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the sets of components that some design has, smaller ones first."""
    count = len(components)
    sizes = range(count + 1) if count <= MOST_FACTORS else sorted({0, 1, count - 1, count})
    for size in sizes:
        yield from itertools.combinations(components, size)


def _row(base: Variant, changes: Mapping[str, Any], parts: Sequence[Component]) -> Variant:
    if not parts:
        return base
    titles = [part.title for part in parts]
    together = f"What do {', '.join(titles[:-1])} and {titles[-1]} do together?"
    alone = parts[0].question or f"What does {titles[0]} add?"
    return Variant(
        title=" ".join(f"+ {title}" for title in titles),
        question=alone if len(parts) == 1 else together,
        changes=dict(changes),
    )


def _named(
    name_of: Mapping[frozenset[str], str], cells: Sequence[frozenset[str]]
) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name_of[cell] for cell in cells))


def _canonical(changes: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(changes.items()))
