"""Send one line where a long command ends or fails, with apprise.

The address holds a secret: no message, log or run shows it.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer

from ablation.core.errors import UsageError, first_line, one_line
from ablation.tracking.uris import redact_uri

#: The variable that holds the address, since a command line can be read by other users.
VARIABLE: Final = "ABLATION_NOTIFY"
Notify = Annotated[
    str,
    typer.Option(
        help="Send one line to this address of apprise when the command ends or fails.",
        envvar=VARIABLE,
        show_envvar=True,
        show_default=False,
    ),
]
_TITLE: Final = "ablation"
_MINUTE_S: Final = 60


@dataclass
class Notice:
    """The text of a notification on a command's end; set `result` as it becomes known."""

    result: str = ""


@contextmanager
def notifying(address: str, command: str) -> Iterator[Notice]:
    """Send a line when the block ends, fails or is interrupted. Without an address, do nothing.

    Raises:
        UsageError: apprise is not installed, or does not know such an address.
    """
    notice = Notice()
    if not address:
        yield notice
        return
    service, began = _open(address), time.monotonic()
    try:
        yield notice
    except (KeyboardInterrupt, typer.Exit):
        _send(service, f"{command} was interrupted {_after(began)}")
        raise
    except BaseException as error:
        _send(service, f"{command} failed {_after(began)}: {redact_uri(first_line(error))}")
        raise
    _send(service, f"{command} finished {_after(began)}{notice.result}")


def _open(address: str) -> Any:
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # it would print the address
    try:
        from apprise import Apprise
    except ImportError as error:
        raise UsageError("--notify needs apprise: pip install 'ablation-suite[notify]'") from error
    service = Apprise()
    if not service.add(address):
        raise UsageError(
            "--notify: not an address that apprise knows, such as mailto://...; it is not repeated"
            " here, since it may hold a password"
        )
    return service


def _send(service: Any, line: str) -> None:
    """Send a line; a service that does not take it ends nothing."""
    try:
        sent = service.notify(title=_TITLE, body=one_line(redact_uri(line)))
    except Exception:  # services raise many types, and a message may hold the address
        sent = False
    if not sent:
        typer.echo("ablation: the notification could not be sent", err=True)


def _after(began: float) -> str:
    minutes = (time.monotonic() - began) / _MINUTE_S
    return f"after {minutes:.0f} min" if minutes >= 1 else "within a minute"
