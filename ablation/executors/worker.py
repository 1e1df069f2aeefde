"""Do a piece of work in the process that an executor gave it."""

import os
import pickle
import platform
import threading
from collections.abc import Callable
from contextlib import nullcontext
from importlib import import_module
from typing import Any

from ablation.core.errors import first_line
from ablation.core.interrupts import signals_as_interrupt
from ablation.executors.protocol import Event, Kind, Work


def run_work(work: Work, send: Callable[[Event], object], *, interruptible: bool = True) -> None:
    """Call the work's function with (shared, payload, send) and send its events.

    A failure to send never raises: the work goes on, and the store has its results.

    Args:
        work: The work.
        send: Sends an event to the driver.
        interruptible: Turn SIGINT and SIGTERM into KeyboardInterrupt; False where a scheduler's own
            handlers are at work.

    Raises:
        KeyboardInterrupt: The work was cancelled.
    """
    lock = threading.Lock()

    def emit(kind: Kind, value: Any = None) -> None:
        try:
            with lock:
                send(Event(work.id, kind, value))
        except Exception:  # the driver's machine may be gone; each executor raises its own kinds
            return

    os.environ.update(work.environment)
    emit("started", f"{platform.node()}, process {os.getpid()}")
    try:
        with signals_as_interrupt() if interruptible else nullcontext():
            set_threads(work.resources.threads)
            function = load_function(work.function)
            shared, payload = pickle.loads(work.shared), pickle.loads(work.payload)
            result = function(shared, payload, lambda message: emit("message", message))
    except Exception as error:  # whatever it is, the driver decides what becomes of the others
        emit("failed", f"{type(error).__name__}: {first_line(error)}")
    else:
        emit("ended", result)


def load_function(name: str) -> Callable[..., Any]:
    """Return the function "module:name"."""
    module, _, attribute = name.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), attribute)
    return function


def set_threads(threads: int) -> None:
    """Set the number of torch's threads in this process, which may have had another before."""
    import torch

    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
