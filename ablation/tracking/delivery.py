"""Send everything that runs write to a tracking server: from a spool, in threads, once, in order.

Training continues while the server is slow or unreachable: writes wait in the spool and are
retried. Several are under way at a time, but of one run neither two batches nor two versions of an
artifact, and its end goes last. Batches that wait go in one request. Each write may be sent twice
without being stored twice (the server may have accepted one whose answer was lost): a SQL store
drops a point with the same key, step, time and value, tags and artifacts replace themselves, and a
created run is found again by a tag.

A local MLflow store that is mirrored to the server would not be simpler. A mirror also has to map
run ids, repeat requests safely, tell refusals from outages and send each run's end last, and it
needs a record of what the server already has, which MLflow's stores do not keep.
"""

import json
import re
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

from ablation.core.counting import counted
from ablation.core.errors import UsageError
from ablation.tracking import names, retry
from ablation.tracking.retry import describe_error, is_permanent
from ablation.tracking.spool import Entry, Kind, Spool
from ablation.tracking.uris import redact_uri

#: Seconds that the creation of a nested run may delay its training.
CREATION_S = 2.0
#: Seconds between two lines on how far behind the server is, and before there is a first.
LAG_S = 10.0
#: Requests that are under way at a time, while the server answers.
MAX_IN_FLIGHT: Final = 4
#: MLflow's servers take 1,000 points, 100 parameters and 100 tags in one request of 1 MB.
_PER_REQUEST: Final = {"metrics": 900, "params": 50, "tags": 50}
COMMAND: Final = "ablation sync"
_RUN_ID: Final = re.compile(rb"\b[0-9a-f]{32}\b")


class _UnsentError(Exception):
    """A write that can't be sent as it is."""


class Batch(NamedTuple):
    """The writes that go in one request: one, or several batches of one run."""

    entries: list[Entry]
    body: dict[str, Any]


