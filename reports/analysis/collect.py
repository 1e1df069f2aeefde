"""What an experiment's tracking store holds, as plain data. Nothing else in `reports` asks the store.

Runs are asked for together; a run's predictions and curves are one file each, read when needed.
"""

import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ablation.core.errors import RunError, UsageError
from ablation.tracking import names
from ablation.tracking.reading import RunRow, local_artifacts, read_runs
from ablation.tracking.store import (
    Store,
    experiment_name,
    find_experiment,
    open_store,
)
from ablation.tracking.uris import redact_uri
from ablation.training.records import RunRecord

T = TypeVar("T")

#: Files are fetched side by side: over HTTP most of the time is waiting.
_FETCHED_AT_ONCE: Final = 8


@dataclass(frozen=True)
class StoredRun:
    """One training run (or ensemble, or curve of a study) of the experiment, as tracked. `started` is ISO 8601, UTC."""

    run_id: str
    variant: str
    split: str
    seed: int
    status: str
    started: str
    suite: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    artifact_uri: str

    @property
    def identity(self) -> str:
        return self.tags.get(names.IDENTITY, "")

    @property
    def members(self) -> dict[str, int]:
        """An ensemble's variants and how often each was selected; empty for a trained run."""
        return {str(k): int(v) for k, v in json.loads(self.tags.get(names.MEMBERS) or "{}").items()}

    @property
    def member_runs(self) -> dict[str, str]:
        """An ensemble's variants and the ids of the runs that it averages; empty for a trained run."""
        return {
            str(k): str(v) for k, v in json.loads(self.tags.get(names.MEMBER_RUNS) or "{}").items()
        }

    @property
    def synthetic(self) -> bool:
        return self.tags.get(names.SYNTHETIC) == "true"

    def part(self, name: str) -> str:
        """The digest of one part of the run's identity: config, data, encoder, code, libraries."""
        return self.tags.get(f"{names.IDENTITY_PART}{name}", "")

    def __str__(self) -> str:
        return f"{self.variant} {self.split} seed {self.seed}"


@dataclass(frozen=True)
class StoredSuite:
    """One call of the ablation or of a curve study: the parent of the runs that it trained."""

    run_id: str
    status: str
    started: str
    tags: Mapping[str, str]
    artifact_uri: str


@dataclass(frozen=True)
class Experiment:
    """All runs and suites of one experiment, oldest first. `ui_url` is where its pages are, if known.

    `curves` are the runs of its `curve_studies`, which stand in no score.
    """

    store: Store
    experiment_id: str
    name: str
    runs: tuple[StoredRun, ...]
    suites: tuple[StoredSuite, ...]
    ui_url: str | None
    curves: tuple[StoredRun, ...] = ()
    curve_studies: tuple[StoredSuite, ...] = ()

    @property
    def finished(self) -> list[StoredRun]:
        return [run for run in self.runs if run.status == "FINISHED"]

    def run_url(self, run_id: str) -> str:
        """The run's page in the MLflow UI; empty where the UI's address is not known."""
        return (
            f"{self.ui_url}/#/experiments/{self.experiment_id}/runs/{run_id}" if self.ui_url else ""
        )


def collect(tracking_uri: str | None, name: str, ui_url: str | None = None) -> Experiment:
    """Everything that is tracked under the experiment `name` (or of that id).

    Raises UsageError if there is no such store or experiment, or if it has no run of an ablation.
    """
    store = open_store_that_exists(tracking_uri)
    experiment_id = find_experiment(store, name) or _by_id(store, name)
    if experiment_id is None:
        known = sorted(e.name for e in store.client.search_experiments())
        raise UsageError(
            f"no experiment {name!r} in {redact_uri(store.uri)}; it has {', '.join(known)}"
        )
    called = experiment_name(store, experiment_id) or name
    runs: dict[str, list[StoredRun]] = {names.RUN: [], names.CURVE: []}
    suites: dict[str, list[StoredSuite]] = {names.SUITE: [], names.CURVE_STUDY: []}
    for row in read_runs(store, experiment_id, [*runs, *suites]):
        kind = row.tags[names.KIND]
        if kind in runs:
            runs[kind].append(_stored_run(row))
        else:
            suites[kind].append(_stored_suite(row))
    if not any(runs.values()):
        raise UsageError(
            f"experiment {called!r} has no run of an ablation; `ablation run` makes some"
        )
    if ui_url is None and store.uri.startswith("http"):
        ui_url = redact_uri(store.uri)
    address = ui_url.rstrip("/") if ui_url else None
    return Experiment(
        store,
        experiment_id,
        called,
        tuple(runs[names.RUN]),
        tuple(suites[names.SUITE]),
        address,
        tuple(runs[names.CURVE]),
        tuple(suites[names.CURVE_STUDY]),
    )


