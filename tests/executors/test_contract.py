"""Every executor gives results, news in order, truth on what was lost, and an end."""

import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ablation.executors.local import LocalExecutor
from ablation.executors.protocol import Event, Executor, Resources, Work

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 240
ENDS = ("ended", "failed", "lost")


def local(folder: Path) -> Executor:
    return LocalExecutor(2, preload="ablation.executors.worker")


def ray(folder: Path) -> Executor:
    pytest.importorskip("ray")
    from ablation.executors.ray import RayExecutor

    return RayExecutor("local")


def slurm(folder: Path) -> Executor:
    pytest.importorskip("submitit")
    from ablation.executors.slurm import SlurmExecutor

    return SlurmExecutor(folder, {"cluster": "local", "time": "20"})


@pytest.fixture(scope="module", params=[local, slurm, pytest.param(ray, marks=pytest.mark.soak)])
def executor(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Executor]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        made: Callable[[Path], Executor] = request.param
        executor = made(tmp_path_factory.mktemp("executor"))
        yield executor
        executor.close()


@pytest.fixture
def names(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Names that no other work of the executor has."""
    count = iter(range(100))
    return lambda: f"{request.node.name}-{next(count)}"


def work(name: str, function: str, payload: object = None, **more: Any) -> Work:
    path = f"tests.executors.pieces:{function}"
    return Work(name, path, pickle.dumps(40), pickle.dumps(payload), **more)


def ends_of(executor: Executor, *works: str) -> dict[str, list[Event]]:
    """All events of these works, once each of them has ended."""
    news: dict[str, list[Event]] = {work: [] for work in works}
    deadline = time.monotonic() + PATIENCE_S
    while not all(events and events[-1].kind in ENDS for events in news.values()):
        assert time.monotonic() < deadline, news
        for event in executor.events():
            news[event.work].append(event)
    return news


def until_message(executor: Executor, name: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not any(event.work == name and event.kind == "message" for event in executor.events()):
        assert time.monotonic() < deadline


def test_a_result_comes_after_the_start_and_all_messages(
    executor: Executor, names: Callable[[], str]
) -> None:
    name = executor.submit(work(names(), "add", 2))
    events = ends_of(executor, name)[name]
    assert [event.kind for event in events] == ["started", "message", "message", "ended"]
    assert [event.value for event in events[1:]] == ["began", "adds", 42]


def test_more_works_than_fit_all_end(executor: Executor, names: Callable[[], str]) -> None:
    works = [executor.submit(work(names(), "add", number)) for number in range(5)]
    news = ends_of(executor, *works)
    assert [news[name][-1].value for name in works] == [40, 41, 42, 43, 44]


def test_an_error_is_one_line_and_no_loss(executor: Executor, names: Callable[[], str]) -> None:
    name = executor.submit(work(names(), "fail", "first line\nsecond"))
    last = ends_of(executor, name)[name][-1]
    assert (last.kind, last.value) == ("failed", "ValueError: first line")


def test_a_killed_process_is_lost_and_the_next_work_is_done(
    executor: Executor, names: Callable[[], str]
) -> None:
    killed = executor.submit(work(names(), "kill_itself"))
    after = executor.submit(work(names(), "add", 2))
    news = ends_of(executor, killed, after)
    assert news[killed][-1].kind == "lost"
    assert isinstance(news[killed][-1].value, str)
    assert news[after][-1].value == 42


def test_threads_and_variables_are_those_that_were_sent(
    executor: Executor, names: Callable[[], str]
) -> None:
    works = [
        executor.submit(
            work(
                names(),
                "describe",
                "SENT",
                resources=Resources(threads=threads),
                environment={"SENT": str(threads)},
            )
        )
        for threads in (2, 1)
    ]
    news = ends_of(executor, *works)
    assert [tuple(news[name][-1].value) for name in works] == [(2, "2"), (1, "1")]


def test_a_message_that_can_not_be_sent_fails_no_work(
    executor: Executor, names: Callable[[], str]
) -> None:
    name = executor.submit(work(names(), "send_what_has_no_form"))
    assert ends_of(executor, name)[name][-1] == Event(name, "ended", "done")


def test_what_is_cancelled_is_lost(
    executor: Executor, names: Callable[[], str], tmp_path: Path
) -> None:
    name = executor.submit(work(names(), "count", str(tmp_path / "count")))
    until_message(executor, name)
    executor.cancel(name)
    assert ends_of(executor, name)[name][-1].kind == "lost"
    executor.cancel(name)  # it has ended: nothing happens


@pytest.mark.parametrize("made", [local, slurm, pytest.param(ray, marks=pytest.mark.soak)])
def test_closing_ends_what_is_left(
    made: Callable[[Path], Executor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    executor, file = made(tmp_path / "executor"), tmp_path / "count"
    name = executor.submit(work("only", "count", str(file)))
    until_message(executor, name)
    executor.close()
    counted = file.read_text()
    time.sleep(0.5)
    assert file.read_text() == counted
