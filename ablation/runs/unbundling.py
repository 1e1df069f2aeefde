"""Write the runs of a bundle into a tracking store, so that work goes on from them.

An unbundled run has the identity, the settings, the scores and the tables of the one that was
trained, and a new id: `ablation run` reuses it, and `ablation report` reads it like any other. Its
weights are not in a bundle, and neither are the histories of MLflow's system metrics.
"""

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pandas as pd

from ablation.core.identity import RunKey
from ablation.core.locks import lock
from ablation.runs.results import result_metrics
from ablation.tracking import names
from ablation.tracking.bundle import KINDS, BundleSource
from ablation.tracking.damage import artifact_digest
from ablation.tracking.reading import RunRow, read_runs
from ablation.tracking.retry import retry_until_available
from ablation.tracking.store import Store, experiment_id
from ablation.training.records import RunRecord

if TYPE_CHECKING:
    from mlflow.entities import Metric

#: MLflow's limits for one request.
_PARAMS: Final = 100
_POINTS: Final = 1000
_TRAINED: Final = (names.RUN, names.CURVE)
_RUN_ID: Final = re.compile(r"\b[0-9a-f]{32}\b")


@dataclass(frozen=True)
class Unbundled:
    """The runs that a bundle brought into an experiment.

    Attributes:
        experiment: The name of the experiment that they are in now.
        runs: Trained runs that were written.
        present: Trained runs that the experiment had already.
    """

    experiment: str
    runs: int
    present: int


