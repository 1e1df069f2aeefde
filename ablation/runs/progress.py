"""What a person sees while runs go on: a live table on a terminal, plain lines anywhere else."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ablation.core.identity import RunKey

_COLOURS = {
    "waiting": "dim",
    "elsewhere": "dim",
    "reused": "cyan",
    "running": "bold yellow",
    "finished": "green",
    "failed": "bold red",
}


@dataclass
class _Row:
    state: str = "waiting"
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
    """Takes events from the runner and shows them. Use it as a context manager.

    Time left is extrapolated from the runs' own speed, weighing each run by its epochs.
    """

    console: Console
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
        """The runs to come, with their numbers of epochs (0 for an ensemble)."""
        self.rows = {key: _Row(epochs=epochs) for key, epochs in runs}

    def say(self, text: str) -> None:
        """A line of its own, above the table."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def started(self, key: RunKey) -> None:
        row = self.rows[key]
        row.state, row.began = "running", time.monotonic()
        self._line(key, "started")

    def waits(self, key: RunKey) -> None:
        """Another process has the run: said once."""
        if self.rows[key].state != "elsewhere":
            self.rows[key].state = "elsewhere"
            self._line(key, "another process trains it")

    def resumed(self, key: RunKey, epoch: int) -> None:
        """It goes on after `epoch`, which a process that was killed had completed."""
        row = self.rows[key]
        row.epoch = epoch
        self._line(key, f"goes on after epoch {epoch}/{row.epochs}")

    def step(self, key: RunKey, done: int, total: int) -> None:
        row = self.rows[key]
        row.step, row.steps = done, total

    def epoch(self, key: RunKey, epoch: int, scores: Mapping[str, float]) -> None:
        row = self.rows[key]
        row.epoch, row.dev = epoch, scores.get("pearson")
        dev = (
            "no Pearson (constant predictions)" if row.dev is None else f"dev Pearson {row.dev:.4f}"
        )
        self._line(
            key, f"epoch {epoch}/{row.epochs}, {dev}, {_duration(self.seconds_left())} left in all"
        )

    def ended(
        self, key: RunKey, state: str, dev: float | None, test: float | None, note: str = ""
    ) -> None:
        """`state` is finished, reused or failed."""
        row = self.rows[key]
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
        """Until everything is done; None before anything can be told."""
        done = spent = left = 0.0
        for row in self.rows.values():
            if row.state == "running":
                share = row.step / row.steps if row.steps else 0.0
                done += share * row.epochs
                spent += time.monotonic() - row.began if share else 0.0
                left += (1 - share) * row.epochs
            elif row.state in ("waiting", "elsewhere"):
                left += row.epochs
            elif row.state == "finished" and row.seconds is not None:
                done += row.epochs
                spent += row.seconds
        return spent / done * left if done else None

    def table(self) -> Table:
        ended = sum(row.state in ("finished", "reused", "failed") for row in self.rows.values())
        table = Table(
            title=f"{ended} of {len(self.rows)} runs · {_duration(self.seconds_left())} left",
            title_justify="left",
        )
        for heading in ("variant", "split", "seed", "state", "epoch", "dev r", "test r", "time"):
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
                "" if row.test is None else f"{row.test:.4f}",
                _duration(time.monotonic() - row.began if running else row.seconds, empty=""),
            )
        return table

    def _visible(self) -> list[tuple[RunKey, _Row]]:
        """All rows where they fit the screen, else those around the one that runs."""
        rows = list(self.rows.items())
        room = max(5, self.console.height - 6)
        if len(rows) <= room or self._live is None:
            return rows
        at = next(
            (
                i
                for i, (_, row) in enumerate(rows)
                if row.state in ("running", "waiting", "elsewhere")
            ),
            len(rows),
        )
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
