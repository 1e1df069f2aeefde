"""Measure the seconds until a command has ended, each time in a fresh process."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ablation.bench.subprocesses import run_command
from ablation.bench.table import Row

HELP_TARGET_S: Final = 0.7
PLAN_TARGET_S: Final = 5.0


@dataclass(frozen=True)
class StartUp:
    """A command, and its seconds by the clock in each call."""

    command: str
    seconds: tuple[float, ...]


def start_up(folder: Path, times: int = 5, plan: Sequence[str] = ()) -> list[StartUp]:
    """Time `--help`, a first `plan`, and the same plan again.

    The encoder's cache is the user's, and is filled before anything is measured.

    Args:
        folder: Where state and tracking stores are written; each first plan has its own.
        times: The number of calls of each command.
        plan: Arguments of `plan`; the demo by default.
    """
    run_command(["plan", *plan], folder / "warm")
    helps = [run_command(["--help"], folder / "warm") for _ in range(times)]
    first = [run_command(["plan", *plan], folder / f"first-{i}") for i in range(times)]
    again = [run_command(["plan", *plan], folder / "warm") for _ in range(times)]
    command = " ".join(["plan", *plan])
    return [
        StartUp("--help", tuple(helps)),
        StartUp(f"{command}, nothing measured before", tuple(first)),
        StartUp(f"{command}, again", tuple(again)),
    ]


def measure_start_up(times: int, plan: Sequence[str] = ()) -> list[Row]:
    """Return the table's rows: `--help`, a first plan of the demo, and the same plan again."""
    with tempfile.TemporaryDirectory() as folder:
        helps, first, again = start_up(Path(folder), times, plan)
    return [
        Row("startup", "`ablation --help`", helps.seconds, "s", "at most", HELP_TARGET_S),
        Row(
            "startup",
            "`ablation plan` on the demo, nothing measured before",
            first.seconds,
            "s",
            "at most",
            PLAN_TARGET_S,
        ),
        Row(
            "startup",
            "`ablation plan` on the demo, again",
            again.seconds,
            "s",
            "at most",
            PLAN_TARGET_S,
        ),
    ]