def unbundle(
    source: BundleSource,
    store: Store,
    experiment: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Unbundled:
    """Write a bundle's suites and runs into an experiment; those that it has are left alone.

    Interrupted, the same call goes on: what was written in part is deleted and written again.

    Args:
        source: The bundle.
        store: The store to write to.
        experiment: The experiment's name; the bundle's own by default.
        progress: Called with the number of suites and runs written so far, and of all.

    Raises:
        UsageError: The experiment can't be used.
        RunError: The server is unreachable.
    """
    report_progress = progress or (lambda done, total: None)
    name = experiment or source.experiment
    target = experiment_id(store, name)
    rows = source.read_runs(KINDS)
    with lock(f"unbundle-{hashlib.sha256(f'{store.uri} {target}'.encode()).hexdigest()[:16]}"):
        new_ids = _written(store, target)
        missing = [row for row in rows if row.run_id not in new_ids]
        # All ids first: tags of ensembles and outcomes of suites name other runs.
        new_ids |= {row.run_id: _create(store, target, row) for row in missing}
        for done, row in enumerate(missing):
            report_progress(done, len(missing))
            _fill(source, store, row, new_ids)
        report_progress(len(missing), len(missing))
    trained = sum(row.tags[names.KIND] in _TRAINED for row in missing)
    return Unbundled(name, trained, sum(row.tags[names.KIND] in _TRAINED for row in rows) - trained)


def _written(store: Store, experiment: str) -> dict[str, str]:
    """Return the ids of the experiment's runs by those that a bundle may have for them.

    Runs that a killed call wrote in part are deleted.
    """
    rows = read_runs(store, experiment, KINDS)
    ids = {row.run_id: row.run_id for row in rows}
    ids |= {
        row.tags[names.ORIGINAL]: row.run_id
        for row in rows
        if names.ORIGINAL in row.tags and row.status != "RUNNING"
    }

    def unfinished() -> list[str]:
        found = store.client.search_runs(
            [experiment], f"tags.`{names.ORIGINAL}` LIKE '%' and attributes.status = 'RUNNING'"
        )
        return [str(run.info.run_id) for run in found]

    for run in retry_until_available(unfinished, store.uri):
        retry_until_available(partial(store.client.delete_run, run), store.uri)
    return ids


def _create(store: Store, experiment: str, row: RunRow) -> str:
    """Create the run that a row becomes, and return its id."""
    tags = {names.ORIGINAL: row.run_id, "mlflow.source.name": "ablation"}

    def create() -> str:
        run = store.client.create_run(
            experiment, start_time=row.start_time, tags=tags, run_name=_run_name(row)
        )
        return str(run.info.run_id)

    return retry_until_available(create, store.uri)


def _run_name(row: RunRow) -> str:
    tags = row.tags
    if tags[names.KIND] in _TRAINED:
        return str(RunKey(tags[names.VARIANT], tags[names.SPLIT], int(tags[names.SEED])))
    return f"{tags[names.KIND]} from a bundle"


def _fill(source: BundleSource, store: Store, row: RunRow, new_ids: Mapping[str, str]) -> None:
    """Write what the bundle has of a run, and set its status last."""
    from mlflow.entities import Param, RunTag

    run_id = new_ids[row.run_id]
    with tempfile.TemporaryDirectory() as scratch:
        contents = _write_artifacts(source, row, Path(scratch), new_ids)
        client = store.client
        if contents:
            retry_until_available(lambda: client.log_artifacts(run_id, scratch), store.uri)
    tags = {name: _renamed(value, new_ids) for name, value in row.tags.items()}
    if row.status == "FINISHED" and names.MANIFEST in row.tags:
        sizes = {path: len(content) for path, content in contents.items()}
        tags[names.MANIFEST] = json.dumps(sizes, sort_keys=True)
        checked = {p: artifact_digest(c) for p, c in contents.items() if p in names.CHECKED_FILES}
        tags[names.DIGESTS] = json.dumps(checked)
    params = [Param(name, value) for name, value in row.params.items()]
    points, seconds = _points(source, row)

    def write() -> None:
        for start in range(0, len(params), _PARAMS):
            client.log_batch(run_id, params=params[start : start + _PARAMS])
        for start in range(0, len(points), _POINTS):
            client.log_batch(run_id, metrics=points[start : start + _POINTS])
        # Tags last: a run without them is one that was written in part.
        client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        # A run that had not ended when the bundle was written goes on nowhere.
        status = "KILLED" if row.status in ("RUNNING", "SCHEDULED") else row.status
        client.set_terminated(run_id, status, end_time=row.start_time + round(1000 * seconds))

    retry_until_available(write, store.uri)


def _write_artifacts(
    source: BundleSource, row: RunRow, folder: Path, new_ids: Mapping[str, str]
) -> dict[str, bytes]:
    """Write a run's artifacts below `folder`; return their bytes by path."""
    contents = {}
    for path in source.artifacts_of(row.run_id):
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if path.endswith(".parquet"):
            frame = source.read_frame(row.run_id, path)
            frame.to_parquet(file, index=False, compression="zstd")
        else:
            text = source.read_bytes(row.run_id, path).decode()
            file.write_text(_renamed(text, new_ids), "utf-8")
        contents[path] = file.read_bytes()
    return contents


def _renamed(text: str, new_ids: Mapping[str, str]) -> str:
    """Replace every run's id in a tag or an artifact by its new one."""
    return _RUN_ID.sub(lambda found: new_ids.get(found[0], found[0]), text)


def _points(source: BundleSource, row: RunRow) -> "tuple[list[Metric], float]":
    """Return a run's metric points, and the seconds that it took; none of one without a record."""
    from mlflow.entities import Metric

    paths = source.artifacts_of(row.run_id)
    if names.RECORD_FILE not in paths:
        return [], 0.0
    record = RunRecord.model_validate_json(source.read_bytes(row.run_id, names.RECORD_FILE))
    seconds = record.seconds or 0.0  # an ensemble has none
    ended = row.start_time + round(1000 * seconds)
    points = [Metric(name, value, ended, 0) for name, value in result_metrics(record).items()]
    if names.CURVES in paths:
        points = [*_curve(source.read_frame(row.run_id, names.CURVES), ended), *points]
    return points, seconds


def _curve(frame: pd.DataFrame, time: int) -> "list[Metric]":
    from mlflow.entities import Metric

    finite = frame[frame["value"].notna()]
    return [
        Metric(str(name), float(value), time, int(step))
        for step, name, value in finite[["step", "name", "value"]].itertuples(index=False)
    ]
