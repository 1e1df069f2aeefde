"""Progress without a terminal: lines, figures, and the time that is left."""

import io

import pytest
from rich.console import Console

from ablation.core.identity import RunKey
from ablation.runs.progress import Progress

FIRST, SECOND = RunKey("mse", "dev1", 0), RunKey("epm", "dev1", 0)


@pytest.fixture
def progress(monkeypatch: pytest.MonkeyPatch) -> Progress:
    clock = {"now": 100.0}
    monkeypatch.setattr("ablation.runs.progress.time.monotonic", lambda: clock["now"])
    shown = Progress(Console(file=io.StringIO(), width=160))
    shown.plan([(FIRST, 4), (SECOND, 4)])
    shown.clock = clock  # type: ignore[attr-defined]
    return shown


def text_of(progress: Progress) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(progress.table())
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_nothing_is_said_of_the_time_left_before_anything_was_measured(progress: Progress) -> None:
    assert progress.seconds_left() is None
    assert "unknown time left" in text_of(progress)


def test_the_time_left_follows_from_what_was_done(progress: Progress) -> None:
    progress.started(FIRST)
    progress.clock["now"] += 10  # type: ignore[attr-defined]
    progress.step(FIRST, 5, 10)
    assert progress.seconds_left() == pytest.approx(10 + 20)
    progress.clock["now"] += 10  # type: ignore[attr-defined]
    progress.ended(FIRST, "finished", 0.5, None)
    assert progress.seconds_left() == pytest.approx(20)


def test_runs_side_by_side_share_the_time_left(progress: Progress) -> None:
    progress.started(FIRST)
    progress.started(SECOND)
    progress.clock["now"] += 10  # type: ignore[attr-defined]
    progress.step(FIRST, 5, 10)
    progress.step(SECOND, 5, 10)
    assert progress.seconds_left() == pytest.approx(10)


def test_reused_runs_take_no_time(progress: Progress) -> None:
    progress.ended(FIRST, "reused", 0.5, 0.4)
    assert progress.seconds_left() is None
    assert "1 of 2 runs" in text_of(progress)


def test_the_table_has_a_row_for_each_run_with_its_figures(progress: Progress) -> None:
    progress.started(FIRST)
    progress.epoch(FIRST, 2, {"pearson": 0.61234})
    progress.ended(SECOND, "failed", None, None, note="MemoryError")
    text = text_of(progress)
    assert "0.6123" in text
    assert "3/4" in text
    assert "failed" in text


def test_away_from_a_terminal_every_event_is_a_line(progress: Progress) -> None:
    with progress:
        progress.started(FIRST)
        progress.epoch(FIRST, 1, {"rmse": 1.0})
        progress.ended(FIRST, "finished", None, 0.25, note="collapsed")
    lines = progress.console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == 3
    assert lines[0].endswith("mse dev1 seed 0: started")
    assert "no Pearson (constant predictions)" in lines[1]
    assert lines[2].endswith("finished, collapsed")


@pytest.mark.parametrize("unsealed", [False, True])
def test_test_scores_are_shown_only_if_unsealed(progress: Progress, unsealed: bool) -> None:
    progress.unsealed = unsealed
    with progress:
        progress.started(FIRST)
        progress.ended(FIRST, "finished", 0.5, 0.25)
    said = progress.console.file.getvalue() + text_of(progress)  # type: ignore[attr-defined]
    assert ("0.2500" in said) is unsealed
    assert ("test" in said) is unsealed
    assert "0.5000" in said


def test_a_table_longer_than_the_screen_shows_the_part_that_runs() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120, height=16)
    progress = Progress(console)
    keys = [RunKey("mse", "dev1", seed) for seed in range(40)]
    progress.plan([(key, 1) for key in keys])
    for key in keys[:20]:
        progress.ended(key, "finished", 0.5, None)
    with progress:
        shown = [key.seed for key, _ in progress._visible()]
    assert len(shown) == 10
    assert 20 in shown
