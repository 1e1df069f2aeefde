"""Pieces of work for the tests of executors: functions of (shared, payload, send)."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Send = Callable[[object], object]


def add(shared: int, payload: int, send: Send) -> int:
    send("began")
    send("adds")
    return shared + payload


def fail(shared: object, payload: str, send: Send) -> None:
    raise ValueError(payload)


def kill_itself(shared: object, payload: object, send: Send) -> None:
    send("began")
    os.kill(os.getpid(), signal.SIGKILL)


def count(shared: object, payload: str, send: Send) -> None:
    """Count in a file, for minutes."""
    for number in range(3000):
        Path(payload).write_text(str(number))
        if number == 0:
            send("counts")
        time.sleep(0.1)


def describe(shared: object, payload: str, send: Send) -> tuple[int, str | None]:
    import torch

    return torch.get_num_threads(), os.environ.get(payload)


def send_what_has_no_form(shared: object, payload: object, send: Send) -> str:
    lock: Any = threading.Lock()
    send(lock)
    return "done"
