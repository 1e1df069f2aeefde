"""Complete names on the command line. Nothing is imported before a shell asks for a completion."""

from collections.abc import Callable, Iterable
from importlib.resources import files
from typing import Final

Complete = Callable[[str], list[str]]


def variant_names() -> list[str]:
    from ablation.config.variants import GROUPS, READING_ROWS, VARIANTS

    # Readings of the paper are dozens, and have groups of their own.
    rows = [name for name in VARIANTS if name not in READING_ROWS or name in GROUPS["all"]]
    return [*GROUPS, *rows]


def profile_names() -> list[str]:
    from ablation.config.overrides import PROFILES

    return list(PROFILES)


def split_names() -> list[str]:
    return ["auto", "dev1", "dev2", "dev2:all", "hold:3", "leave-one-out", "kfold:5", "given"]


def space_names() -> list[str]:
    names = (entry.name for entry in (files("studies") / "spaces").iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def claim_names() -> list[str]:
    from reports.planner import claim_ids

    return claim_ids()


def one_of(names: Callable[[], Iterable[str]]) -> Complete:
    """Complete a single name."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return complete


def some_of(names: Callable[[], Iterable[str]]) -> Complete:
    """Complete the last name of a comma-separated list."""

    def complete(incomplete: str) -> list[str]:
        head, comma, last = incomplete.rpartition(",")
        return [f"{head}{comma}{name}" for name in names() if name.startswith(last)]

    return complete


VARIANTS: Final = some_of(variant_names)
PROFILE: Final = one_of(profile_names)
SPLITS: Final = some_of(split_names)
SPACE: Final = one_of(space_names)
CLAIMS: Final = some_of(claim_names)
