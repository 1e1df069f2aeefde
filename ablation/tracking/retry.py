"""Is a tracking server away, or does it refuse? What is away is asked again; what refuses is not."""

import re
import time
from collections.abc import Callable
from typing import Final, TypeVar

from ablation.core.errors import RunError

#: Seconds without an answer after which nothing waits for a server any longer.
PATIENCE_S = 60.0
#: Seconds before an attempt is made again; each pause is twice the one before, up to the longest.
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
#: Statuses below 500 that say "later", not "no".
_LATER: Final = (408, 425, 429)
T = TypeVar("T")


def without_password(text: str) -> str:
    """`text` fit to be printed: user:password@ is left out of the addresses in it."""
    return re.sub(r"//[^/\s]*@", "//***@", text)


def without_credentials(uri: str) -> str:
    """The address of a server, for those who bring their own credentials."""
    return re.sub(r"//[^/\s]*@", "//", uri)


def is_remote(uri: str) -> bool:
    """Whether a store is behind a server that can be away."""
    return uri.startswith(("http://", "https://"))


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an error stands for; None where no server has spoken."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(status, int):
        return status
    from mlflow.exceptions import (
        MlflowException,  # takes a second, and is needed where something went wrong
    )

    if not isinstance(error, MlflowException):
        return None
    # MLflow takes statuses that it has no name for as 500, and so it takes a connection that failed.
    told = re.search(r"failed with error code (\d{3})|\b(4\d\d) Client Error", str(error))
    return int(told[1] or told[2]) if told else int(error.get_http_status_code())


def is_permanent(error: BaseException) -> bool:
    """Whether asking again is of no use: credentials that don't serve, a request that is wrong, a file that is gone."""
    status = status_of(error)
    return isinstance(error, FileNotFoundError) or (
        status is not None and 400 <= status < 500 and status not in _LATER
    )


def reason_of(error: BaseException) -> str:
    """One line of at most 200 characters, without passwords; a refusal begins with its status."""
    first = (without_password(str(error)).strip().splitlines() or [type(error).__name__])[0]
    if (
        "Caused by " in first
    ):  # what it was, instead of three libraries' ways of saying that it was asked in vain
        cause = first.rpartition("Caused by ")[2].rpartition(": ")[2].rstrip("""'")""")
        said = re.split(r"""\(['"]""", cause)[-1]
        first = f"no answer: {said}"
    status = status_of(error)
    if status in (401, 403):
        return f"refused with {status}, check the credentials: {first}"[:200]
    return (f"refused with {status}: {first}" if is_permanent(error) and status else first)[:200]


def retry_until_available(ask: Callable[[], T], uri: str) -> T:
    """What `ask` returns, asked again while the server at `uri` is away. Local stores are asked once.

    Raises what `ask` raises for refusals, and RunError after `PATIENCE_S` seconds without an answer.
    """
    began, pause = time.monotonic(), FIRST_PAUSE_S
    while True:
        try:
            return ask()
        except Exception as error:
            if not is_remote(uri) or is_permanent(error):
                raise
            if time.monotonic() - began >= PATIENCE_S:
                message = f"tracking server {without_password(uri)}: away for {PATIENCE_S:.0f} s: {reason_of(error)}"
                raise RunError(message) from error
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)
