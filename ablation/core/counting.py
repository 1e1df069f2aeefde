"""Write numbers: of things as English does ("1 run", "2 runs"), and many as ranges ("0-4, 7")."""

from collections.abc import Iterable


def counted(count: int, noun: str) -> str:
    """Return the number with its noun, which is given in the singular and takes an "s"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def number_ranges(numbers: Iterable[int]) -> str:
    """Return whole numbers in ascending order: "0-4, 7"; two that follow each other: "0-1"."""
    ranges: list[list[int]] = []
    for number in sorted(set(numbers)):
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1][1:] = [number]
        else:
            ranges.append([number])
    return ", ".join("-".join(map(str, ends)) for ends in ranges)
