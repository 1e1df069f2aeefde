"""Runs as they are written: opening one, its points, tags and artifacts, and its truthful end."""

import io
import json
import os
import tempfile
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import pandas as pd
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import DatasetInput, InputTag, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID

from ablation.data.corpus import Corpus
from ablation.tracking import names
from ablation.tracking.points import PointWriter
from ablation.tracking.processes import this_process
from ablation.tracking.store import Store

Status = Literal["FINISHED", "FAILED", "KILLED"]
_MOST_PARAMS: Final = 100
_LONGEST_TAG: Final = 5000
_SYSTEM_METRICS_EVERY_S: Final = 5


class TrackedRun:
    """One run of the store that this process writes. Always `end` it."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.run_id = run_id
        self._store = store
        self._points = PointWriter(store.client, run_id)
        self._manifest: dict[str, int] = {}
        self._monitor = SystemMetricsMonitor(run_id, _SYSTEM_METRICS_EVERY_S, tracking_uri=store.uri)
        self._monitor.start()

    def points(self, values: Mapping[str, float], step: int = 0) -> None:
        """Queue metric points; they are sent off the caller's path."""
        self._points.add(values, step)

    def tags(self, tags: Mapping[str, object]) -> None:
        self._store.client.log_batch(self.run_id, tags=[RunTag(name, str(value)[:_LONGEST_TAG]) for name, value in tags.items()])

    def params(self, params: Mapping[str, object]) -> None:
        entities = [Param(name, str(value)) for name, value in params.items()]
        for start in range(0, len(entities), _MOST_PARAMS):
            self._store.client.log_batch(self.run_id, params=entities[start : start + _MOST_PARAMS])

    def text(self, path: str, text: str) -> None:
        """Keep `text` as the artifact `path`."""
        self._artifact(path, text.encode())

    def json(self, path: str, value: object) -> None:
        self.text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")

    def frame(self, path: str, frame: pd.DataFrame) -> None:
        """Keep `frame` as the Parquet artifact `path`."""
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False, compression="zstd")
        self._artifact(path, buffer.getvalue())

    def file(self, path: str, file: Path) -> None:
        """Keep a copy of `file` as the artifact `path`."""
        self._artifact(path, file.read_bytes())

    def corpus(self, corpus: Corpus) -> None:
        """Name the corpus as the run's dataset inputs, with the digest of its bytes."""
        inputs = []
        for context, frame in (("training", corpus.train), ("test", corpus.test)):
            if frame is not None:
                dataset = from_pandas(frame, name=f"{corpus.name}-{context}", digest=corpus.digest[:36])
                inputs.append(DatasetInput(dataset._to_mlflow_entity(), [InputTag(MLFLOW_DATASET_CONTEXT, context)]))
        self._store.client.log_inputs(self.run_id, inputs)

    def end(self, status: Status, reason: str | None = None, error: BaseException | None = None) -> None:
        """Send what is still on its way, then close the run with the status that is true."""
        self._monitor.finish()
        try:
            if error is not None:
                self.text(names.TRACEBACK_FILE, "".join(traceback.format_exception(error)))
            self._points.close()
            self.tags(
                {names.MANIFEST: json.dumps(self._manifest, sort_keys=True)}
                | ({names.NOT_FINITE: self._points.not_finite} if self._points.not_finite else {})
                | ({names.REASON: reason} if reason else {})
            )
        except BaseException:
            self._store.client.set_terminated(self.run_id, "FAILED")
            raise
        self._store.client.set_terminated(self.run_id, status)

    def fail(self, error: BaseException) -> str:
        """End it as KILLED for an interrupt, else as FAILED with the traceback; returns the reason, one line."""
        if isinstance(error, KeyboardInterrupt):
            self.end("KILLED", "interrupted")
            return "interrupted"
        reason = f"{type(error).__name__}: {str(error).strip() or 'no message'}".splitlines()[0]
        self.end("FAILED", reason, error)
        return reason

    def _artifact(self, path: str, content: bytes) -> None:
        folder, _, name = path.rpartition("/")
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / name
            file.write_bytes(content)
            self._store.client.log_artifact(self.run_id, str(file), folder or None)
        self._manifest[path] = len(content)


def start_run(
    store: Store, experiment: str, name: str, tags: Mapping[str, object], parent: TrackedRun | None = None
) -> TrackedRun:
    """A new run, RUNNING, below `parent` where that is given."""
    all_tags = {
        **tags,
        names.PROCESS: this_process(),
        "mlflow.source.name": "ablation",
        "mlflow.user": os.environ.get("USER", ""),
    }
    if parent is not None:
        all_tags[MLFLOW_PARENT_RUN_ID] = parent.run_id
    run = store.client.create_run(
        experiment, tags={key: str(value)[:_LONGEST_TAG] for key, value in all_tags.items()}, run_name=name
    )
    return TrackedRun(store, run.info.run_id)


def adopt_run(store: Store, run_id: str, name: str, tags: Mapping[str, object]) -> TrackedRun:
    """The run that `mlflow run` opened, to be written to by this process."""
    run = TrackedRun(store, run_id)
    run.tags({**tags, names.PROCESS: this_process(), "mlflow.runName": name})
    return run


def now() -> str:
    """The time, ISO 8601, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_frame(store: Store, run_id: str, path: str) -> pd.DataFrame:
    """The Parquet artifact `path` of a run."""
    with tempfile.TemporaryDirectory() as scratch:
        return pd.read_parquet(store.client.download_artifacts(run_id, path, scratch))


def read_json(store: Store, run_id: str, path: str) -> Any:
    with tempfile.TemporaryDirectory() as scratch:
        return json.loads(Path(store.client.download_artifacts(run_id, path, scratch)).read_text("utf-8"))


def is_whole(store: Store, run_id: str, manifest: str | None) -> bool:
    """Whether every artifact of the run's manifest is there with its size."""
    if not manifest:
        return False
    expected: dict[str, int] = json.loads(manifest)
    found: dict[str, int | None] = {}
    try:
        for folder in {path.rpartition("/")[0] for path in expected}:
            found |= {f.path: f.file_size for f in store.client.list_artifacts(run_id, folder or None) if not f.is_dir}
    except (MlflowException, OSError):
        return False
    return all(found.get(path) == size for path, size in expected.items())
