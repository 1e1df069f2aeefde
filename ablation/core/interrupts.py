"""Turn SIGINT and SIGTERM into KeyboardInterrupt, and remember them until they are obeyed.

Python drops an exception that is raised in a finaliser or another callback whose errors it ignores.
A signal that arrives there would be lost, so long work asks `raise_if_interrupted` at each step.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_depth = 0
_received: int | None = None


@contextmanager
def signals_as_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt in the block for SIGINT and SIGTERM; blocks may be nested.

    A signal that this process was started to ignore stays ignored, as in a shell's background job.
    Outside of the main thread nothing is changed.
    """
    global _depth, _received
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if _depth == 0:
        _received = None
    before = {
        number: signal.signal(number, _interrupt)
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_if_interrupted() -> None:
    """Raise KeyboardInterrupt if a signal came in the current block, whatever became of its own."""
    if _depth and _received is not None and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt(f"signal {_received}")


def _interrupt(number: int, frame: object) -> None:
    global _received
    _received = number
    raise KeyboardInterrupt(f"signal {number}")
