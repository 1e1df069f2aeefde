"""Everything that runs write to a tracking server, sent from a spool by a thread of its own, once and in order.

While the server is away training goes on: writes wait in the spool and are tried again. Each can be
sent twice without being there twice (the server may have taken it and its answer been lost): a SQL
store leaves out a point with the same key, step, time and value, tags and artifacts replace
themselves, and a run that was made is found again by a tag.
"""

import json
import os
import re
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

from ablation.core.errors import RunError, UsageError
from ablation.tracking import names, retry
from ablation.tracking.retry import is_permanent, reason_of, without_credentials, without_password
from ablation.tracking.spool import Entry, Kind, Spool, left_in, spool_folders

#: Seconds without an answer after which `ablation sync` gives up: there, somebody waits.
SYNC_PATIENCE_S = 15.0
COMMAND: Final = "ablation sync"
_ID: Final = re.compile(rb"\b[0-9a-f]{32}\b")


class _UnsentError(Exception):
    """A write that can't be sent as it is."""


class Delivery:
    """Takes a run's writes as MlflowClient does, and returns at once. Safe for threads.

    Runs are named by the server's ids, or by an id of this process while the server has not made
    them; `run_id` gives the former as soon as it is known. Raises OSError if the disk fails.
    """

    def __init__(self, client: MlflowClient, spool: Spool, patience: float | None = None) -> None:
        self.sent: Counter[str] = Counter()
        self._client = client
        self._spool = spool
        self._patience = patience
        self._changed = threading.Condition()
        self._refused: dict[str, str] = {}
        self._tried = {entry.number for entry in spool.entries}  # by whoever left them
        self._away_since: float | None = None
        self._trouble = ""
        self._stopped = False
        self._thread: threading.Thread | None = None

    def create_run(
        self, experiment: str, name: str, tags: Mapping[str, str], *, required: bool
    ) -> str:
        """A new run's id: the server's, or one of this process if the server is away for longer than `PATIENCE_S`.

        Raises UsageError in the second case, and if the server refuses, where the run is `required`.
        """
        run = uuid.uuid4().hex
        body = {
            "experiment": experiment,
            "name": name,
            "tags": {**tags, names.SPOOLED: run},
            "start_time": _now(),
        }
        entry = self._append(run, "create", body)
        with self._changed:
            self._wait(lambda: run in self._spool.ids or run in self._refused)
            if required and run not in self._spool.ids:
                self._spool.remove(entry)
                self._spool.discard()
                reason = self._refused.get(run, self._trouble)
                raise UsageError(
                    f"tracking store {without_password(self._spool.server)}: can't be used: {reason}"
                )
            return self._spool.ids.get(run, run)

    def log_batch(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Sequence[Param] = (),
        tags: Sequence[RunTag] = (),
    ) -> None:
        body = {
            "metrics": [(m.key, m.value, m.timestamp, m.step) for m in metrics],
            "params": [(p.key, p.value) for p in params],
            "tags": [(t.key, t.value) for t in tags],
        }
        self._append(run_id, "batch", body)

    def log_inputs(self, run_id: str, datasets: Sequence[DatasetInput]) -> None:
        self._append(
            run_id, "inputs", {"inputs": [dataset.to_dictionary() for dataset in datasets]}
        )

    def log_artifact(self, run_id: str, local_path: str, artifact_path: str | None = None) -> None:
        path = (
            f"{artifact_path}/{Path(local_path).name}" if artifact_path else Path(local_path).name
        )
        self._append(run_id, "artifact", {"path": path}, Path(local_path).read_bytes())

    def set_terminated(self, run_id: str, status: str) -> None:
        self._append(run_id, "end", {"status": status, "end_time": _now()})

    def drain(self) -> bool:
        """Wait until everything has arrived or was refused, or the server is away for long; whether all has arrived."""
        with self._changed:
            self._start()
            self._wait(lambda: self._next() is None)
            if not self._spool.entries:
                self._spool.discard()
                return True
            self._spool.note(next(iter(self._refused.values()), self._trouble))
            return False

    def close(self) -> None:
        """Stop sending, and let other processes have what is left."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
            self._spool.release()

    def run_id(self, run: str) -> str:
        """The server's id of a run, if it is known."""
        return self._spool.ids.get(run, run)

    def kept(self, run: str) -> str:
        """Where a run's writes are kept and how to send them; empty if all have arrived."""
        with self._changed:
            if not any(self._is_of(entry, run) for entry in self._spool.entries):
                return ""
            return f"kept in {self._spool.folder}, send with: {COMMAND}"

    def artifact(self, run: str, path: str) -> bytes | None:
        """An artifact that is still on its way; None for others."""
        with self._changed:
            for entry in reversed(self._spool.entries):
                if entry.kind == "artifact" and entry.path == path and self._is_of(entry, run):
                    return self._spool.content(entry)
        return None

    def _is_of(self, entry: Entry, run: str) -> bool:
        return self.run_id(entry.run) == self.run_id(run)

    def _append(
        self, run: str, kind: Kind, body: Mapping[str, Any], content: bytes | None = None
    ) -> Entry:
        with self._changed:
            entry = self._spool.append(run, kind, body, content)
            self._start()
            self._changed.notify_all()
            return entry

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._send_all, name="delivery", daemon=True)
            self._thread.start()

    def _wait(self, done: Callable[[], bool]) -> None:
        """Until `done`, or until the server has been away for as long as anybody is ready to wait."""
        patience = retry.PATIENCE_S if self._patience is None else self._patience
        while not done():
            left = (
                None
                if self._away_since is None
                else patience - (time.monotonic() - self._away_since)
            )
            if left is not None and left <= 0:
                return
            assert self._thread is not None
            if not self._thread.is_alive():  # the disk failed; what is left is left
                return
            self._changed.wait(1.0 if left is None else min(left, 1.0))

    def _next(self) -> Entry | None:
        return next(
            (entry for entry in self._spool.entries if entry.run not in self._refused), None
        )

    def _send_all(self) -> None:
        pause = retry.FIRST_PAUSE_S
        while (entry := self._awaited()) is not None:
            began = time.monotonic()
            try:
                self._send(entry)
            except Exception as error:
                with self._changed:
                    self._tried.add(entry.number)
                    if is_permanent(error) or isinstance(error, _UnsentError):
                        self._refused[entry.run], self._away_since = reason_of(error), None
                        self._changed.notify_all()
                        continue
                    # Counted from the attempt's beginning: a server that is silent is away too.
                    self._away_since = began if self._away_since is None else self._away_since
                    self._trouble = reason_of(error)
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._stopped, pause)
                    pause = min(2 * pause, retry.LONGEST_PAUSE_S)
                continue
            pause = retry.FIRST_PAUSE_S
            with self._changed:
                self._spool.remove(entry)
                self._tried.discard(entry.number)
                self.sent[self.run_id(entry.run)] += 1
                self._away_since, self._trouble = None, ""
                self._changed.notify_all()

    def _awaited(self) -> Entry | None:
        """The next write, as soon as there is one; None when it is time to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._next() is not None)
            return None if self._stopped else self._next()

    def _send(self, entry: Entry) -> None:
        body = json.loads(
            self._with_ids(self._spool.body(entry).encode())
            if entry.kind != "create"
            else self._spool.body(entry)
        )
        client, run_id = self._client, self.run_id(entry.run)
        if entry.kind == "create":
            self._create(entry, body)
        elif entry.kind == "batch":
            client.log_batch(
                run_id,
                metrics=[Metric(*point) for point in body["metrics"]],
                params=[Param(*param) for param in body["params"]],
                tags=[RunTag(*tag) for tag in body["tags"]],
            )
        elif entry.kind == "inputs":
            inputs = [
                DatasetInput(
                    Dataset(**one["dataset"]), [InputTag(*tag) for tag in one["tags"].items()]
                )
                for one in body["inputs"]
            ]
            client.log_inputs(run_id, inputs)
        elif entry.kind == "artifact":
            folder, _, name = body["path"].rpartition("/")
            with tempfile.TemporaryDirectory() as scratch:
                file = Path(scratch) / name
                file.write_bytes(self._with_ids(self._spool.content(entry)))
                client.log_artifact(run_id, str(file), folder or None)
        else:
            client.set_terminated(run_id, body["status"], body["end_time"])

    def _create(self, entry: Entry, body: Mapping[str, Any]) -> None:
        """Make a run, and only one: MLflow's client asks again by itself when an answer is lost."""
        experiment, ours = body["experiment"], f"tags.`{names.SPOOLED}` = '{entry.run}'"
        tags = {
            name: self._with_ids(value.encode()).decode() if name == names.PARENT else value
            for name, value in body["tags"].items()
        }
        found = self._client.search_runs([experiment], ours) if entry.number in self._tried else []
        if not found:
            self._client.create_run(experiment, body["start_time"], tags, body["name"])
            found = self._client.search_runs([experiment], ours)
        for doubled in found[1:]:
            self._client.delete_run(doubled.info.run_id)
        with self._changed:
            self._spool.made(entry.run, found[0].info.run_id)

    def _with_ids(self, content: bytes) -> bytes:
        """`content` with the server's ids in the place of this process's; both have 32 characters, so sizes stay."""
        with self._changed:
            ids = dict(self._spool.ids)
            unmade = {
                entry.run
                for entry in self._spool.entries
                if entry.kind == "create" and entry.run not in ids
            }

        def real(found: re.Match[bytes]) -> bytes:
            run = found[0].decode()
            if run in unmade:
                raise _UnsentError(f"it names run {run}, which the server has not made")
            return ids.get(run, run).encode()

        return _ID.sub(real, content)


