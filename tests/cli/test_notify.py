"""One line when a long command ends or fails; the address is a secret."""

import json
import logging
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import typer

from ablation.cli.notify import VARIABLE, notifying
from ablation.core.errors import RunError, UsageError
from tests.cli.test_model_commands import SMOKE, Typed, ablation, folder  # noqa: F401

SECRET = "s3cr3tk3y"


class Receiver:
    """A local receiver of apprise's JSON notifications."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.status = 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.append(json.loads(content))
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        port = self._server.server_address[1]
        self.address = f"json://ann:{SECRET}@127.0.0.1:{port}/hook"
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()

    @property
    def lines(self) -> list[str]:
        return [str(body["message"]) for body in self.received]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    pytest.importorskip("apprise", reason="pip install -e '.[test]'")
    receiver = Receiver()
    yield receiver
    receiver.close()


def test_the_end_of_a_command_is_one_line(receiver: Receiver) -> None:
    with notifying(receiver.address, "ablation run"):
        assert receiver.lines == []
    (line,) = receiver.lines
    assert "ablation run finished" in line
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RunError("2 of 3 runs failed; postgresql://u:pw123@db/x\nmore"), "2 of 3 runs failed"),
        (KeyboardInterrupt(), "interrupted"),
        (typer.Exit(130), "interrupted"),
    ],
)
def test_a_failure_is_one_line_and_is_raised_on(
    receiver: Receiver, error: BaseException, said: str
) -> None:
    with pytest.raises(type(error)), notifying(receiver.address, "ablation run"):
        raise error
    (line,) = receiver.lines
    assert said in line
    assert "pw123" not in line
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize("address", [f"nothing://{SECRET}", SECRET, f"json://{SECRET}:x@@:z/"])
def test_an_address_that_is_not_known_is_refused_and_not_repeated(
    address: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("apprise", reason="pip install -e '.[test]'")
    with (
        caplog.at_level(logging.DEBUG, "ablation"),
        pytest.raises(UsageError, match="--notify") as refused,
        notifying(address, "ablation run"),
    ):
        pytest.fail("the command began")
    printed = capfd.readouterr()
    assert SECRET not in str(refused.value) + printed.out + printed.err


def test_a_service_that_refuses_ends_nothing_and_shows_no_secret(
    receiver: Receiver, capfd: pytest.CaptureFixture[str]
) -> None:
    receiver.status = 500
    with notifying(receiver.address, "ablation run"):
        pass
    printed = capfd.readouterr()
    assert "could not be sent" in printed.err
    assert SECRET not in printed.out + printed.err


def test_without_apprise_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(UsageError, match=r"ablation-suite\[notify\]"), notifying("json://x", "run"):
        pass


def test_a_run_reads_the_address_from_its_variable_and_keeps_it_nowhere(
    ablation: Typed,  # noqa: F811
    folder: Any,  # noqa: F811
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, receiver.address)
    code, out, err = ablation(
        *("run", "--data", "corpus", *SMOKE, "--variants", "mse", "--splits", "dev1"),
        "--no-report",
    )
    assert code == 0, err
    assert "ablation run finished" in receiver.lines[0]
    assert SECRET not in out + err
    for file in folder.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes(), file
