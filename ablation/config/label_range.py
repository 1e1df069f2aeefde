"""Read a range of labels from text such as "1..5"."""

import math
from typing import Final

#: Stands for the corpus's own range.
OWN: Final = "own"


def parse_range(text: str) -> tuple[float, float]:
    """Return the ends of a range. Raises ValueError with a hint for anything else."""
    lowest, dots, highest = text.partition("..")
    hint = "give the lowest and the highest label, such as 0..3"
    try:
        ends = float(lowest), float(highest)
    except ValueError as error:
        raise ValueError(hint) from error
    if not dots or not all(map(math.isfinite, ends)) or not ends[0] < ends[1]:
        raise ValueError(hint)
    return ends


def check_train_on(text: str) -> str:
    """Return `text` if it is `OWN` or a range. Raises ValueError."""
    if text != OWN:
        parse_range(text)
    return text