def open_store_that_exists(uri: str | None) -> Store:
    """The store at `uri`; unlike training, a report makes no new one. Raises UsageError."""
    place = uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    if (
        place.startswith("sqlite:///")
        and not Path(place.removeprefix("sqlite:///")).expanduser().is_file()
    ):
        raise UsageError(
            f"tracking store {place}: there is no such file; give --tracking-uri, or go where the ablation was run"
        )
    return open_store(place)


def read_tables(
    experiment: Experiment, runs: Sequence[StoredRun], path: str
) -> dict[str, pd.DataFrame | None]:
    """The Parquet artifact `path` of each run by run id; None where a run has none (it is not in its manifest)."""
    having = [run for run in runs if path in json.loads(run.tags.get(names.MANIFEST) or "{}")]
    frames = _together(having, lambda run: _frame(_bytes(experiment, run, path)))
    return {run.run_id: None for run in runs} | frames


def read_records(experiment: Experiment, runs: Sequence[StoredRun]) -> dict[str, RunRecord]:
    """The typed record of each finished run, by run id."""
    return _together(
        runs, lambda run: RunRecord.model_validate_json(_bytes(experiment, run, names.RECORD_FILE))
    )


def read_corpus(
    experiment: Experiment, runs: Iterable[StoredRun]
) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """Training and test rows (columns row, text, label, language) that these runs share, from one of their suites."""
    digests = {run.part("data") for run in runs}
    for suite in reversed(experiment.suites):
        if suite.tags.get(f"{names.IDENTITY_PART}data") in digests:
            train, test = (
                _optional(experiment, suite, path)
                for path in (names.TRAIN_CORPUS, names.TEST_CORPUS)
            )
            if train is not None:
                return pd.read_parquet(
                    io.BytesIO(train)
                ), None if test is None else pd.read_parquet(io.BytesIO(test))
    return None, None


def read_suite_json(experiment: Experiment, suite: StoredSuite, path: str) -> Any:
    """A JSON artifact of a suite, None where it has none (it was killed, or is still running)."""
    found = _optional(experiment, suite, path)
    return None if found is None else json.loads(found)


def _together(runs: Sequence[StoredRun], read: Callable[[StoredRun], T]) -> dict[str, T]:
    if all(
        local_artifacts(run.artifact_uri) is not None for run in runs
    ):  # no waiting: threads would only get in each other's way
        return {run.run_id: read(run) for run in runs}
    with ThreadPoolExecutor(_FETCHED_AT_ONCE) as pool:
        return dict(zip((run.run_id for run in runs), pool.map(read, runs), strict=True))


def _frame(content: bytes) -> pd.DataFrame:
    # What pandas does, without its looking for many files and an index: half the time for a small one.
    table = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True, use_threads=False)
    return frame


def _optional(experiment: Experiment, suite: StoredSuite, path: str) -> bytes | None:
    try:
        return _bytes(experiment, suite, path)
    except RunError:
        return None


def _bytes(experiment: Experiment, run: StoredRun | StoredSuite, path: str) -> bytes:
    """The artifact's content. Raises RunError, naming run and artifact, if it can't be had."""
    folder = local_artifacts(run.artifact_uri)
    if folder is not None:
        try:
            return (folder / path).read_bytes()
        except OSError as error:
            raise _unreadable(run, path, error) from error
    from mlflow.exceptions import (
        MlflowException,  # takes a second, and is not needed for a local store
    )

    try:
        scratch = tempfile.mkdtemp()
        try:
            return Path(
                experiment.store.client.download_artifacts(run.run_id, path, scratch)
            ).read_bytes()
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except (MlflowException, OSError) as error:
        raise _unreadable(run, path, error) from error


def _unreadable(run: StoredRun | StoredSuite, path: str, error: Exception) -> RunError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return RunError(f"run {run.run_id}: its artifact {path} can't be read: {reason}")


def _by_id(store: Store, name: str) -> str | None:
    return name if name.isdecimal() and experiment_name(store, name) is not None else None


def _stored_run(run: RunRow) -> StoredRun:
    tags = run.tags
    return StoredRun(
        run_id=run.run_id,
        variant=tags[names.VARIANT],
        split=tags[names.SPLIT],
        seed=int(tags[names.SEED]),
        status=run.status,
        started=_iso(run.start_time),
        suite=tags.get(names.PARENT, ""),
        tags=tags,
        params=run.params,
        artifact_uri=run.artifact_uri,
    )


def _stored_suite(run: RunRow) -> StoredSuite:
    return StoredSuite(run.run_id, run.status, _iso(run.start_time), run.tags, run.artifact_uri)


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
