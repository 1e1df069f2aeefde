"""Turn names into valid file and folder names for every operating system."""

import re


def slug(name: str, *, longest: int = 60) -> str:
    """Return `name` with every other character than letters, digits, "." and "_" as a hyphen.

    Neighbouring hyphens are merged. The result has at most `longest` characters, does not begin or
    end with a hyphen or dot, and is empty if `name` has no usable character.
    """
    return re.sub(r"[^\w.]+", "-", name)[:longest].strip("-.")
