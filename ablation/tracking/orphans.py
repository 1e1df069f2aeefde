"""End the runs whose process died, so that no run stays RUNNING for ever."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import psutil

from ablation.tracking import names
from ablation.tracking.process_id import is_dead, this_process

if TYPE_CHECKING:
    from mlflow.entities import Run

    from ablation.tracking.store import Store


def end_with(parent: psutil.Process, every_s: float = 1.0) -> None:
    """Send this process SIGTERM once `parent` is gone: an interrupted `mlflow run` takes nothing down with it."""

    def watch() -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            while parent.is_running() and parent.status() != psutil.STATUS_ZOMBIE:
                time.sleep(every_s)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def mlflow_run() -> psutil.Process | None:
    """The `mlflow run` that this process was started by, if it was."""
    if names.MLFLOW_RUN_ID not in os.environ:
        return None
    return next(
        (
            p
            for p in psutil.Process().parents()
            if any("mlflow" in part for part in p.cmdline()[:3])
        ),
        None,
    )


def end_orphans(store: "Store", experiment: str, *, mine: bool = False) -> list[str]:
    """End the runs whose process died without ending them, as KILLED; returns their names.

    With `mine`, this process's too: it was interrupted, and nothing in it goes on with them. Those whose
    end lies in a spool of this machine have one, which `ablation sync` sends.
    """
    from ablation.tracking.retry import retry_until_available
    from ablation.tracking.spool import runs_with_an_end

    ended = []
    token: str | None = None
    spared = runs_with_an_end()
    while True:
        ask = partial(
            store.client.search_runs,
            [experiment],
            "attributes.status = 'RUNNING'",
            page_token=token,
        )
        page = retry_until_available(ask, store.uri)
        ended += [
            str(run.info.run_name)
            for run in page
            if run.info.run_id not in spared and _end_if_orphaned(store, run, mine)
        ]
        token = page.token
        if not token:
            return ended


@contextmanager
def none_left_running(store: "Store", experiment: str) -> Iterator[None]:
    """An interrupt that breaks the block off ends all of this process's runs as KILLED, also one just being made.

    On a server, which may be away while somebody waits, that is left to the next command's `end_orphans`.
    """
    try:
        yield
    except KeyboardInterrupt:
        if store.delivery is None:
            end_orphans(store, experiment, mine=True)
        raise


def _end_if_orphaned(store: "Store", run: "Run", mine: bool) -> bool:
    process = run.data.tags.get(names.PROCESS)
    interrupted = mine and process == this_process()
    if process is None or not (interrupted or is_dead(process)):
        return False
    reason = (
        "interrupted"
        if interrupted
        else "the process ended without a word (killed, or the machine went down)"
    )
    store.client.set_tag(run.info.run_id, names.REASON, reason)
    store.client.set_terminated(run.info.run_id, "KILLED")
    return True
