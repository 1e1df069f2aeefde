"""The runs that a plan finds in an experiment."""

import time

import pytest

from ablation.core.identity import RunKey
from ablation.tracking import names
from ablation.tracking.history import finished_run, incomplete_runs, past_runs
from ablation.tracking.runs import start_run
from ablation.tracking.store import Store, experiment_id, open_store


@pytest.fixture
def store(store_uri: str) -> Store:
    return open_store(store_uri)


def add_run(store: Store, number: int, status: str, identity: str = "a", **tags: str) -> str:
    """Write a run that started at `number` seconds, and return its id."""
    created = store.client.create_run(
        experiment_id(store, "tests"),
        start_time=1000 * number,
        tags={
            names.KIND: names.RUN,
            names.VARIANT: "mse",
            names.SPLIT: "dev1",
            names.SEED: str(number),
            names.IDENTITY: identity,
            f"{names.IDENTITY_PART}code": f"code {number}",
            **tags,
        },
    )
    run_id = str(created.info.run_id)
    if status != "RUNNING":
        store.client.set_terminated(run_id, status)
    return run_id


def test_past_runs_are_newest_first_with_what_a_plan_needs(store: Store) -> None:
    for number, status in ((2, "FAILED"), (1, "FINISHED"), (3, "RUNNING")):
        add_run(store, number, status, **{names.REASON: f"reason {number}"})
    runs = past_runs(store, experiment_id(store, "tests")).runs
    assert [run.key for run in runs] == [RunKey("mse", "dev1", number) for number in (3, 2, 1)]
    assert [run.status for run in runs] == ["RUNNING", "FAILED", "FINISHED"]
    assert [run.reason for run in runs] == ["reason 3", "reason 2", "reason 1"]
    assert runs[0].identity == "a"
    assert runs[0].parts == {"code": "code 3"}


def test_the_newest_finished_run_of_an_identity_is_found(store: Store) -> None:
    add_run(store, 1, "FINISHED")
    newest = add_run(store, 2, "FINISHED")
    add_run(store, 3, "FAILED")
    add_run(store, 4, "FINISHED", identity="b")
    add_run(store, 5, "FINISHED", **{names.KIND: names.CURVE})
    experiment = experiment_id(store, "tests")
    finished = finished_run(store, experiment, "a")
    assert finished is not None
    assert finished.run_id == newest
    assert finished_run(store, experiment, "c") is None
    assert finished_run(store, experiment, "b", names.CURVE) is None


def test_a_run_is_newer_than_those_that_were_there_though_the_clock_was_set_back(
    store: Store,
) -> None:
    tomorrow = round(time.time()) + 86_400
    add_run(store, tomorrow, "FINISHED")
    experiment = experiment_id(store, "tests")
    past_runs(store, experiment)
    tags = {names.KIND: names.RUN, names.IDENTITY: "a", names.VARIANT: "mse"}
    again = start_run(store, experiment, "again", {**tags, names.SPLIT: "dev1", names.SEED: 1})
    again.end("FINISHED")
    finished = finished_run(store, experiment, "a")
    assert finished is not None
    assert finished.run_id == again.run_id
    assert past_runs(store, experiment).runs[0].run_id == again.run_id


def test_finished_runs_without_all_artifacts_are_incomplete(store: Store) -> None:
    complete = add_run(store, 1, "FINISHED", **{names.MANIFEST: '{"a.txt": 5}'})
    store.client.log_text(complete, "hello", "a.txt")
    lost = add_run(store, 2, "FINISHED", **{names.MANIFEST: '{"a.txt": 5}'})
    add_run(store, 3, "FAILED", **{names.MANIFEST: '{"a.txt": 5}'})
    assert list(incomplete_runs(store, past_runs(store, experiment_id(store, "tests")))) == [
        (lost, RunKey("mse", "dev1", 2))
    ]
