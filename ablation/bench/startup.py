"""Seconds until a command has answered, each time in a fresh process."""

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
    """A command and what it took, by the clock, each time that it was called."""

    command: str
    seconds: tuple[float, ...]


def start_up(folder: Path, times: int = 5, plan: Sequence[str] = ()) -> list[StartUp]:
    """`--help`, a first `plan`, and the same plan again; `plan` are arguments for the latter two, the demo by default.

    State and tracking store are kept below `folder`; of the first plans each has its own. The encoder's cache is the
    user's: a machine that never had the bundled encoder builds it before anything is measured.
    """
    run_command(["plan", *plan], folder / "warm")
    helps = [run_command(["--help"], folder / "warm") for _ in range(times)]
    first = [run_command(["plan", *plan], folder / f"first-{i}") for i in range(times)]
    again = [run_command(["plan", *plan], folder / "warm") for _ in range(times)]
    told = " ".join(["plan", *plan])
    return [
        StartUp("--help", tuple(helps)),
        StartUp(f"{told}, nothing measured before", tuple(first)),
        StartUp(f"{told}, again", tuple(again)),
    ]


def measure_start_up(times: int, plan: Sequence[str] = ()) -> list[Row]:
    """The rows of the table: `--help`, a first plan of the demo, and the same again."""
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
