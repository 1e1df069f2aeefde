"""Write runs that ended elsewhere, with their own times, from what is kept of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from ablation.tracking import names
from ablation.tracking.long_tags import split_tags
from ablation.tracking.points import POINTS_PER_REQUEST
from ablation.tracking.reading import read_runs
from ablation.tracking.retry import retry_until_available
from ablation.tracking.rows import RunRow
from ablation.tracking.store import Store

_PER_REQUEST: Final = 100


@dataclass(frozen=True)
class Point:
    """A metric's value at a step."""

    name: str
    step: int
    value: float


@dataclass(frozen=True)
class PastContent:
    """Everything to write of a run.

    Attributes:
        tags, params: By name.
        points: Metric points.
        artifacts: A folder with the artifacts; None if there are none.
        status: The status to end with.
        ended: Milliseconds since 1970.
    """

    tags: Mapping[str, str]
    params: Mapping[str, str]
    points: Sequence[Point]
    artifacts: Path | None
    status: str
    ended: int


def find_past_runs(store: Store, experiment: str, kinds: Sequence[str]) -> dict[str, str]:
    """Return the experiment's runs: their ids by those that they had where they were trained.

    A run that was trained here has one id. Runs that a killed process wrote in part are deleted.
    """
    rows = read_runs(store, experiment, kinds)
    ids = {row.run_id: row.run_id for row in rows}
    ids |= {
        row.tags[names.ORIGINAL]: row.run_id
        for row in rows
        if names.ORIGINAL in row.tags and row.status != "RUNNING"
    }
    for run in _unfinished(store, experiment):
        retry_until_available(partial(store.client.delete_run, run), store.uri)
    return ids


def create_past_run(store: Store, experiment: str, row: RunRow, name: str) -> str:
    """Create the run that `row` becomes, with its start time, and return its id."""
    tags = {names.ORIGINAL: row.run_id, "mlflow.source.name": "ablation"}
    create = partial(
        store.client.create_run, experiment, start_time=row.start_time, tags=tags, run_name=name
    )
    return str(retry_until_available(create, store.uri).info.run_id)


def fill_past_run(store: Store, run_id: str, content: PastContent) -> None:
    """Write a run's content and end it."""
    from mlflow.entities import Metric, Param, RunTag

    client, params = store.client, [Param(name, v) for name, v in content.params.items()]
    points = [Metric(p.name, p.value, content.ended, p.step) for p in content.points]
    tags = [RunTag(name, value) for name, value in split_tags(content.tags).items()]

    def write() -> None:
        if content.artifacts is not None:
            client.log_artifacts(run_id, str(content.artifacts))
        for start in range(0, len(params), _PER_REQUEST):
            client.log_batch(run_id, params=params[start : start + _PER_REQUEST])
        for start in range(0, len(points), POINTS_PER_REQUEST):
            client.log_batch(run_id, metrics=points[start : start + POINTS_PER_REQUEST])
        # Tags last: a run without them is one that was written in part.
        for start in range(0, len(tags), _PER_REQUEST):
            client.log_batch(run_id, tags=tags[start : start + _PER_REQUEST])
        client.set_terminated(run_id, content.status, end_time=content.ended)

    retry_until_available(write, store.uri)


def _unfinished(store: Store, experiment: str) -> list[str]:
    condition = f"tags.`{names.ORIGINAL}` LIKE '%' and attributes.status = 'RUNNING'"
    search = partial(store.client.search_runs, [experiment], condition)
    return [str(run.info.run_id) for run in retry_until_available(search, store.uri)]
