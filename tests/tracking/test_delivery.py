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

    def log_batch(self, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("reset")
        assert self.gate.wait(PATIENCE_S)
        self.written += [tag.value for tag in tags]

    def log_artifact(self, run_id: str, local_path: str, artifact_path: str | None) -> None:
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

    clock = SimpleNamespace(monotonic=monotonic, time_ns=time.time_ns)
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
