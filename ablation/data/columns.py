"""Look at the columns of a table: numbers, texts, groups, and words such as train and dev."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ablation.data.formats import RawTable
from ablation.data.languages import language_name, parse_tag
from ablation.data.layout import PART_WORDS
from ablation.data.rows import LONGEST_GROUP, parse_number

#: A group needs at least so many rows on average, and a corpus has at most so many groups.
_ROWS_PER_GROUP, _MOST_GROUPS = 10, 50
#: Fewer rows than this can have different whole numbers without these being a running number.
_FEWEST_NUMBERED: Final = 20


@dataclass(frozen=True)
class Column:
    """A column of the training rows.

    Attributes:
        name: Its name.
        rows: The number of rows, empty cells included.
        values: How often each value occurs that is not empty.
        numbers: The values as numbers; None if one of them is no number.
    """

    name: str
    rows: int
    values: Mapping[str, int]
    numbers: tuple[float, ...] | None

    @property
    def filled(self) -> int:
        """The number of cells that are not empty."""
        return sum(self.values.values())

    @property
    def mean_length(self) -> float:
        """The mean number of characters of a value."""
        total = sum(len(value) * count for value, count in self.values.items())
        return total / max(1, self.filled)

    @property
    def is_numbering(self) -> bool:
        """Tell if this is a running number or another key: whole numbers, each once."""
        if self.numbers is None:
            return False
        is_whole = all(number == int(number) for number in self.numbers)
        return is_whole and len(self.values) == self.filled >= _FEWEST_NUMBERED

    @property
    def may_be_label(self) -> bool:
        """Tell if there are two numbers or more that are no running number."""
        return self.numbers is not None and len(self.numbers) > 1 and not self.is_numbering

    @property
    def may_be_text(self) -> bool:
        return self.numbers is None and not self.says_part

    @property
    def says_part(self) -> bool:
        """Tell if the values are words such as train and dev."""
        parts = {PART_WORDS.get(value.lower(), "") for value in self.values}
        return "train" in parts and "" not in parts and len(parts) > 1

    @property
    def may_be_group(self) -> bool:
        """Tell if the values are a few short texts, each in many rows, and none is missing."""
        return (
            self.numbers is None
            and not self.says_part
            and self.filled == self.rows
            and 1 < len(self.values) <= min(_MOST_GROUPS, self.rows // _ROWS_PER_GROUP)
            and max(map(len, self.values)) <= LONGEST_GROUP
        )


def look_at(tables: Sequence[RawTable], decimal: str) -> dict[str, Column]:
    """Return the columns of tables by name, in the order of their first occurrence."""
    names = dict.fromkeys(name for table in tables for name in table.columns)
    rows = sum(len(table.records) for table in tables)
    columns = {}
    for name in names:
        values = Counter(
            text
            for table in tables
            for record in table.records
            if (value := record.values.get(name)) is not None and (text := str(value).strip())
        )
        columns[name] = Column(name, rows, values, _numbers(values, decimal))
    return columns


def are_languages(groups: Sequence[str]) -> bool:
    """Tell if groups look like languages: all could be tags, and half of them are known ones."""
    tags = [parse_tag(group) for group in groups]
    known = [tag for tag in tags if tag is not None and language_name(tag) != tag]
    return None not in tags and 2 * len(known) >= len(tags) > 0


def uses_decimal_commas(tables: Sequence[RawTable]) -> bool:
    """Tell if a column has numbers with a comma and none with a point."""
    for column in look_at(tables, ",").values():
        if column.numbers is not None and any("," in value for value in column.values):
            return True
    return False


def outward(lowest: float, highest: float) -> tuple[float, float]:
    """Return the ends of a scale that holds these labels, rounded outward.

    >>> outward(1.2, 4.6), outward(0.05, 0.9), outward(3.0, 97.5)
    ((1.0, 5.0), (0.0, 1.0), (0.0, 100.0))
    """
    width = highest - lowest
    unit = max(1.0, 10.0 ** math.floor(math.log10(width))) if width > 0 else 1.0
    return math.floor(lowest / unit) * unit, math.ceil(highest / unit) * unit


def _numbers(values: Mapping[str, int], decimal: str) -> tuple[float, ...] | None:
    numbers = []
    for value in values:
        try:
            number = parse_number(value, decimal)
        except ValueError:
            return None
        if not math.isfinite(number):
            return None
        numbers.append(number)
    return tuple(sorted(numbers)) if numbers else None
