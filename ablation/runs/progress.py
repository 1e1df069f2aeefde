"""Show runs as they go on: a live table on a terminal, plain lines anywhere else."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ablation.core.counting import counted
from ablation.core.identity import RunKey

EndState = Literal["finished", "reused", "failed"]
State = Literal["waiting", "elsewhere", "running"] | EndState

_COLOURS: Final[dict[State, str]] = {
    "waiting": "dim",
    "elsewhere": "dim",
    "reused": "cyan",
    "running": "bold yellow",
    "finished": "green",
    "failed": "bold red",
}


class RunEvents(Protocol):
    """Receive what happens to runs: `Progress` shows it, a worker sends it to its driver."""

    def say(self, text: str) -> None:
        """Take a line that is of no run in particular."""
        ...

    def started(self, key: RunKey) -> None:
        """Take the start of a run."""
        ...

    def waits(self, key: RunKey) -> None:
        """Take that another process is training the run."""
        ...

    def resumed(self, key: RunKey, epoch: int) -> None:
        """Take that the run continues after `epoch`."""
        ...

    def step(self, key: RunKey, done: int, total: int) -> None:
        """Take the number of steps done."""
        ...

    def epoch(self, key: RunKey, epoch: int, scores: Mapping[str, float]) -> None:
        """Take the end of an epoch, with its development scores."""
        ...

    def ended(
        self,
        key: RunKey,
        state: EndState,
        dev: float | None = None,
        test: float | None = None,
        *,
        note: str = "",
    ) -> None:
        """Take the end of a run, with its pooled Pearson on development and test rows."""
        ...


@dataclass
class _Row:
    state: State = "waiting"
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    dev: float | None = None
    test: float | None = None
    began: float = 0.0
    seconds: float | None = None
    note: str = ""


@dataclass
class Progress:
    """Receive the events of runs and show them; a context manager.

    The time left is extrapolated from the speed of the runs so far, each weighed by its epochs.
    Test scores stay out of sight unless `unsealed`.
    """

    console: Console
    unsealed: bool = False
    rows: dict[RunKey, _Row] = field(default_factory=dict)
    _live: Live | None = None

    def __enter__(self) -> "Progress":
        if self.console.is_terminal:
            self._live = Live(get_renderable=self.table, console=self.console, refresh_per_second=4)
            self._live.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.__exit__(None, None, None)
            self._live = None

    def plan(self, runs: Sequence[tuple[RunKey, int]]) -> None:
        """Set the runs to come, with their numbers of epochs (0 for an ensemble)."""
        self.rows = {key: _Row(epochs=epochs) for key, epochs in runs}

    def say(self, text: str) -> None:
        """Print a line above the table."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def started(self, key: RunKey) -> None:
        row = self.rows[key]
        row.state, row.began = "running", time.monotonic()
        self._line(key, "started")

    def waits(self, key: RunKey) -> None:
        """Show that another process is training the run, once."""
        if self.rows[key].state != "elsewhere":
            self.rows[key].state = "elsewhere"
            self._line(key, "another process is training it")

    def resumed(self, key: RunKey, epoch: int) -> None:
        """Show that the run continues after `epoch`, the last that a killed process completed."""
        row = self.rows[key]
        row.epoch = epoch
        self._line(key, f"resumed after epoch {epoch}/{row.epochs}")

    def lost(self, key: RunKey, reason: str) -> None:
        """Show that the run's process or machine is gone, and that the run waits again."""
        row = self.rows[key]
        row.state, row.epoch, row.step, row.began = "waiting", 0, 0, 0.0
        self.say(f"{key}: lost: {reason}")

    def step(self, key: RunKey, done: int, total: int) -> None:
        row = self.rows[key]
        row.step, row.steps = done, total

    def epoch(self, key: RunKey, epoch: int, scores: Mapping[str, float]) -> None:
        row = self.rows[key]
        row.epoch, row.dev = epoch, scores.get("pearson")
        dev = "no Pearson (constant predictions)"
        if row.dev is not None:
            dev = f"dev Pearson {row.dev:.4f}"
        elif not scores:
            dev = "no development rows"  # a refit
        self._line(
            key, f"epoch {epoch}/{row.epochs}, {dev}, {_duration(self.seconds_left())} left in all"
        )

    def ended(
        self,
        key: RunKey,
        state: EndState,
        dev: float | None = None,
        test: float | None = None,
        *,
        note: str = "",
    ) -> None:
        """Show the end of a run, with its pooled Pearson on development and test rows."""
        row = self.rows[key]
        test = test if self.unsealed else None
        row.state, row.dev, row.test, row.note = state, dev, test, note
        if row.began:
            row.seconds = time.monotonic() - row.began
        figures = [
            f"{name} {value:.4f}"
            for name, value in (("dev", dev), ("test", test))
            if value is not None
        ]
        self._line(key, ", ".join([state, *figures, *([note] if note else [])]))

    def seconds_left(self) -> float | None:
        """Estimate the seconds until all runs have ended; None before anything was measured.

        As many as run now are taken to run at a time until the end.
        """
        done = spent = left = 0.0
        at_once = 0
        for row in self.rows.values():
            if row.state == "running":
                at_once += 1
                share = row.step / row.steps if row.steps else 0.0
                done += share * row.epochs
                spent += time.monotonic() - row.began if share else 0.0
                left += (1 - share) * row.epochs
            elif row.state in ("waiting", "elsewhere"):
                left += row.epochs
            elif row.state == "finished" and row.seconds is not None:
                done += row.epochs
                spent += row.seconds
        return spent / done * left / max(1, at_once) if done else None

    def table(self) -> Table:
        ended = sum(row.state in ("finished", "reused", "failed") for row in self.rows.values())
        done = f"{ended} of {counted(len(self.rows), 'run')}"
        table = Table(title=f"{done} · {_duration(self.seconds_left())} left", title_justify="left")
        test = ["test r"] if self.unsealed else []
        for heading in ("variant", "split", "seed", "state", "epoch", "dev r", *test, "time"):
            table.add_column(
                heading,
                justify="left" if heading in ("variant", "split", "state") else "right",
                no_wrap=True,
            )
        for key, row in self._visible():
            running = row.state == "running"
            table.add_row(
                Text(key.variant),
                Text(key.split),
                str(key.seed),
                Text(row.state, _COLOURS.get(row.state, "")),
                f"{row.epoch + (running and row.epoch < row.epochs)}/{row.epochs}"
                if row.epochs
                else "",
                "" if row.dev is None else f"{row.dev:.4f}",
                *["" if row.test is None else f"{row.test:.4f}"] * self.unsealed,
                _duration(time.monotonic() - row.began if running else row.seconds, empty=""),
            )
        return table

    def _visible(self) -> list[tuple[RunKey, _Row]]:
        """Return all rows if they fit the screen, else those around the one that is running."""
        rows = list(self.rows.items())
        room = max(5, self.console.height - 6)
        if len(rows) <= room or self._live is None:
            return rows
        unfinished = (
            i for i, (_, row) in enumerate(rows) if row.state in ("running", "waiting", "elsewhere")
        )
        at = next(unfinished, len(rows))
        first = max(0, min(at - room // 2, len(rows) - room))
        return rows[first : first + room]

    def _line(self, key: RunKey, text: str) -> None:
        if self._live is None:
            self.say(f"{time.strftime('%H:%M:%S')} {key}: {text}")


def _duration(seconds: float | None, empty: str = "unknown time") -> str:
    if seconds is None:
        return empty
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
        if minutes >= 60
        else f"{minutes}:{rest:02d}"
    )
