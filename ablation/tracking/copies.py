"""Copy a run that was deleted on a server, so that what is still to be written has a place."""

import tempfile
from typing import TYPE_CHECKING, Final

from ablation.core.errors import RunError
from ablation.tracking import names

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_POINTS_PER_REQUEST: Final = 900
_PER_REQUEST: Final = 50


def copy_deleted_run(client: "MlflowClient", run_id: str) -> str:
    """Write all that a server has of a deleted run to a new one, and return its id.

    The new run is RUNNING: its end is among the writes that follow. One that a copy which was
    broken off has left is deleted. Raises RunError for a run that was not deleted, and what the
    client raises.
    """
    run = client.get_run(run_id)
    if run.info.lifecycle_stage != "deleted":
        raise RunError("it was not deleted there")
    experiment, condition = run.info.experiment_id, f"tags.`{names.COPY_OF}` = '{run_id}'"
    for draft in client.search_runs([experiment], condition):
        client.delete_run(draft.info.run_id)
    tags = {**run.data.tags, names.COPY_OF: run_id}
    tags.pop(names.SPOOLED, None)  # by which a run is found that was created, but not answered for
    created = client.create_run(
        experiment, run.info.start_time, tags, str(run.info.run_name)
    ).info.run_id
    _copy_values(client, run, created)
    with tempfile.TemporaryDirectory() as scratch:
        if client.list_artifacts(run_id):
            client.download_artifacts(run_id, "", scratch)
            client.log_artifacts(created, scratch)
    return str(created)


def _copy_values(client: "MlflowClient", run: "Run", created: str) -> None:
    from mlflow.entities import Param

    params = [Param(name, value) for name, value in run.data.params.items()]
    for start in range(0, len(params), _PER_REQUEST):
        client.log_batch(created, params=params[start : start + _PER_REQUEST])
    for name in run.data.metrics:
        points = client.get_metric_history(run.info.run_id, name)
        for start in range(0, len(points), _POINTS_PER_REQUEST):
            client.log_batch(created, metrics=points[start : start + _POINTS_PER_REQUEST])
    if run.inputs and run.inputs.dataset_inputs:
        client.log_inputs(created, run.inputs.dataset_inputs)
