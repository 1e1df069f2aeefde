"""Turn a name into one that a file or folder can have on every system."""

import re


def slug(name: str, *, longest: int = 60) -> str:
    """Return `name` with each run of other characters than letters, digits, ".", "_" as one hyphen.

    The result is at most `longest` characters long, does not begin or end with a hyphen or dot,
    and is empty if nothing of `name` is usable.
    """
    return re.sub(r"[^\w.]+", "-", name)[:longest].strip("-.")
