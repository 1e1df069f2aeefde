"""Write runs: create one, log its metrics, tags and artifacts, and set its final status."""

import getpass
import io
import itertools
import json
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import pandas as pd
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import DatasetInput, InputTag, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_SOURCE_TYPE

from ablation.core.errors import RunError
from ablation.data.corpus import Corpus
from ablation.tracking import names
from ablation.tracking.damage import artifact_digest
from ablation.tracking.long_tags import TAG_LENGTH, split_tags
from ablation.tracking.points import PointWriter
from ablation.tracking.process_id import this_process
from ablation.tracking.retry import retry_until_available
from ablation.tracking.store import Store
from ablation.tracking.uris import redact_uri

Status = Literal["FINISHED", "FAILED", "KILLED"]
#: The source type of the runs that `mlflow run` opens.
_PROJECT: Final = "PROJECT"
#: What MLflow answers of a tag that is not there.
_GONE: Final = "RESOURCE_DOES_NOT_EXIST"
_PARAMS_PER_REQUEST: Final = 100
_SYSTEM_METRICS_EVERY_S: Final = 5
#: Seconds that a run which was interrupted waits for a slow server.
_INTERRUPT_S: Final = 10.0


class SystemMetricsThread:
    """Sample MLflow's system metrics and send them like all other points.

    MLflow's own thread would ask the store each time, and end at the first outage.
    """

    def __init__(self, run_id: str, store: Store, points: PointWriter) -> None:
        self._metrics = SystemMetricsMonitor(
            run_id, _SYSTEM_METRICS_EVERY_S, tracking_uri=store.uri
        )
        self._points = points
        self._finished = threading.Event()
        self._thread = threading.Thread(
            target=self._measure, name=f"machine-{run_id[:8]}", daemon=True
        )
        self._thread.start()

    def finish(self) -> None:
        """Stop sampling."""
        self._finished.set()
        self._thread.join()

    def _measure(self) -> None:
        for step in itertools.count():
            self._metrics.collect_metrics()
            if self._finished.wait(self._metrics.sampling_interval):
                return
            self._points.add(
                {
                    f"system/{name}": value
                    for name, value in self._metrics.aggregate_metrics().items()
                },
                step,
            )
            for monitor in self._metrics.monitors:
                monitor.clear_metrics()


