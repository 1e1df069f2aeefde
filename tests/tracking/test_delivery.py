"""Sending from a spool, with a client that fails and waits when the test says so."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.entities import RunTag

from ablation.tracking import delivery, retry
from ablation.tracking.delivery import Delivery
from ablation.tracking.spool import Spool

PATIENCE_S = 60


class Client:
    """A client that records writes; each waits for `gate`, then fails while `failures` remain."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.failures = 0
        self.written: list[str] = []
        self.requests = 0
        self.under_way = threading.Semaphore(0)

    def log_batch(self, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("reset")
        self.requests += 1
        self.under_way.release()
        assert self.gate.wait(PATIENCE_S)
        self.written += [tag.value for tag in tags]

    def set_terminated(self, run_id: str, status: str, end_time: int) -> None:
        self.written.append(status)

    def log_artifact(self, run_id: str, local_path: str, artifact_path: str | None) -> None:
        self.under_way.release()
        assert self.gate.wait(PATIENCE_S)
        self.written.append(Path(local_path).read_text())


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def sender(client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Delivery]:
    monkeypatch.setenv("ABLATION_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(retry, "FIRST_PAUSE_S", 0.01)
    sender = Delivery(client, Spool("http://tracking.example.org"), PATIENCE_S)  # type: ignore[arg-type]
    yield sender
    client.gate.set()
    sender.close()


def test_patience_starts_anew_with_each_outage(
    sender: Delivery, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    waiting = threading.get_ident()

    def monotonic() -> float:
        if threading.get_ident() == waiting:  # `drain` looks how long the server has been away
            client.gate.set()
        return now

    clock: Any = SimpleNamespace(monotonic=monotonic, time_ns=time.time_ns)
    monkeypatch.setattr(delivery, "time", clock)
    client.failures = 1
    sender.log_batch("run", tags=[RunTag("n", "first")])
    assert sender.drain()
    now = 10.0 * PATIENCE_S
    client.gate.clear()
    client.failures = 1
    sender.log_batch("run", tags=[RunTag("n", "second")])
    assert sender.drain(), "an earlier outage used up the patience"
    assert client.written == ["first", "second"]


def test_the_last_version_of_an_unsent_artifact_is_read(
    sender: Delivery, client: Client, tmp_path: Path
) -> None:
    client.gate.clear()
    for text in ("old", "new"):
        (tmp_path / "a.txt").write_text(text)
        sender.log_artifact("run", str(tmp_path / "a.txt"), "deep")
    assert sender.artifact("run", "deep/a.txt") == b"new"
    assert sender.artifact("run", "a.txt") is None
    assert sender.artifact("other", "deep/a.txt") is None
    client.gate.set()
    assert sender.drain()
    assert client.written == ["old", "new"]
    assert sender.artifact("run", "deep/a.txt") is None


def test_what_waits_for_a_slow_server_goes_together_and_the_end_last(
    sender: Delivery, client: Client, tmp_path: Path
) -> None:
    client.gate.clear()
    sender.log_batch("run", tags=[RunTag("n0", "0")])
    assert client.under_way.acquire(timeout=PATIENCE_S)
    for number in range(1, 40):
        sender.log_batch("run", tags=[RunTag(f"n{number}", str(number))])
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
        sender.log_artifact("run", str(tmp_path / name))
    sender.set_terminated("run", "FINISHED")
    for _ in range(2):  # both artifacts are under way beside the first batch
        assert client.under_way.acquire(timeout=PATIENCE_S)
    client.gate.set()
    assert sender.drain()
    assert client.requests == 2
    assert [n for n in client.written if n.isdigit()] == [str(n) for n in range(40)]
    assert client.written[-1] == "FINISHED"


def test_a_value_that_is_refused_takes_none_of_the_batches_before_it_along(
    sender: Delivery, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(run_id: str, metrics: Any, params: Any, tags: Any) -> None:
        assert client.gate.wait(PATIENCE_S)
        if any(tag.value == "bad" for tag in tags):
            raise FileNotFoundError("refused")
        client.written += [tag.value for tag in tags]

    monkeypatch.setattr(client, "log_batch", refusing)
    client.gate.clear()
    for value in ("first", "second", "bad", "after"):
        sender.log_batch("run", tags=[RunTag(value, value)])
    client.gate.set()
    assert not sender.drain()
    assert client.written == ["first", "second"]


def test_a_nested_run_does_not_wait_to_be_created(
    sender: Delivery, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "CREATION_S", 0.0)
    monkeypatch.setattr(delivery, "LAG_S", 0.0)
    client.gate.clear()
    sender.log_batch("suite", tags=[RunTag("n", "suite")])
    run = sender.create_run("1", "child", {}, 0, required=False)
    assert sender.run_id(run) == run
    assert "2 writes of 2 runs behind" in sender.lag()
    assert not sender.drain(limit=0.0)
