"""Retry requests while a tracking server is unreachable, but not what it refuses."""

import re
import sys
import time
import traceback
from collections.abc import Callable
from typing import Final, TypeVar

from ablation.core.errors import RunError, first_line
from ablation.tracking.uris import is_remote, redact_uri

#: Seconds without an answer after which waiting for a server ends.
PATIENCE_S = 60.0
#: Seconds before the first retry; each pause is twice the one before, up to `LONGEST_PAUSE_S`.
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
#: HTTP statuses below 500 that ask for a retry: timeout, too early, too many requests.
_RETRYABLE: Final = (408, 425, 429)
_LONGEST_LINE: Final = 200
#: Packages of database drivers, where they have another name than the module.
_DRIVERS: Final = {
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
}
#: What to do about errors of databases.
_ADVICE: Final = {
    "disk is full": "free space there",
    "disk I/O error": "see if the disk is full, and what `ulimit -f` allows",
    "readonly database": "open the file and its folder for writing",
    "database is locked": "end what else holds it",
    "disk image is malformed": "put a copy of the file in its place",
}
#: Two processes wrote the same new row at once, such as a dataset: the next attempt finds it.
_CROSSED: Final = re.compile(r"IntegrityError|UniqueViolation|Duplicate entry")
#: SQLAlchemy's errors of a connection, by name: importing it takes a while.
_LOST_CONNECTION: Final = {"OperationalError", "InterfaceError", "PendingRollbackError"}
T = TypeVar("T")


def retry_until_available(request: Callable[[], T], uri: str) -> T:
    """Return what `request` returns, retrying while the server at `uri` is unreachable.

    Requests to local stores are made once.

    Raises:
        RunError: The server did not answer for `PATIENCE_S` seconds.
        Exception: Whatever `request` raises, if the server refused or the store is local.
    """
    began, pause = time.monotonic(), FIRST_PAUSE_S
    while True:
        try:
            return request()
        except Exception as error:
            if not is_remote(uri) or is_permanent(error):
                raise
            if time.monotonic() - began >= PATIENCE_S:
                raise RunError(
                    f"tracking server {redact_uri(uri)}: unreachable for {PATIENCE_S:.0f} s: "
                    f"{describe_error(error)}"
                ) from error
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)


def is_permanent(error: BaseException) -> bool:
    """Return whether a retry is useless: refused credentials, invalid request, missing file."""
    if is_lost_connection(error) or _CROSSED.search(str(error)):
        return False
    status = http_status(error)
    return isinstance(error, FileNotFoundError) or (
        status is not None and 400 <= status < 500 and status not in _RETRYABLE
    )


def is_lost_connection(error: BaseException) -> bool:
    """Return whether a database's connection was lost; MLflow calls some such errors invalid."""
    cause: BaseException | None = error
    while cause is not None:
        names = {kind.__name__ for kind in type(cause).__mro__ if "sqlalchemy" in kind.__module__}
        if names & _LOST_CONNECTION or getattr(cause, "connection_invalidated", False):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def http_status(error: BaseException) -> int | None:
    """Return the HTTP status behind an error; None if no server answered."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(status, int):
        return status
    # Importing mlflow takes a second; this is only reached after something failed.
    from mlflow.exceptions import MlflowException

    if not isinstance(error, MlflowException):
        return None
    # MLflow maps statuses that it has no name for, and failed connections, to 500.
    named = re.search(r"failed with error code (\d{3})|\b(4\d\d) Client Error", str(error))
    return int(named[1] or named[2]) if named else int(error.get_http_status_code())


def describe_error(error: BaseException) -> str:
    """Return one line of at most 200 characters without credentials.

    The line of a refusal begins with its status.
    """
    line = _redacted_first_line(error)
    if "Caused by " in line:  # three libraries wrap the cause in their own messages
        cause = line.rpartition("Caused by ")[2].rpartition(": ")[2].rstrip("""'")""")
        reason = re.split(r"""[(]['"]""", cause)[-1]
        line = f"no answer: {reason}"
    status = http_status(error)
    if status in (401, 403):
        line = f"refused with {status}, check the credentials: {line}"
    elif status and is_permanent(error):
        line = f"refused with {status}: {line}"
    advice = next((f"; {what}" for words, what in _ADVICE.items() if words in line), "")
    return line[: _LONGEST_LINE - len(advice)] + advice


def failed_store(error: BaseException) -> str:
    """Return the address of the store that an error of MLflow is about, "" if none is known."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        address = getattr(frame.f_locals.get("self"), "tracking_uri", None)
        if isinstance(address, str):
            return redact_uri(address)
    return ""


def describe_unusable(error: BaseException) -> str:
    """Return one line on why a store can't be opened; a missing driver is named with its package.

    Credentials are left out.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ModuleNotFoundError) and cause.name:
            package = _DRIVERS.get(cause.name, cause.name)
            return f"its driver {cause.name} is not installed: pip install '{package}'"
        cause = cause.__cause__ or cause.__context__
    return describe_error(error)


def redacted_line(error: BaseException) -> str:
    """Return the first line of an error's message without credentials, at most 200 characters."""
    return _redacted_first_line(error)[:_LONGEST_LINE]


def _redacted_first_line(error: BaseException) -> str:
    # Cut only after redacting: an address that is cut before its "@" would not be recognised.
    return redact_uri(first_line(error, longest=sys.maxsize))
