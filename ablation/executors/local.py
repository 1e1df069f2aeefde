"""Run work in processes of this machine, several side by side.

The processes live as long as the executor and do one piece of work after another, so that each
loads libraries and encoders once. Where possible they are forked from a process that has loaded the
libraries and done nothing with them: loading takes ten seconds of a core for each.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Final

from ablation.executors.protocol import WAIT_S, Event, Work
from ablation.executors.worker import run_work

#: Seconds that an interrupted process has to end its run truthfully.
_GRACE_S: Final = 20.0
#: Chooses the cards that CUDA shows to a process.
VISIBLE: Final = "CUDA_VISIBLE_DEVICES"


@dataclass
class _Slot:
    """A process, or the place for one; `work` is what it does now."""

    environment: Mapping[str, str]
    process: Any = None
    connection: "Connection[Work | None, Event] | None" = None
    work: Work | None = None


class LocalExecutor:
    """Run `slots` pieces of work at a time, each in a process of its own."""

    def __init__(self, slots: int, gpus: Sequence[str] = (), preload: str = "") -> None:
        """Start no process yet: each is started with its first work.

        Args:
            slots: The number of processes.
            gpus: The names of the cards as `CUDA_VISIBLE_DEVICES` takes them; they go around.
            preload: The module that the processes are forked with.
        """
        forking = "forkserver" in multiprocessing.get_all_start_methods()
        self._context: Any = multiprocessing.get_context("forkserver" if forking else "spawn")
        if forking and preload:
            self._context.set_forkserver_preload([preload])
        self._waiting: deque[Work] = deque()
        self._news: list[Event] = []
        self._slots = [
            _Slot({VISIBLE: gpus[number % len(gpus)]} if gpus else {}) for number in range(slots)
        ]

    def submit(self, work: Work) -> str:
        self._waiting.append(work)
        self._fill()
        return work.id

    def events(self) -> list[Event]:
        if not self._news:
            self._listen(WAIT_S)
        self._listen(0)
        news, self._news = self._news, []
        return news

    def cancel(self, work: str) -> None:
        for waiting in [w for w in self._waiting if w.id == work]:
            self._waiting.remove(waiting)
            self._news.append(Event(work, "lost", "cancelled"))
        for slot in self._slots:
            if slot.work is not None and slot.work.id == work and slot.process.is_alive():
                slot.process.terminate()

    def close(self) -> None:
        self._waiting.clear()
        alive = [slot for slot in self._slots if slot.process is not None]
        for slot in alive:
            if slot.work is not None:
                slot.process.terminate()
            elif slot.connection is not None:
                with suppress(OSError):
                    slot.connection.send(None)
        for slot in alive:
            slot.process.join(_GRACE_S)
            if slot.process.is_alive():
                slot.process.kill()
                slot.process.join()
            if slot.connection is not None:
                slot.connection.close()
            slot.process = slot.connection = slot.work = None

    def _fill(self) -> None:
        for slot in self._slots:
            if slot.work is None and self._waiting:
                slot.work = self._waiting.popleft()
                if slot.process is None:
                    self._start(slot)
                assert slot.connection is not None
                with suppress(OSError):  # it has just died, which `_listen` finds
                    slot.connection.send(slot.work)

    def _start(self, slot: _Slot) -> None:
        slot.connection, theirs = self._context.Pipe()
        slot.process = self._context.Process(
            target=serve,
            args=(theirs, {**os.environ, **slot.environment}),
            name="executor",
            daemon=False,
        )
        slot.process.start()
        theirs.close()

    def _listen(self, seconds: float) -> None:
        """Take what the processes sent within `seconds`, and give those that are free more work."""
        sources: list[Any] = [
            source
            for slot in self._slots
            if slot.process is not None
            for source in (slot.connection, slot.process.sentinel)
        ]
        ready = wait(sources, seconds) if sources else []
        for slot in self._slots:
            if slot.process is None:
                continue
            died = slot.process.sentinel in ready
            if slot.connection in ready or died:
                self._receive(slot)
            if died:
                self._bury(slot)
        self._fill()

    def _receive(self, slot: _Slot) -> None:
        """Take all that lies in a process's pipe, also of one that has died."""
        assert slot.connection is not None
        with suppress(EOFError, OSError):
            while slot.connection.poll():
                event = slot.connection.recv()
                self._news.append(event)
                if event.kind in ("ended", "failed"):
                    slot.work = None

    def _bury(self, slot: _Slot) -> None:
        slot.process.join()
        code = slot.process.exitcode
        if slot.work is not None:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            reason = f"its process {slot.process.pid} ended with {how}"
            self._news.append(Event(slot.work.id, "lost", reason))
        assert slot.connection is not None
        slot.connection.close()
        slot.process = slot.connection = slot.work = None


def serve(connection: "Connection[Event, Work | None]", environment: Mapping[str, str]) -> None:
    """Do the work that comes through a pipe: the main function of a process.

    Ctrl-C in a terminal reaches the driver, which ends its processes by SIGTERM.
    """
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_driver()
    try:
        while (work := connection.recv()) is not None:
            run_work(work, connection.send)
    except EOFError:
        return
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGTERM)


def _end_with_driver() -> None:
    """Send this process SIGTERM once the driver is gone, however it ended."""
    driver = multiprocessing.parent_process()

    def watch() -> None:
        if driver is not None:
            driver.join()
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="driver", daemon=True).start()
