"""Look at the columns of a table: numbers, texts, groups, and words such as train and dev."""

import math
import re
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
_MOST_EMPTY_WORDS: Final = 2


@dataclass(frozen=True)
class Column:
    """A column of the training rows.

    Attributes:
        name: Its name.
        rows: The number of rows, empty cells included.
        values: How often each value occurs that is not empty.
        numbers: The values as numbers; None if one of them is no number.
        empty: Words among numbers that seem to stand for empty cells, such as "NA".
        is_numbering: Whether it is a running number or another key: whole numbers, each once in
            its file.
    """

    name: str
    rows: int
    values: Mapping[str, int]
    numbers: tuple[float, ...] | None
    empty: tuple[str, ...] = ()
    is_numbering: bool = False

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
    def may_be_label(self) -> bool:
        """Tell if there are two numbers or more that are no running number."""
        return self.numbers is not None and len(self.numbers) > 1 and not self.is_numbering

    @property
    def why_no_label(self) -> str:
        """Say what keeps the column from being a label, such as "'3/5' is no number"."""
        if self.numbers is None:
            return f"{next(iter(self.values))!r} is no number"
        return "a running number" if self.is_numbering else f"always {next(iter(self.values))}"

    @property
    def may_be_text(self) -> bool:
        return self.numbers is None and not self.says_part

    @property
    def are_codes(self) -> bool:
        """Tell if no value has a blank or a letter beyond ASCII, as in addresses and keys."""
        return all(value.isascii() and len(value.split()) == 1 for value in self.values)

    @property
    def says_part(self) -> bool:
        """Tell if the values are words such as train and dev."""
        parts = {PART_WORDS.get(value.lower(), "") for value in self.values}
        return "train" in parts and "" not in parts and len(parts) > 1

    @property
    def are_markers(self) -> bool:
        """Tell if the values are no numbers but a word or two, such as NONE for an empty cell."""
        return self.numbers is None and 0 < len(self.values) <= _MOST_EMPTY_WORDS

    @property
    def may_be_group(self) -> bool:
        """Tell if the values are a few short texts, each in many rows, and most are there."""
        return (
            self.numbers is None
            and not self.says_part
            and 2 * self.filled > self.rows
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
        empty = _empty_words(values, decimal)
        numeric = {value: n for value, n in values.items() if value not in empty}
        numbers = _numbers(numeric, decimal)
        is_key = numbers is not None and all(number == int(number) for number in numbers)
        is_key = is_key and all(_is_key(table, name) for table in tables)
        columns[name] = Column(name, rows, values, numbers, empty, is_key)
    return columns


def _is_key(table: RawTable, name: str) -> bool:
    """Tell if the values of a column differ from each other in a file of many rows."""
    values = [str(value) for record in table.records if (value := record.values.get(name))]
    return len(set(values)) == len(values) and len(table.records) >= _FEWEST_NUMBERED


def _empty_words(values: Mapping[str, int], decimal: str) -> tuple[str, ...]:
    """Return the one or two words that stand among numbers, in at most half of the cells."""
    words = [value for value in values if _numbers({value: 1}, decimal) is None]
    count = sum(values[word] for word in words)
    is_marker = 0 < len(words) <= _MOST_EMPTY_WORDS and len(values) > 2 * len(words)
    return tuple(words) if is_marker and 2 * count <= sum(values.values()) else ()


def are_languages(groups: Sequence[str]) -> bool:
    """Tell if groups look like languages: all could be tags, and half of them are known ones."""
    tags = [parse_tag(group) for group in groups]
    known = [tag for tag in tags if tag is not None and language_name(tag) != tag]
    return None not in tags and 2 * len(known) >= len(tags) > 0


def uses_decimal_commas(tables: Sequence[RawTable], *, may_be_thousands: bool = False) -> bool:
    """Tell if a column has numbers with a comma and none with a point.

    Args:
        tables: Tables with the same columns.
        may_be_thousands: Whether 1,234 may be a whole number.
    """
    fraction = re.compile(r",\d*$" if not may_be_thousands else r",(\d{1,2}|\d{4,})$")
    return any(
        column.numbers is not None and any(fraction.search(value) for value in column.values)
        for column in look_at(tables, ",").values()
    )


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
