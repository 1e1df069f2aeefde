"""Read an experiment as plain data, from its tracking store or a bundle; nothing else reads runs.

Runs are queried together; a run's predictions and curves are one file each, read when needed.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
from pydantic import ValidationError

from ablation.core.errors import RunError, UsageError
from ablation.core.suggest import did_you_mean
from ablation.data.layout import MINT_LAYOUT, CorpusLayout
from ablation.tracking import names
from ablation.tracking.bundle import BundleSource
from ablation.tracking.damage import DamagedRunError, tag_problem
from ablation.tracking.rows import RunRow
from ablation.tracking.sources import RunSource, StoreSource
from ablation.tracking.store import (
    Store,
    experiment_name,
    find_experiment,
    open_store,
)
from ablation.tracking.uris import absolute_uri, redact_uri, sqlite_file, strip_credentials
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
    metrics: Mapping[str, float] = field(default_factory=dict)

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
    def replaced(self) -> dict[str, str] | None:
        """The settings that the variant replaces, as they would be without it.

        None for runs of version 0.1.0, which did not record them.
        """
        text = self.tags.get(names.REPLACED)
        return None if text is None else {str(k): str(v) for k, v in json.loads(text).items()}

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
    `curve_studies`, which enter no score; `damaged` says which runs are left out, and why.
    """

    source: RunSource
    runs: tuple[StoredRun, ...]
    suites: tuple[StoredSuite, ...]
    ui_url: str | None
    curves: tuple[StoredRun, ...] = ()
    curve_studies: tuple[StoredSuite, ...] = ()
    damaged: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.source.experiment

    @property
    def experiment_id(self) -> str:
        return self.source.experiment_id

    @property
    def finished(self) -> list[StoredRun]:
        return [run for run in self.runs if run.status == "FINISHED"]

    def run_url(self, run_id: str) -> str:
        """Return the run's page in the MLflow UI; empty if the UI's address is not known."""
        if not self.ui_url:
            return ""
        page = f"{self.ui_url}/#/experiments/{self.experiment_id}/runs/{run_id}"
        return f"{page}?workflowType=machine_learning"


def collect(
    tracking_uri: str | None,
    name: str,
    ui_url: str | None = None,
    damaged: Mapping[str, str] | None = None,
    *,
    bundle: Path | None = None,
) -> Experiment:
    """Read everything that is tracked under an experiment's name or id, or kept in a bundle.

    Runs whose tags can't be read are left out.

    Args:
        tracking_uri: The store; the environment's by default. Not read with a bundle.
        name: The experiment's name or id; a bundle holds one experiment.
        ui_url: Address of the MLflow UI; the server's own by default.
        damaged: Runs to leave out, by id, with a line on why.
        bundle: The bundle to read instead of a store.

    Raises:
        UsageError: There is no such store, experiment or bundle, or it has no run of an ablation.
    """
    address = _ui_address(ui_url) if ui_url else ""
    source: RunSource = BundleSource(bundle) if bundle else open_source(tracking_uri, name)
    runs: dict[str, list[StoredRun]] = {names.RUN: [], names.CURVE: []}
    suites: dict[str, list[StoredSuite]] = {names.SUITE: [], names.CURVE_STUDY: []}
    left_out = dict(damaged or {})
    for row in source.read_runs([*runs, *suites]):
        kind = row.tags[names.KIND]
        if kind in runs and (problem := tag_problem(row.tags)):
            left_out[row.run_id] = f"run {row.run_id}: {problem}"
        if row.run_id in left_out:
            continue
        if kind in runs:
            runs[kind].append(_stored_run(row))
        else:
            suites[kind].append(_stored_suite(row))
    if not any(runs.values()):
        hint = next(iter(left_out.values()), "`ablation run` makes some")
        raise UsageError(f"experiment {source.experiment!r} has no run of an ablation; {hint}")
    if not address and source.store is not None and source.store.uri.startswith("http"):
        address = _ui_address(source.store.uri)
    return Experiment(
        source,
        tuple(runs[names.RUN]),
        tuple(suites[names.SUITE]),
        address or None,
        tuple(runs[names.CURVE]),
        tuple(suites[names.CURVE_STUDY]),
        tuple(left_out.values()),
    )


def open_source(tracking_uri: str | None, name: str) -> StoreSource:
    """Find an experiment of a store by its name or id; raise UsageError if there is none."""
    store = open_store_that_exists(tracking_uri)
    experiment_id = find_experiment(store, name) or _by_id(store, name)
    if experiment_id is None:
        known = sorted(e.name for e in store.client.search_experiments())
        hint = did_you_mean(name, known)
        raise UsageError(f"no experiment {name!r} in {redact_uri(store.uri)}: {hint}")
    return StoreSource(store, experiment_id, experiment_name(store, experiment_id) or name)


