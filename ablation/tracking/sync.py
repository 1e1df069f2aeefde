"""Send what earlier commands could not send to a tracking server, and settle what it refuses."""

import os
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ablation.core.counting import counted
from ablation.core.errors import RunError, UsageError
from ablation.tracking.copies import copy_deleted_run
from ablation.tracking.retry import describe_error
from ablation.tracking.spool import PendingUploads, Spool, pending_in, spool_folders
from ablation.tracking.uris import is_remote, strip_credentials

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from ablation.tracking.delivery import Delivery
    from ablation.tracking.store import Store

#: Seconds without an answer after which `ablation sync` gives up, because somebody waits for it.
SYNC_PATIENCE_S = 15.0
#: Stands for every run, where runs are named.
ALL: Final = "all"


@dataclass(frozen=True)
class SyncRequest:
    """The spools to send, and what becomes of refused runs.

    Attributes:
        location: A spool, or a folder of spools; the suite's own if None.
        tracking_uri: The server's address with credentials. By default these come from
            `$MLFLOW_TRACKING_URI` if it is the same server, else from MLflow's own settings.
            With one spool as `location`, its writes go to this server whatever its own is.
        restore: Ids of runs to restore on the server if they were deleted there, or "all".
        elsewhere: Ids of runs that were deleted there and are to be written to a new run, or "all".
        discard: Ids of runs whose unsent writes are dropped, or "all" for those that are refused.
    """

    location: Path | None = None
    tracking_uri: str | None = None
    restore: Collection[str] = ()
    discard: Collection[str] = ()
    elsewhere: Collection[str] = ()


def sync(request: SyncRequest, echo: Callable[[str], None]) -> None:
    """Send the writes that wait in spools, each spool in order.

    Args:
        request: The spools, and what becomes of refused runs.
        echo: Called with each line for the user.

    Raises:
        UsageError: Two things are to become of one run, or there is no such folder.
        RunError: Something was not sent.
    """
    chosen = Counter([*request.restore, *request.elsewhere, *request.discard])
    if twice := [run for run, times in chosen.items() if times > 1]:
        raise UsageError(
            f"{min(twice)}: give one of --restore, --elsewhere and --discard for a run, once"
        )
    folders = spool_folders(request.location)
    if request.location is not None and not folders and not request.location.is_dir():
        raise UsageError(
            f"--spool {request.location}: there is no such folder; without --spool all that waits"
            " in the state folder is sent"
        )
    problems = [problem for folder in folders if (problem := _send(folder, request, echo))]
    if problems:
        raise RunError("; ".join(problems))
    echo("all was sent" if folders else "nothing is waiting to be sent")


def send_waiting(store: "Store") -> None:
    """Send what earlier commands left for the store's server, so that reading it shows all runs.

    Spools that a running process writes are left to it. What can't be sent stays where it is.
    """
    if not is_remote(store.uri):
        return
    for folder in spool_folders():
        pending = pending_in(folder)
        if pending is not None and _is_same(store.uri, pending.server):
            with suppress(RunError, OSError):
                _send(folder, SyncRequest(tracking_uri=store.uri), lambda line: None)


def unsent_runs(store: "Store") -> list[PendingUploads]:
    """Return the spools that hold writes for the store's server and that no process is sending."""
    found = []
    for folder in spool_folders():
        pending, spool = pending_in(folder), None
        if pending is not None and _is_same(store.uri, pending.server):
            spool = Spool.open_existing(folder)
        if spool is not None and pending is not None:
            spool.release()
            found.append(pending)
    return found


def _send(folder: Path, request: SyncRequest, echo: Callable[[str], None]) -> str:
    """Send a spool, and return in one line what was not sent; empty if all was."""
    from mlflow import MlflowClient

    from ablation.tracking.delivery import Delivery

    spool = Spool.open_existing(folder)
    if spool is None:
        return f"{folder}: a running process sends it" if pending_in(folder) else ""
    given = request.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or ""
    is_same = _is_same(given, spool.server)
    is_redirected = bool(request.tracking_uri) and request.location == folder
    if request.tracking_uri and not is_same and not is_redirected:
        spool.release()
        return f"{folder}: is for {spool.server}; name it with --spool to send it elsewhere"
    client = MlflowClient(given if is_same or is_redirected else spool.server)
    delivery = Delivery(client, spool, SYNC_PATIENCE_S)
    try:
        all_sent = delivery.drain(echo)
        if not all_sent and _settle(client, delivery, request, echo):
            all_sent = delivery.drain(echo)
        for run, writes in delivery.sent.items():
            echo(f"run {run}: {counted(writes, 'write')} sent to {spool.server}")
        pending = pending_in(folder)
        if all_sent or pending is None:
            return ""
        return (
            f"{folder}: {pending.server} has not received {counted(pending.writes, 'write')} of"
            f" {counted(pending.runs, 'run')}: {pending.reason}"
        )
    finally:
        delivery.close()


def _settle(
    client: "MlflowClient", delivery: "Delivery", request: SyncRequest, echo: Callable[[str], None]
) -> bool:
    """Do with the refused runs as requested; return whether there was one."""
    settled = False
    for run_id in delivery.refusals:
        if run_id in request.discard or ALL in request.discard:
            echo(f"run {run_id}: {counted(delivery.discard(run_id), 'write')} discarded")
        elif run_id in request.restore or ALL in request.restore:
            try:
                if client.get_run(run_id).info.lifecycle_stage == "deleted":
                    client.restore_run(run_id)
            except Exception as error:  # the server may refuse this, too
                echo(f"run {run_id}: can't be restored: {describe_error(error)}")
                continue
            echo(f"run {run_id}: restored")
            delivery.retry(run_id)
        elif run_id in request.elsewhere or ALL in request.elsewhere:
            try:
                copy = copy_deleted_run(client, run_id)
            except Exception as error:  # the server may refuse this, too
                echo(f"run {run_id}: can't be copied: {describe_error(error)}")
                continue
            echo(f"run {run_id}: goes on as run {copy}")
            delivery.redirect(run_id, copy)
        else:
            continue
        settled = True
    return settled


def _is_same(uri: str, server: str) -> bool:
    return strip_credentials(uri).rstrip("/") == server.rstrip("/")
