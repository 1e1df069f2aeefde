"""Remains of dead processes are named and fixed: runs, checkpoints, artifacts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ablation.cli.main import app
from ablation.core.locks import try_lock
from ablation.core.state import state_folder, weights_root
from ablation.runs.doctor import describe_weights, examine, prune_weights
from ablation.runs.request import RunRequest, resolve_run
from ablation.runs.runner import run_plan
from ablation.tracking import names
from ablation.tracking.process_id import this_process
from ablation.tracking.store import experiment_id, open_store
from ablation.training.checkpoints import save
from tests.runs.test_runner import quiet
from tests.training.test_checkpoints import some


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABLATION_STATE", str(tmp_path / "state"))


def test_where_nothing_is_amiss_it_says_so(store_uri: str) -> None:
    done = CliRunner().invoke(app, ["doctor", "--tracking-uri", store_uri])
    assert (done.exit_code, done.output) == (0, "no problems found\n")


def test_a_run_whose_process_is_gone_is_ended_as_killed(store_uri: str) -> None:
    store = open_store(store_uri)
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    host, _, start = this_process().rsplit(":", 2)
    experiment = experiment_id(store, "mine")
    orphan = store.client.create_run(
        experiment, tags={names.PROCESS: f"{host}:{child.pid}:{start}"}, run_name="orphan"
    )
    alive = store.client.create_run(
        experiment, tags={names.PROCESS: this_process()}, run_name="alive"
    )
    assert list(examine(store)) == [
        "run 'orphan' of experiment 'mine': its process is gone; ended as KILLED"
    ]
    assert store.client.get_run(orphan.info.run_id).info.status == "KILLED"
    assert store.client.get_run(alive.info.run_id).info.status == "RUNNING"


def test_damaged_checkpoints_go_and_whole_ones_stay(store_uri: str) -> None:
    store, folder = open_store(store_uri), state_folder() / "checkpoints" / "slot"
    save(folder, some(1))
    save(folder, some(2))
    (folder / "epoch-000002.safetensors").write_bytes(b"")
    (folder / "epoch-000003.part").write_bytes(b"")
    told = list(examine(store))
    assert [line.split("slot/")[1] for line in told] == [
        f"epoch-00000{name}: corrupt or incomplete; removed"
        for name in ("2.json", "2.safetensors", "3.part")
    ]
    assert sorted(f.name for f in folder.iterdir()) == [
        "epoch-000001.json",
        "epoch-000001.safetensors",
    ]
    assert list(examine(store)) == []


def test_what_a_living_process_writes_is_left_alone(store_uri: str) -> None:
    folder = state_folder() / "checkpoints" / "slot"
    folder.mkdir(parents=True)
    (folder / "epoch-000003.part").write_bytes(b"")
    with try_lock("slot") as mine:
        assert mine
        assert list(examine(open_store(store_uri))) == []
    assert (folder / "epoch-000003.part").exists()


def test_a_finished_run_that_lost_artifacts_is_named(small_corpus: Path, store_uri: str) -> None:
    asked = RunRequest(
        data=str(small_corpus),
        profile="smoke",
        variants=("mse",),
        splits=("dev1",),
        tracking_uri=store_uri,
    )
    (outcome,) = run_plan(resolve_run(asked), quiet())
    store = open_store(store_uri)
    assert list(examine(store)) == []
    where = store.client.get_run(str(outcome.run_id)).info.artifact_uri
    (Path(str(where).removeprefix("file://")) / names.DEV_PREDICTIONS).unlink()
    (line,) = examine(store)
    assert line.startswith(f"run {outcome.run_id} (mse dev1 seed 0): finished, but artifacts are")
    assert "missing, incomplete or changed" in line


def test_corrupt_weights_go_and_the_oldest_are_pruned(
    store_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABLATION_STATE", str(tmp_path / "own"))
    assert describe_weights() == ""
    for age, name in enumerate("cab"):
        folder = weights_root() / name
        folder.mkdir(parents=True)
        (folder / "weights.safetensors").write_bytes(bytes(1000))
        os.utime(folder, (age, age))
    assert describe_weights().startswith("kept weights: 3 runs")
    assert [line.split(":")[0] for line in prune_weights(1500)] == ["weights c", "weights a"]
    (line,) = examine(open_store(store_uri))
    assert line.endswith("b: corrupt or incomplete; removed")  # it has no JSON file
    assert describe_weights() == ""
