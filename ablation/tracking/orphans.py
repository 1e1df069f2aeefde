"""End runs whose process died, so that none stays RUNNING for ever."""

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


def mlflow_run_process() -> psutil.Process | None:
    """Return the `mlflow run` that started this process, if one did."""
    if names.MLFLOW_RUN_ID not in os.environ:
        return None
    return next(
        (
            process
            for process in psutil.Process().parents()
            if any("mlflow" in part for part in process.cmdline()[:3])
        ),
        None,
    )


def terminate_with(parent: psutil.Process, every_s: float = 1.0) -> None:
    """Send this process SIGTERM once `parent` has ended, looking every `every_s` seconds.

    An interrupted `mlflow run` does not take the command down that it started.
    """

    def watch() -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            while parent.is_running() and parent.status() != psutil.STATUS_ZOMBIE:
                time.sleep(every_s)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def end_orphans(store: "Store", experiment: str, *, include_own: bool = False) -> list[str]:
    """End the RUNNING runs whose process died, as KILLED, and return their names.

    Runs whose end waits in a spool of this machine are left alone: `ablation sync` sends it.

    Args:
        store: The store to look in.
        experiment: The experiment's id.
        include_own: End this process's runs too, after an interrupt that ends its work on them.

    Raises:
        RunError: The server is unreachable.
    """
    from ablation.tracking.retry import retry_until_available
    from ablation.tracking.spool import runs_with_pending_end

    ended = []
    token: str | None = None
    excluded = runs_with_pending_end()
    while True:
        request = partial(
            store.client.search_runs,
            [experiment],
            "attributes.status = 'RUNNING'",
            page_token=token,
        )
        page = retry_until_available(request, store.uri)
        ended += [
            str(run.info.run_name)
            for run in page
            if run.info.run_id not in excluded and _end_if_orphaned(store, run, include_own)
        ]
        token = page.token
        if not token:
            return ended


def end_running(store: "Store", experiment: str, tag: str, value: str, reason: str) -> int:
    """End the RUNNING runs with a tag of this value as KILLED, and return their number.

    Args:
        store: The store to look in.
        experiment: The experiment's id.
        tag: The tag's name, such as `names.WORK`.
        value: Its value.
        reason: Why they did not finish, in one line.
    """
    from ablation.tracking.retry import retry_until_available

    condition = f"attributes.status = 'RUNNING' and tags.`{tag}` = '{value}'"
    found = retry_until_available(
        lambda: store.client.search_runs([experiment], condition, max_results=1000), store.uri
    )
    for run in found:
        store.client.set_tag(run.info.run_id, names.REASON, reason)
        store.client.set_terminated(run.info.run_id, "KILLED")
    return len(found)


@contextmanager
def end_runs_on_interrupt(store: "Store", experiment: str) -> Iterator[None]:
    """End all of this process's runs as KILLED if the block is interrupted.

    This includes a run that was just being created. On a server, which may be unreachable while
    somebody waits, the next command's `end_orphans` does it.
    """
    try:
        yield
    except KeyboardInterrupt:
        if store.delivery is None:
            end_orphans(store, experiment, include_own=True)
        raise


def _end_if_orphaned(store: "Store", run: "Run", include_own: bool) -> bool:
    process = run.data.tags.get(names.PROCESS)
    is_own = include_own and process == this_process()
    if process is None or not (is_own or is_dead(process)):
        return False
    reason = (
        "interrupted" if is_own else "its process ended without a word (killed, or a power cut)"
    )
    store.client.set_tag(run.info.run_id, names.REASON, reason)
    store.client.set_terminated(run.info.run_id, "KILLED")
    return True