class Delivery:
    """Accept a run's writes like MlflowClient, and return at once. Safe for threads.

    Runs are named by the server's ids, or by an id of this process until the server has created
    them; `run_id` returns the former as soon as it is known. Methods raise OSError if the disk
    fails.
    """

    def __init__(self, client: MlflowClient, spool: Spool, patience: float | None = None) -> None:
        """Send the writes of `spool` with `client`.

        Args:
            client: The client of the spool's server.
            spool: Where writes wait; those that another process left in it are sent first.
            patience: Seconds without an answer after which waiting ends; `retry.PATIENCE_S` if
                None.
        """
        #: Number of writes that the server acknowledged, by run id.
        self.sent: Counter[str] = Counter()
        self._client = client
        self._spool = spool
        self._patience = patience
        self._changed = threading.Condition()
        self._refusals: dict[str, str] = {}
        # Whoever left these entries may have sent them without seeing the answer.
        self._maybe_sent = {entry.number for entry in spool.entries}
        self._unreachable_since: float | None = None
        self._last_error = ""
        self._in_flight: set[int] = set()
        self._began = {entry.number: time.monotonic() for entry in spool.entries}
        #: Runs whose batches go one by one, because the server refused several together.
        self._unmerged: set[str] = set()
        self._pause = retry.FIRST_PAUSE_S
        self._stopped = False
        self._threads: list[threading.Thread] = []

    def create_run(
        self, experiment: str, name: str, tags: Mapping[str, str], start: int, *, required: bool
    ) -> str:
        """Create a run and return its id.

        The id is the server's, or one of this process if the server does not answer within
        `CREATION_S`; the run is then created later.

        Args:
            experiment: The experiment's id.
            name: The run's name.
            tags: The run's tags.
            start: When it started, in milliseconds since 1970.
            required: Wait for the patience, and raise instead of creating the run later.

        Raises:
            UsageError: A required run was refused, or the server is unreachable.
        """
        run = uuid.uuid4().hex
        body = {
            "experiment": experiment,
            "name": name,
            "tags": {**tags, names.SPOOLED: run},
            "start_time": start,
        }
        entry = self._append(run, "create", body)
        with self._changed:
            self._wait(
                lambda: run in self._spool.server_ids or run in self._refusals,
                limit=None if required else CREATION_S,
            )
            if required and run not in self._spool.server_ids:
                self._spool.remove(entry)
                self._spool.discard()
                reason = self._refusals.get(run, self._last_error)
                raise UsageError(
                    f"tracking store {redact_uri(self._spool.server)}: can't be used: {reason}"
                )
            return self._spool.server_ids.get(run, run)

    def log_batch(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Sequence[Param] = (),
        tags: Sequence[RunTag] = (),
    ) -> None:
        """Queue metric points, parameters and tags."""
        body = {
            "metrics": [(m.key, m.value, m.timestamp, m.step) for m in metrics],
            "params": [(p.key, p.value) for p in params],
            "tags": [(t.key, t.value) for t in tags],
        }
        self._append(run_id, "batch", body)

    def log_inputs(self, run_id: str, datasets: Sequence[DatasetInput]) -> None:
        """Queue dataset inputs."""
        body = {"inputs": [dataset.to_dictionary() for dataset in datasets]}
        self._append(run_id, "inputs", body)

    def log_artifact(self, run_id: str, local_path: str, artifact_path: str | None = None) -> None:
        """Queue a copy of the file `local_path` as an artifact in the folder `artifact_path`."""
        name = Path(local_path).name
        path = f"{artifact_path}/{name}" if artifact_path else name
        self._append(run_id, "artifact", {"path": path}, Path(local_path).read_bytes())

    def set_terminated(self, run_id: str, status: str) -> None:
        """Queue the run's final status, with the current time as its end."""
        self._append(run_id, "end", {"status": status, "end_time": _now_ms()})

    def drain(
        self, echo: Callable[[str], None] = lambda line: None, limit: float | None = None
    ) -> bool:
        """Wait until everything was sent or refused, or the server is unreachable for too long.

        Args:
            echo: Called with a line on what is left, every `LAG_S` seconds.
            limit: Seconds after which waiting ends although the server answers.

        Returns:
            Whether everything was sent.
        """
        with self._changed:
            self._start()
            self._wait(self._is_idle, echo, limit)
            if not self._spool.entries:
                self._spool.discard()
                return True
            reason = next(iter(self._refusals.values()), self._last_error)
            self._spool.set_reason(reason or "the server is slow")
            return False

    def lag(self) -> str:
        """Say how far behind the server is; empty if nothing waits for `LAG_S` seconds."""
        with self._changed:
            waiting = [e for e in self._spool.entries if e.run not in self._refusals]
            began = [self._began[e.number] for e in waiting if e.number in self._began]
            age = time.monotonic() - min(began) if began else 0.0
        if age < LAG_S:
            return ""
        runs = len({entry.run for entry in waiting})
        behind = f"{counted(len(waiting), 'write')} of {counted(runs, 'run')} behind"
        return f"the tracking server is {behind} ({age:.0f} s)"

    @property
    def refusals(self) -> dict[str, str]:
        """Return why the server refuses runs, by its id of each."""
        with self._changed:
            return {self.run_id(run): reason for run, reason in self._refusals.items()}

    def retry(self, run_id: str) -> None:
        """Send the writes of a refused run again."""
        with self._changed:
            self._refusals = {
                r: why for r, why in self._refusals.items() if self.run_id(r) != run_id
            }
            self._changed.notify_all()

    def redirect(self, run_id: str, new_run_id: str) -> None:
        """Send the writes of a refused run to another run of the server."""
        with self._changed:
            known = [run for run in self._refusals if self.run_id(run) == run_id]
            # Artifacts and tags of other runs may name it by the server's id.
            for run in {*known, run_id}:
                self._spool.set_server_id(run, new_run_id)
        self.retry(new_run_id)

    def discard(self, run_id: str) -> int:
        """Drop the unsent writes of a run, and return their number."""
        with self._changed:
            dropped = [e for e in self._spool.entries if self.run_id(e.run) == run_id]
            for entry in dropped:
                self._spool.remove(entry)
            return len(dropped)

    def close(self) -> None:
        """Stop sending, and let other processes open the spool."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
            self._spool.release()

    def run_id(self, run: str) -> str:
        """Return the server's id of a run, or `run` if it is not known yet."""
        return self._spool.server_ids.get(run, run)

    def unsynced_note(self, run: str) -> str:
        """Say where a run's unsent writes are and how to send them; empty if there are none."""
        with self._changed:
            if not any(self._belongs(entry, run) for entry in self._spool.entries):
                return ""
            return f"kept in {self._spool.folder}, send with: {COMMAND}"

    def artifact(self, run: str, path: str) -> bytes | None:
        """Return an artifact that has not been sent yet; None for others."""
        with self._changed:
            for entry in reversed(self._spool.entries):
                if entry.kind == "artifact" and entry.path == path and self._belongs(entry, run):
                    return self._spool.content(entry)
        return None

    def _belongs(self, entry: Entry, run: str) -> bool:
        return self.run_id(entry.run) == self.run_id(run)

    def _append(
        self, run: str, kind: Kind, body: Mapping[str, Any], content: bytes | None = None
    ) -> Entry:
        with self._changed:
            entry = self._spool.append(run, kind, body, content)
            self._began[entry.number] = time.monotonic()
            self._start()
            self._changed.notify_all()
            return entry

    def _start(self) -> None:
        while len(self._threads) < MAX_IN_FLIGHT:
            thread = threading.Thread(target=self._send_all, name="delivery", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _wait(
        self,
        is_done: Callable[[], bool],
        echo: Callable[[str], None] = lambda line: None,
        limit: float | None = None,
    ) -> None:
        """Wait until `is_done`, for `limit` seconds, or until the server was away for too long."""
        patience = retry.PATIENCE_S if self._patience is None else self._patience
        began = said = time.monotonic()
        while not is_done():
            now, remaining = time.monotonic(), 1.0
            if limit is not None:
                remaining = limit - (now - began)
            if self._unreachable_since is not None:
                remaining = min(remaining, patience - (now - self._unreachable_since))
            # No thread lives once the disk has failed; nothing more will be sent.
            if remaining <= 0 or not any(thread.is_alive() for thread in self._threads):
                return
            if now - said >= LAG_S and (line := self.lag()):
                echo(f"{line}; interrupted, the rest is kept for: {COMMAND}")
                said = now
            self._changed.wait(min(remaining, 1.0))

    def _is_idle(self) -> bool:
        """Return whether no write is left of a run that the server has not refused."""
        return all(entry.run in self._refusals for entry in self._spool.entries)

    def _ready(self) -> list[Entry]:
        """Return the writes to send next in one request; none if all have to wait.

        Runs are created first and in order, and nothing that is younger goes before: it may name
        them. While the server is unreachable, one request at a time finds out if it is back.
        """
        if self._unreachable_since is not None and self._in_flight:
            return []
        ahead: dict[str, set[tuple[Kind, str]]] = {}
        found: list[Entry] = []
        for entry in self._spool.entries:
            if entry.run in self._refusals:
                continue
            is_free = entry.number not in self._in_flight
            if entry.kind == "create":
                return [entry] if is_free else found
            earlier, topic = ahead.setdefault(entry.run, set()), (entry.kind, entry.path)
            joins = bool(found) and entry.run == found[0].run and entry.kind == "batch"
            if is_free and joins and found[0].kind == "batch" and entry.run not in self._unmerged:
                found.append(entry)
            elif is_free and not found and topic not in earlier:
                found += [] if entry.kind == "end" and earlier else [entry]
            earlier.add(topic)
        return found

    def _send_all(self) -> None:
        while (batch := self._wait_for_next()) is not None:
            began = time.monotonic()
            try:
                self._send(batch)
            except Exception as error:
                self._keep(batch, error, began)
                continue
            with self._changed:
                self._pause = retry.FIRST_PAUSE_S
                for entry in batch.entries:
                    self._spool.remove(entry)
                    self._maybe_sent.discard(entry.number)
                    self._in_flight.discard(entry.number)
                    self._began.pop(entry.number, None)
                    self.sent[self.run_id(entry.run)] += 1
                self._unreachable_since, self._last_error = None, ""
                self._changed.notify_all()

    def _keep(self, batch: Batch, error: Exception, began: float) -> None:
        """Note why a request failed, and pause if it can be repeated."""
        with self._changed:
            run, numbers = batch.entries[0].run, {entry.number for entry in batch.entries}
            self._maybe_sent |= numbers
            if is_permanent(error) or isinstance(error, _UnsentError):
                self._unreachable_since = None
                if len(batch.entries) > 1:
                    self._unmerged.add(run)  # only one of them may be what is refused
                else:
                    self._refusals[run] = self._explain(run, describe_error(error))
            else:
                # The attempt counts: a server that accepts and stays silent is unreachable too.
                if self._unreachable_since is None:
                    self._unreachable_since = began
                self._last_error = describe_error(error)
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._stopped, self._pause)
                self._pause = min(2 * self._pause, retry.LONGEST_PAUSE_S)
            self._in_flight -= numbers
            self._changed.notify_all()

    def _explain(self, run: str, refusal: str) -> str:
        """Return a refusal with the way out, if the run was deleted on the server."""
        if "must be in the 'active' state" not in refusal:
            return refusal
        run = self.run_id(run)
        return (
            f"run {run} was deleted there: bring it back with {COMMAND} --restore {run}, write it"
            f" to a new run with --elsewhere {run}, or drop its writes with --discard {run}"
        )

    def _wait_for_next(self) -> Batch | None:
        """Return the next request as soon as there is one; None after `close`."""
        with self._changed:
            found: list[Entry] = []

            def is_ready() -> bool:
                found[:] = [] if self._stopped else self._ready()
                return self._stopped or bool(found)

            self._changed.wait_for(is_ready)
            if not found:
                return None
            batch = self._merge(found)
            self._in_flight |= {entry.number for entry in batch.entries}
            return batch

    def _merge(self, entries: Sequence[Entry]) -> Batch:
        """Put as many batches into one request as a server takes, in their order."""
        first, *others = entries
        batch = Batch([first], json.loads(self._spool.body(first)))
        for entry in others:
            body = json.loads(self._spool.body(entry))
            merged = {name: [*batch.body[name], *body[name]] for name in _PER_REQUEST}
            params = [key for key, _ in merged["params"]]
            is_too_long = any(len(merged[name]) > most for name, most in _PER_REQUEST.items())
            if is_too_long or len(set(params)) < len(params):
                break
            merged["tags"] = list(dict(merged["tags"]).items())
            batch.entries.append(entry)
            batch.body.update(merged)
        return batch

    def _send(self, batch: Batch) -> None:
        entry = batch.entries[0]
        if entry.kind == "create":
            self._create(entry, batch.body)
            return
        body = json.loads(self._with_server_ids(json.dumps(batch.body).encode()))
        client, run_id = self._client, self.run_id(entry.run)
        match entry.kind:
            case "batch":
                client.log_batch(
                    run_id,
                    metrics=[Metric(*point) for point in body["metrics"]],
                    params=[Param(*param) for param in body["params"]],
                    tags=[RunTag(*tag) for tag in body["tags"]],
                )
            case "inputs":
                client.log_inputs(run_id, [_dataset_input(stored) for stored in body["inputs"]])
            case "artifact":
                folder, _, name = body["path"].rpartition("/")
                with tempfile.TemporaryDirectory() as scratch:
                    file = Path(scratch) / name
                    file.write_bytes(self._with_server_ids(self._spool.content(entry)))
                    client.log_artifact(run_id, str(file), folder or None)
            case "end":
                client.set_terminated(run_id, body["status"], body["end_time"])

    def _create(self, entry: Entry, body: Mapping[str, Any]) -> None:
        """Create a run exactly once, although MLflow's client repeats requests by itself."""
        experiment, condition = body["experiment"], f"tags.`{names.SPOOLED}` = '{entry.run}'"
        tags = dict(body["tags"])
        if names.PARENT in tags:
            tags[names.PARENT] = self._with_server_ids(tags[names.PARENT].encode()).decode()
        runs = (
            self._client.search_runs([experiment], condition)
            if entry.number in self._maybe_sent
            else []
        )
        if not runs:
            self._client.create_run(experiment, body["start_time"], tags, body["name"])
            runs = self._client.search_runs([experiment], condition)
        for duplicate in runs[1:]:
            self._client.delete_run(duplicate.info.run_id)
        with self._changed:
            self._spool.set_server_id(entry.run, runs[0].info.run_id)

    def _with_server_ids(self, content: bytes) -> bytes:
        """Replace this process's run ids by the server's; both have 32 characters.

        Sizes, and with them the manifest, stay true.

        Raises:
            _UnsentError: `content` names a run that the server has not created.
        """
        with self._changed:
            ids = dict(self._spool.server_ids)
            missing = {
                entry.run
                for entry in self._spool.entries
                if entry.kind == "create" and entry.run not in ids
            }

        def server_id(match: re.Match[bytes]) -> bytes:
            run = match[0].decode()
            if run in missing:
                raise _UnsentError(f"it names run {run}, which the server has not created")
            return ids.get(run, run).encode()

        return _RUN_ID.sub(server_id, content)


def _dataset_input(stored: Mapping[str, Any]) -> DatasetInput:
    tags = [InputTag(*tag) for tag in stored["tags"].items()]
    return DatasetInput(Dataset(**stored["dataset"]), tags)


def _now_ms() -> int:
    """Return milliseconds since 1970, as MLflow counts."""
    return time.time_ns() // 1_000_000