class TrackedRun:
    """A run that this process writes, with MLflow's verbs. Always `end` it.

    All methods raise what the store raises; behind a server they queue instead (see `delivery`).
    """

    def __init__(self, store: Store, run_id: str, *, is_nested: bool = False) -> None:
        """Write to the run `run_id`; the end of a nested one does not wait for a slow server."""
        self._run = run_id
        self._store = store
        self._is_nested = is_nested
        self._points = PointWriter(store.writer, run_id)
        self._manifest: dict[str, int] = {}
        self._digests: dict[str, str] = {}
        self._system_metrics = SystemMetricsThread(run_id, store, self._points)

    @property
    def run_id(self) -> str:
        """Return the store's id, or one of this process until the server has created the run."""
        return self._store.run_id(self._run)

    @property
    def unsynced_note(self) -> str:
        """Say where unsent writes are and how to send them; empty if all were sent."""
        return self._store.unsynced_note(self._run)

    @property
    def lag(self) -> str:
        """Say how far behind a slow or unreachable server is; empty if it is not."""
        return self._store.delivery.lag() if self._store.delivery else ""

    def log_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Queue one point per metric at `step`; a thread sends them."""
        self._points.add(values, step)

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set tags; long values are spread over several, or cut, see `long_tags`."""
        self._store.writer.log_batch(
            self._run, tags=[RunTag(name, text) for name, text in split_tags(tags).items()]
        )

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log parameters; MLflow refuses a second value for one."""
        entities = [Param(name, str(value)) for name, value in params.items()]
        for start in range(0, len(entities), _PARAMS_PER_REQUEST):
            self._store.writer.log_batch(
                self._run, params=entities[start : start + _PARAMS_PER_REQUEST]
            )

    def log_text(self, path: str, text: str) -> None:
        """Write `text` as the artifact `path`, UTF-8."""
        self._artifact(path, text.encode())

    def log_json(self, path: str, value: object) -> str:
        """Write `value` as the JSON artifact `path`, with sorted keys, and return its text."""
        text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        self.log_text(path, text)
        return text

    def log_table(self, path: str, frame: pd.DataFrame) -> None:
        """Write `frame` as the Parquet artifact `path`, without its index."""
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False, compression="zstd")
        self._artifact(path, buffer.getvalue())

    def log_file(self, path: str, file: Path) -> None:
        """Write a copy of `file` as the artifact `path`."""
        self._artifact(path, file.read_bytes())

    def log_dataset(self, corpus: Corpus) -> None:
        """Log the corpus as the run's dataset inputs, with the digest of its bytes."""
        inputs = []
        for context, frame in (("training", corpus.train), ("test", corpus.test)):
            if frame is not None:
                dataset = from_pandas(
                    frame, name=f"{corpus.name}-{context}", digest=corpus.digest[:36]
                )
                inputs.append(
                    DatasetInput(
                        dataset._to_mlflow_entity(), [InputTag(MLFLOW_DATASET_CONTEXT, context)]
                    )
                )
        self._store.writer.log_inputs(self._run, inputs)

    def end(
        self,
        status: Status,
        reason: str | None = None,
        error: BaseException | None = None,
        *,
        echo: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Send what is queued, then set the final status.

        A nested run's end is queued behind a server. A run that stands by itself waits until the
        server has everything; if it stays unreachable for `retry.PATIENCE_S` seconds, the rest
        stays in the spool: see `unsynced_note`.

        Args:
            status: The status to set; FAILED or KILLED if sending fails.
            reason: One line on why the run did not finish.
            error: The error whose traceback is kept as an artifact.
            echo: Called with lines on how far behind the server is.
        """
        self._system_metrics.finish()
        try:
            if error is not None:
                self.log_text(
                    names.TRACEBACK_FILE,
                    redact_uri("".join(traceback.format_exception(error))),
                )
            self._points.close()
            self.set_tags(
                {names.MANIFEST: json.dumps(self._manifest, sort_keys=True)}
                | ({names.DIGESTS: json.dumps(self._digests)} if self._digests else {})
                | ({names.NOT_FINITE: self._points.not_finite} if self._points.not_finite else {})
                | ({names.REASON: redact_uri(reason)} if reason else {})
            )
        except BaseException as failure:
            interrupted = isinstance(failure, KeyboardInterrupt)
            with suppress(Exception):  # the store may be what fails
                self.set_tags({names.REASON: "interrupted" if interrupted else _reason(failure)})
            self._store.writer.set_terminated(self._run, "KILLED" if interrupted else "FAILED")
            raise
        self._store.writer.set_terminated(self._run, status)
        if self._store.delivery and not self._is_nested:
            # After an interrupt somebody waits for the command to end.
            self._store.delivery.drain(echo, _INTERRUPT_S if status == "KILLED" else None)

    def fail(self, error: BaseException) -> str:
        """End as KILLED for an interrupt, else as FAILED with the traceback.

        Returns the reason, one line.
        """
        if isinstance(error, KeyboardInterrupt | SystemExit):
            is_interrupt = isinstance(error, KeyboardInterrupt)
            reason = "interrupted" if is_interrupt else "its scheduler ended or requeued its job"
            self.end("KILLED", reason)
            return reason
        reason = _reason(error)
        self.end("FAILED", reason, error)
        return reason

    def _artifact(self, path: str, content: bytes) -> None:
        folder, _, name = path.rpartition("/")
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / name
            try:
                file.write_bytes(content)
            except OSError as error:
                raise RunError(
                    f"temporary folder {scratch}: can't be written: {error.strerror or error};"
                    " free space there, or set TMPDIR to another folder"
                ) from error
            try:
                self._store.writer.log_artifact(self._run, str(file), folder or None)
            except ModuleNotFoundError as error:  # such as boto3, for s3://
                raise RunError(
                    f"artifact {path} of run {self._run}: its place needs a library that is not"
                    f" installed: pip install {error.name}"
                ) from error
            except OSError as error:
                where = f": {error.filename}" if error.filename else ""
                raise RunError(
                    f"artifact {path} of run {self._run}{where}: can't be written:"
                    f" {error.strerror or error}; free or open its folder, or give another"
                    " --experiment"
                ) from error
        self._manifest[path] = len(content)
        if path in names.CHECKED_FILES:
            self._digests[path] = artifact_digest(content)


def _reason(error: BaseException) -> str:
    """Return one line without credentials."""
    return redact_uri(
        f"{type(error).__name__}: {str(error).strip() or 'no message'}".splitlines()[0]
    )


@contextmanager
def fail_on_error(run: TrackedRun) -> Iterator[None]:
    """End `run` as KILLED or FAILED if the block raises, and raise the error again."""
    try:
        yield
    except BaseException as error:
        run.fail(error)
        raise


def start_run(
    store: Store,
    experiment: str,
    name: str,
    tags: Mapping[str, object],
    parent: TrackedRun | None = None,
) -> TrackedRun:
    """Create an MLflow run, nested under `parent` if given.

    If the server is unreachable, a nested run is queued and created later.

    Args:
        store: The store to write to.
        experiment: The experiment's id.
        name: The run's name.
        tags: The run's tags; those that name this process are added.
        parent: The run to nest it under.

    Raises:
        UsageError: The server is unreachable and the run has no parent, or it refuses the run.
    """
    all_tags = {
        **tags,
        names.PROCESS: this_process(),
        "mlflow.source.name": "ablation",
        "mlflow.user": _user(),
    }
    if parent is not None:
        all_tags[names.PARENT] = parent.run_id
    texts = split_tags(all_tags)
    is_nested = names.PARENT in texts
    # Plans and reports take the newest run, which has to be this one if the clock was set back.
    start = max(round(time.time() * 1000), store.newest_start.get(experiment, -1) + 1)
    if store.delivery:
        run = store.delivery.create_run(experiment, name, texts, start, required=not is_nested)
        return TrackedRun(store, run, is_nested=is_nested)
    created = store.client.create_run(experiment, start, texts, name)
    return TrackedRun(store, created.info.run_id)


def _user() -> str:
    """Return the name of who runs this; "unknown" for a number without one, as in containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def is_fresh_project_run(store: Store, run_id: str) -> bool:
    """Return whether `mlflow run` has just opened a run, and nothing has written results to it."""
    try:
        run = store.client.get_run(run_id)
    except MlflowException:
        return False
    return (
        run.info.status == "RUNNING"
        and run.info.lifecycle_stage == "active"
        and run.data.tags.get(MLFLOW_SOURCE_TYPE) == _PROJECT
        and names.KIND not in run.data.tags
        and not run.data.metrics
    )


def adopt_run(store: Store, run_id: str, name: str, tags: Mapping[str, object]) -> TrackedRun:
    """Write to the run that `mlflow run` opened, under a new name and with these tags added."""
    run = TrackedRun(store, run_id)
    run.set_tags({**tags, names.PROCESS: this_process(), "mlflow.runName": name})
    return run


def describe_run(store: Store, run_id: str, text: str) -> None:
    """Set the description on the page of a run that this process does not write."""
    store.writer.log_batch(run_id, tags=[RunTag(names.NOTE, text[:TAG_LENGTH])])


def reopen_run(store: Store, run_id: str) -> None:
    """Set a run to RUNNING again, name this process as its writer, and forget why it had ended."""

    def reopen() -> None:
        store.client.update_run(run_id, "RUNNING")
        store.client.set_tag(run_id, names.PROCESS, this_process())
        if names.REASON in store.client.get_run(run_id).data.tags:
            try:
                store.client.delete_tag(run_id, names.REASON)
            except MlflowException as error:
                if error.error_code != _GONE:  # another worker has removed it
                    raise

    retry_until_available(reopen, store.uri)


def fail_run(store: Store, run_id: str, error: BaseException) -> None:
    """End a run that `reopen_run` opened, as KILLED for an interrupt, else as FAILED."""
    interrupted = isinstance(error, KeyboardInterrupt)
    reason = "interrupted" if interrupted else _reason(error)
    store.writer.log_batch(run_id, tags=[RunTag(names.REASON, reason)])
    store.writer.set_terminated(run_id, "KILLED" if interrupted else "FAILED")
    if store.delivery:
        store.delivery.drain(limit=_INTERRUPT_S)


def now() -> str:
    """Return the current time, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