def open_store_that_exists(uri: str | None) -> Store:
    """Open the store at `uri`; raise UsageError if there is none, since reports create nothing."""
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    file = sqlite_file(absolute_uri(uri))
    if file is not None and not file.is_file():
        raise UsageError(
            f"tracking store {uri}: there is no such file; give --tracking-uri, or run this in the"
            " folder of the ablation"
        )
    return open_store(uri)


def read_tables(
    experiment: Experiment, runs: Sequence[StoredRun], path: str
) -> dict[str, pd.DataFrame | None]:
    """Read the Parquet artifact `path` of each run, by run id; None if not in its manifest."""
    read_frame = experiment.source.read_frame
    frames = _read_all(experiment, _having(runs, path), lambda r: read_frame(r.run_id, path))
    return {run.run_id: None for run in runs} | frames


def read_columns(
    experiment: Experiment, runs: Sequence[StoredRun], path: str, columns: Sequence[str]
) -> dict[str, dict[str, np.ndarray]]:
    """Read columns (rows,) of the Parquet artifact `path`, by run id and name.

    Runs without the artifact are left out. Takes half the time of `read_tables`.
    """
    read = experiment.source.read_columns
    return _read_all(experiment, _having(runs, path), lambda r: read(r.run_id, path, columns))


def read_records(experiment: Experiment, runs: Sequence[StoredRun]) -> dict[str, RunRecord]:
    """Read the typed record of each finished run, by run id."""

    def read(run: StoredRun) -> RunRecord:
        content = experiment.source.read_bytes(run.run_id, names.RECORD_FILE)
        try:
            return RunRecord.model_validate_json(content)
        except ValidationError as error:
            raise DamagedRunError(
                run.run_id, f"its {names.RECORD_FILE} is no record of a run; train the run again"
            ) from error

    return _read_all(experiment, runs, read)


def read_corpus(
    experiment: Experiment, runs: Iterable[StoredRun]
) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """Read the training and test rows of these runs from one of their suites.

    Columns are row, label and language, and text, or without texts its length and digest (see
    `ablation.tracking.bundle.without_texts`); None if no suite kept them.
    """
    digests = {run.part("data") for run in runs}
    for suite in reversed(experiment.suites):
        if suite.tags.get(f"{names.IDENTITY_PART}data") in digests:
            read = partial(experiment.source.read_frame, suite.run_id)
            train, test = (
                _optional(partial(read, path)) for path in (names.TRAIN_CORPUS, names.TEST_CORPUS)
            )
            if train is not None:
                return train, test
    return None, None


def read_layout(experiment: Experiment, runs: Iterable[StoredRun]) -> CorpusLayout:
    """Read the layout of these runs' corpus from one of their suites; MINT's if none kept it."""
    digests = {run.part("data") for run in runs}
    for suite in reversed(experiment.suites):
        if suite.tags.get(f"{names.IDENTITY_PART}data") in digests:
            content = read_suite_json(experiment, suite, names.CORPUS_LAYOUT)
            if content is not None:
                return CorpusLayout.model_validate(content)
    return MINT_LAYOUT


def read_suite_json(experiment: Experiment, suite: StoredSuite, path: str) -> Any:
    """Read a JSON artifact of a suite; None if it has none (killed, or still running)."""
    content = _optional(lambda: experiment.source.read_bytes(suite.run_id, path))
    return None if content is None else json.loads(content)


def read_suite_text(experiment: Experiment, suite: StoredSuite, path: str) -> str | None:
    """Read a text artifact of a suite; None if it has none."""
    content = _optional(lambda: experiment.source.read_bytes(suite.run_id, path))
    return None if content is None else content.decode("utf-8")


def _read_all(
    experiment: Experiment, runs: Sequence[StoredRun], read: Callable[[StoredRun], T]
) -> dict[str, T]:
    # Local files need no waiting: threads would only get in each other's way.
    if experiment.source.reads_at_once([run.run_id for run in runs]):
        return {run.run_id: read(run) for run in runs}
    with ThreadPoolExecutor(_FETCHED_AT_ONCE) as pool:
        return dict(zip((run.run_id for run in runs), pool.map(read, runs), strict=True))


def _having(runs: Sequence[StoredRun], path: str) -> list[StoredRun]:
    """Return the runs that have this artifact in their manifest."""
    return [run for run in runs if path in json.loads(run.tags.get(names.MANIFEST) or "{}")]


def _optional(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except RunError:
        return None


def _ui_address(url: str) -> str:
    """Return the address of a UI for links, without credentials. Raises UsageError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UsageError(
            f"--ui-url {redact_uri(url)}: give an address such as http://127.0.0.1:5000"
        )
    return strip_credentials(url).rstrip("/")


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
        metrics=run.metrics,
    )


def _stored_suite(run: RunRow) -> StoredSuite:
    return StoredSuite(run.run_id, run.status, _iso(run.start_time), run.tags, run.artifact_uri)


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