def _now() -> int:
    """Milliseconds since 1970, as MLflow counts."""
    return time.time_ns() // 1_000_000


def sync(place: Path | None, tracking_uri: str | None, tell: Callable[[str], None]) -> None:
    """Send what is left in the spools below `place` (or in `place`, if it is one), in order.

    Credentials are taken from `tracking_uri`, else from `$MLFLOW_TRACKING_URI` if that is the same
    server, else from MLflow's own settings. Raises RunError if anything is left.
    """
    given = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or ""
    lines = []
    folders = spool_folders(place)
    for folder in folders:
        spool = Spool.take(folder)
        if spool is None:
            if left_in(folder):
                lines.append(f"{folder}: a process that is running sends it")
            continue
        same = without_credentials(given).rstrip("/") == spool.server.rstrip("/")
        if tracking_uri and not same and place != folder:
            lines.append(
                f"{folder}: is for {spool.server}; name it with --spool to send it elsewhere"
            )
            spool.release()
            continue
        uri = given if same or (tracking_uri and place == folder) else spool.server
        delivery = Delivery(MlflowClient(tracking_uri=uri), spool, SYNC_PATIENCE_S)
        arrived = delivery.drain()
        for run, writes in delivery.sent.items():
            tell(f"run {run}: {writes} writes sent to {spool.server}")
        left = left_in(folder)
        if not arrived and left:
            lines.append(
                f"{folder}: {left.writes} writes of {left.runs} runs have not reached {left.server}: {left.reason}"
            )
        delivery.close()
    if lines:
        raise RunError("; ".join(lines))
    tell("all was sent" if folders else "nothing is waiting to be sent")
