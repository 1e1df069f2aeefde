"""The paper's open readings, read from `readings.toml`: settings that its rows could have had.

`ablation.config.variants` makes a variant of each row of Table 3 for every combination of the
readings that concern it; `docs/design/paper.md` lists them.
"""

import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from itertools import combinations
from typing import Final

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

Value = str | bool | int | float


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Reading:
    """A setting that a row of the paper could have had.

    Attributes:
        paper: Why the paper leaves it open.
        printed: The choice of the rows of Table 3, in a few words.
        question: The question that the other choice answers.
        field: The setting, such as "optimisation.decay".
        value: Its other value.
        concerns: Settings of the rows that it makes a difference to; all rows if empty.
    """

    paper: str
    printed: str
    question: str
    field: str
    value: Value
    concerns: Mapping[str, Value] = Field(default_factory=dict)

    def is_about(self, changes: Mapping[str, Value]) -> bool:
        """Return whether it makes a difference to a row with these settings."""
        return all(changes.get(field) == value for field, value in self.concerns.items())


READINGS: Final[Mapping[str, Reading]] = TypeAdapter(dict[str, Reading]).validate_python(
    tomllib.loads((files("ablation.config") / "readings.toml").read_text("utf-8"))
)


def readings_of(changes: Mapping[str, Value]) -> tuple[str, ...]:
    """Return the readings that make a difference to a row with these settings."""
    return tuple(name for name, reading in READINGS.items() if reading.is_about(changes))


def combine(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Return every combination of readings, fewest first, without the empty one."""
    each = tuple(names)
    return [some for size in range(1, len(each) + 1) for some in combinations(each, size)]


def variant_name(row: str, readings: Iterable[str]) -> str:
    """Return the name of a row under other readings, such as "epm+cl(attract)".

    `readings` stand in the order of `READINGS`; without any, it is the row itself.
    """
    chosen = set(readings)
    ordered = [name for name in READINGS if name in chosen]
    return f"{row}({'+'.join(ordered)})" if ordered else row
