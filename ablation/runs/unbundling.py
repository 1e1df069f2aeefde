"""Write the runs of a bundle into a tracking store, so that work goes on from them.

An unbundled run has the identity, the settings, the scores and the tables of the one that was
trained, and a new id: `ablation run` reuses it, and `ablation report` reads it like any other. Its
weights are not in a bundle, and neither are the histories of MLflow's system metrics.
"""

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ablation.core.identity import RunKey
from ablation.core.locks import lock
from ablation.runs.results import result_metrics
from ablation.tracking import names
from ablation.tracking.bundle import KINDS, BundleSource
from ablation.tracking.damage import artifact_digest
from ablation.tracking.past_runs import (
    PastContent,
    Point,
    create_past_run,
    fill_past_run,
    find_past_runs,
)
from ablation.tracking.retry import retry_until_available
from ablation.tracking.rows import RunRow
from ablation.tracking.store import Store, experiment_id
from ablation.tracking.views import describe_experiment
from ablation.training.records import RunRecord

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
        new_ids = find_past_runs(store, target, KINDS)
        missing = [row for row in rows if row.run_id not in new_ids]
        # All ids first: tags of ensembles and outcomes of suites name other runs.
        new_ids |= {
            row.run_id: create_past_run(store, target, row, _run_name(row)) for row in missing
        }
        for done, row in enumerate(missing):
            report_progress(done, len(missing))
            _fill(source, store, row, new_ids)
        report_progress(len(missing), len(missing))
        _describe(source, store, target, [row for row in rows if row.tags[names.KIND] == names.RUN])
    trained = sum(row.tags[names.KIND] in _TRAINED for row in missing)
    return Unbundled(name, trained, sum(row.tags[names.KIND] in _TRAINED for row in rows) - trained)


def _describe(source: BundleSource, store: Store, experiment: str, runs: Sequence[RunRow]) -> None:
    """Give the experiment's page its views, unless it has a description already."""
    tags = retry_until_available(lambda: store.client.get_experiment(experiment).tags, store.uri)
    if not runs or names.NOTE in tags:
        return
    prefix = "pearson_"
    parts = {
        name.removeprefix(prefix)
        for row in runs
        if names.RECORD_FILE in source.artifacts_of(row.run_id)
        for name in _record(source, row).dev
        if name.startswith(prefix)
    }
    rows = dict.fromkeys(row.tags[names.ROW] for row in runs if names.ROW in row.tags)
    text = f"Runs of the experiment {source.experiment!r}, from a bundle."
    describe_experiment(store, experiment, text, sorted(parts - {"seen", "unseen"}), list(rows))


def _run_name(row: RunRow) -> str:
    tags = row.tags
    if tags[names.KIND] in _TRAINED:
        return str(RunKey(tags[names.VARIANT], tags[names.SPLIT], int(tags[names.SEED])))
    return f"{tags[names.KIND]} from a bundle"


def _fill(source: BundleSource, store: Store, row: RunRow, new_ids: Mapping[str, str]) -> None:
    """Write what the bundle has of a run, and set its status last."""
    with tempfile.TemporaryDirectory() as scratch:
        contents = _write_artifacts(source, row, Path(scratch), new_ids)
        tags = {name: _renamed(value, new_ids) for name, value in row.tags.items()}
        if row.status == "FINISHED" and names.MANIFEST in row.tags:
            tags |= _listed(contents)
        points, seconds = _points(source, row)
        # A run that had not ended when the bundle was written goes on nowhere.
        status = "KILLED" if row.status in ("RUNNING", "SCHEDULED") else row.status
        content = PastContent(
            tags,
            row.params,
            points,
            Path(scratch) if contents else None,
            status,
            row.start_time + round(1000 * seconds),
        )
        fill_past_run(store, new_ids[row.run_id], content)


def _listed(contents: Mapping[str, bytes]) -> dict[str, str]:
    """Return the tags that list a run's artifacts with sizes and digests."""
    sizes = {path: len(content) for path, content in contents.items()}
    digests = {
        path: artifact_digest(content)
        for path, content in contents.items()
        if path in names.CHECKED_FILES
    }
    return {names.MANIFEST: json.dumps(sizes, sort_keys=True), names.DIGESTS: json.dumps(digests)}


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


def _record(source: BundleSource, row: RunRow) -> RunRecord:
    return RunRecord.model_validate_json(source.read_bytes(row.run_id, names.RECORD_FILE))


def _points(source: BundleSource, row: RunRow) -> tuple[list[Point], float]:
    """Return a run's metric points, and the seconds that it took; none of one without a record."""
    paths = source.artifacts_of(row.run_id)
    if names.RECORD_FILE not in paths:
        return [], 0.0
    record = _record(source, row)
    points = [Point(name, 0, value) for name, value in result_metrics(record).items()]
    if names.CURVES in paths:
        curve = source.read_frame(row.run_id, names.CURVES).dropna(subset="value")
        rows = curve[["name", "step", "value"]].itertuples(index=False)
        points += [Point(str(name), int(step), float(value)) for name, step, value in rows]
    return points, record.seconds or 0.0  # an ensemble has none
