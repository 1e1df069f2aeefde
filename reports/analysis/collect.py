"""Read an experiment from its tracking store as plain data; only this module reads the store.

Runs are queried together; a run's predictions and curves are one file each, read when needed.
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

from ablation.core.errors import RunError, UsageError, first_line
from ablation.core.suggest import did_you_mean
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
    """A training run (or ensemble, or curve of a study) as tracked; `started` is ISO 8601, UTC."""

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
        """An ensemble's variants and the ids of their runs; empty for a trained run."""
        return {
            str(k): str(v) for k, v in json.loads(self.tags.get(names.MEMBER_RUNS) or "{}").items()
        }

    @property
    def synthetic(self) -> bool:
        return self.tags.get(names.SYNTHETIC) == "true"

    @property
    def reference(self) -> str:
        """The corpus whose printed figures apply to its rows; "none", or empty if not recorded."""
        return self.tags.get(names.REFERENCE, "")

    def part(self, name: str) -> str:
        """Return a digest of the run's identity: config, data, encoder, code or libraries."""
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
    """All runs and suites of one experiment, oldest first.

    `ui_url` is the address of the MLflow UI, if known; `curves` are the runs of its
    `curve_studies`, which enter no score.
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
        """Return the run's page in the MLflow UI; empty if the UI's address is not known."""
        return (
            f"{self.ui_url}/#/experiments/{self.experiment_id}/runs/{run_id}" if self.ui_url else ""
        )


def collect(tracking_uri: str | None, name: str, ui_url: str | None = None) -> Experiment:
    """Read everything that is tracked under an experiment's name or id.

    Raises:
        UsageError: There is no such store or experiment, or it has no run of an ablation.
    """
    store = open_store_that_exists(tracking_uri)
    experiment_id = find_experiment(store, name) or _by_id(store, name)
    if experiment_id is None:
        known = sorted(e.name for e in store.client.search_experiments())
        hint = did_you_mean(name, known)
        raise UsageError(f"no experiment {name!r} in {redact_uri(store.uri)}: {hint}")
    title = experiment_name(store, experiment_id) or name
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
            f"experiment {title!r} has no run of an ablation; `ablation run` makes some"
        )
    if ui_url is None and store.uri.startswith("http"):
        ui_url = redact_uri(store.uri)
    address = ui_url.rstrip("/") if ui_url else None
    return Experiment(
        store,
        experiment_id,
        title,
        tuple(runs[names.RUN]),
        tuple(suites[names.SUITE]),
        address,
        tuple(runs[names.CURVE]),
        tuple(suites[names.CURVE_STUDY]),
    )


def open_store_that_exists(uri: str | None) -> Store:
    """Open the store at `uri`; raise UsageError if there is none, since reports create nothing."""
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    is_file = uri.startswith("sqlite:///")
    if is_file and not Path(uri.removeprefix("sqlite:///")).expanduser().is_file():
        raise UsageError(
            f"tracking store {uri}: there is no such file; give --tracking-uri, or run this in the"
            " folder of the ablation"
        )
    return open_store(uri)


def read_tables(
    experiment: Experiment, runs: Sequence[StoredRun], path: str
) -> dict[str, pd.DataFrame | None]:
    """Read the Parquet artifact `path` of each run, by run id; None if not in its manifest."""
    having = [run for run in runs if path in json.loads(run.tags.get(names.MANIFEST) or "{}")]
    frames = _read_all(having, lambda run: _frame(_bytes(experiment, run, path)))
    return {run.run_id: None for run in runs} | frames


def read_records(experiment: Experiment, runs: Sequence[StoredRun]) -> dict[str, RunRecord]:
    """Read the typed record of each finished run, by run id."""
    return _read_all(
        runs, lambda run: RunRecord.model_validate_json(_bytes(experiment, run, names.RECORD_FILE))
    )


def read_corpus(
    experiment: Experiment, runs: Iterable[StoredRun]
) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """Read the training and test rows of these runs from one of their suites.

    Columns are row, text, label and language; None if no suite kept them.
    """
    digests = {run.part("data") for run in runs}
    for suite in reversed(experiment.suites):
        if suite.tags.get(f"{names.IDENTITY_PART}data") in digests:
            train, test = (
                _optional(experiment, suite, path)
                for path in (names.TRAIN_CORPUS, names.TEST_CORPUS)
            )
            if train is not None:
                frame = None if test is None else pd.read_parquet(io.BytesIO(test))
                return pd.read_parquet(io.BytesIO(train)), frame
    return None, None


def read_suite_json(experiment: Experiment, suite: StoredSuite, path: str) -> Any:
    """Read a JSON artifact of a suite; None if it has none (killed, or still running)."""
    content = _optional(experiment, suite, path)
    return None if content is None else json.loads(content)


def _read_all(runs: Sequence[StoredRun], read: Callable[[StoredRun], T]) -> dict[str, T]:
    # Local files need no waiting: threads would only get in each other's way.
    if all(local_artifacts(run.artifact_uri) is not None for run in runs):
        return {run.run_id: read(run) for run in runs}
    with ThreadPoolExecutor(_FETCHED_AT_ONCE) as pool:
        return dict(zip((run.run_id for run in runs), pool.map(read, runs), strict=True))


def _frame(content: bytes) -> pd.DataFrame:
    # pandas looks for several files and an index as well, which takes a small one twice the time.
    table = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True, use_threads=False)
    return frame


def _optional(experiment: Experiment, suite: StoredSuite, path: str) -> bytes | None:
    try:
        return _bytes(experiment, suite, path)
    except RunError:
        return None


def _bytes(experiment: Experiment, run: StoredRun | StoredSuite, path: str) -> bytes:
    """Read an artifact; raise RunError, naming run and artifact, if it can't be read."""
    folder = local_artifacts(run.artifact_uri)
    if folder is not None:
        try:
            return (folder / path).read_bytes()
        except OSError as error:
            raise _unreadable(run, path, error) from error
    # Takes a second to import, and a local store does not need it.
    from mlflow.exceptions import MlflowException

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
    return RunError(f"run {run.run_id}: its artifact {path} can't be read: {first_line(error)}")


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
