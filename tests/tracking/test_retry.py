"""Telling outages from refusals, retrying the former, and messages without credentials."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR
from sqlalchemy.exc import OperationalError

from ablation.core.errors import RunError
from ablation.tracking import retry
from ablation.tracking.retry import (
    describe_error,
    is_permanent,
    redacted_line,
    retry_until_available,
)
from ablation.tracking.uris import redact_uri, strip_credentials

SERVER = "https://me:secret@tracking.example.org"


class Clock:
    """A clock that only `sleep` moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(retry, "time", clock)
    return clock


class Request:
    """A request that fails `failures` times and then succeeds."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.calls = 0
        self.failures = failures
        self.error = error

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return "answer"


def http_error(status: int) -> Exception:
    error = Exception(f"status {status}")
    error.response = SimpleNamespace(status_code=status)  # type: ignore[attr-defined]
    return error


def test_an_outage_is_retried_with_pauses_that_double_up_to_the_longest(clock: Clock) -> None:
    request = Request(7, ConnectionError("reset"))
    assert retry_until_available(request, SERVER) == "answer"
    assert request.calls == 8
    assert clock.pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])


def test_a_row_that_another_process_wrote_at_the_same_time_is_written_again() -> None:
    error = http_error(400)
    error.args = (
        "BAD_REQUEST: (sqlite3.IntegrityError) UNIQUE constraint failed: datasets.experiment_id",
    )
    assert not is_permanent(error)


def test_an_outage_ends_in_one_line_after_the_patience(clock: Clock) -> None:
    with pytest.raises(RunError, match="unreachable for 60 s: reset") as error:
        retry_until_available(Request(1000, ConnectionError("reset")), SERVER)
    assert clock.now == pytest.approx(retry.PATIENCE_S, abs=retry.LONGEST_PAUSE_S)
    assert clock.now >= retry.PATIENCE_S
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "uri", ["sqlite:////data/mlflow.db", "/data/mlruns", "file:///data/mlruns"]
)
def test_a_local_store_is_asked_once(uri: str, clock: Clock) -> None:
    request = Request(1, ConnectionError("reset"))
    with pytest.raises(ConnectionError):
        retry_until_available(request, uri)
    assert request.calls == 1
    assert clock.pauses == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 422])
def test_a_refusal_is_permanent_and_not_retried(status: int, clock: Clock) -> None:
    request = Request(1, http_error(status))
    with pytest.raises(Exception, match=str(status)):
        retry_until_available(request, SERVER)
    assert request.calls == 1
    assert is_permanent(http_error(status))


@pytest.mark.parametrize(
    "error",
    [
        *(http_error(status) for status in (408, 425, 429, 500, 502, 503, 504)),
        ConnectionError("reset"),
        TimeoutError("late"),
        MlflowException("API request failed with error code 503 != 200"),
    ],
    ids=str,
)
def test_an_outage_is_not_permanent(error: Exception) -> None:
    assert not is_permanent(error)


@pytest.mark.parametrize(
    "error",
    [
        MlflowException("API request failed with error code 404 != 200"),
        MlflowException("413 Client Error: Request Entity Too Large for url"),
        FileNotFoundError("gone"),
    ],
    ids=str,
)
def test_a_refusal_is_recognised_without_a_status(error: Exception) -> None:
    assert is_permanent(error)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (http_error(401), "refused with 401, check the credentials: status 401"),
        (http_error(403), "refused with 403, check the credentials: status 403"),
        (http_error(404), "refused with 404: status 404"),
        (http_error(503), "status 503"),
        (ValueError("first\nsecond"), "first"),
        (ValueError(), "ValueError"),
        (
            ValueError(
                "Max retries exceeded (Caused by NewConnectionError('x: Failed to connect'))"
            ),
            "no answer: Failed to connect",
        ),
    ],
    ids=str,
)
def test_errors_are_described_in_one_line(error: Exception, line: str) -> None:
    assert describe_error(error) == line


@pytest.mark.parametrize("describe", [describe_error, redacted_line])
@pytest.mark.parametrize("padding", [0, 170, 182, 185, 190, 300])
def test_credentials_stay_out_of_lines_wherever_they_are_cut(
    describe: Callable[[Exception], str], padding: int
) -> None:
    line = describe(ValueError(f"{'x' * padding} {SERVER}/api"))
    assert "me:" not in line
    assert len(line) <= 200


def test_credentials_are_masked_for_people_and_removed_for_machines() -> None:
    assert redact_uri(f"no answer from {SERVER}/api") == (
        "no answer from https://***@tracking.example.org/api"
    )
    assert redact_uri("postgresql://me:secret@host/db") == "postgresql://***@host/db"
    assert redact_uri("sqlite:////data/a@b.db") == "sqlite:////data/a@b.db"
    assert strip_credentials(SERVER) == "https://tracking.example.org"


@pytest.mark.parametrize(
    ("uri", "shown", "stripped"),
    [
        ("http://me:pa/ss@host:5000/x", "http://***@host:5000/x", "http://host:5000/x"),
        ("http://me:s@cr@t@host", "http://***@host", "http://host"),
        ("http://token@host", "http://***@host", "http://host"),
        ("http://host:5000/#/runs/1", "http://host:5000/#/runs/1", "http://host:5000/#/runs/1"),
        (
            "postgresql://host/db?user=me&password=secret",
            "postgresql://host/db?user=me&password=***",
            "postgresql://host/db",
        ),
        (
            "postgresql:///db?password=secret&host=/tmp&sslmode=require",
            "postgresql:///db?password=***&host=/tmp&sslmode=require",
            "postgresql:///db?host=/tmp&sslmode=require",
        ),
        (
            "no connection with host=h user=me password='se cret' dbname=x",
            "no connection with host=h user=me password=*** dbname=x",
            None,
        ),
    ],
)
def test_credentials_of_every_form_are_masked(uri: str, shown: str, stripped: str | None) -> None:
    assert redact_uri(f"at {uri} now") == f"at {shown} now"
    if stripped is not None:
        assert strip_credentials(uri) == stripped


@pytest.mark.parametrize("code", [INTERNAL_ERROR, BAD_REQUEST])
def test_a_database_whose_connection_was_lost_is_waited_for(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_S", 0.0)
    answers = iter([True, True, False])

    def request() -> str:
        if next(answers):
            try:
                raise OperationalError("select 1", {}, Exception("server closed the connection"))
            except OperationalError as error:
                raise MlflowException("invalid", error_code=code) from error
        return "answer"

    assert retry_until_available(request, "postgresql://me:secret@host/db") == "answer"
