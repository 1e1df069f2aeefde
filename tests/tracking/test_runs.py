"""Runs as they are written: points in order and complete, artifacts whole, ends that are true."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import psutil
import pytest

from ablation.data.corpus import load_corpus
from ablation.tracking import names
from ablation.tracking.orphans import end_orphans
from ablation.tracking.points import PointWriter
from ablation.tracking.process_id import this_process
from ablation.tracking.reading import has_all_artifacts, read_frame, read_json
from ablation.tracking.runs import start_run
from ablation.tracking.store import Store, experiment_id, open_store


@pytest.fixture
def store(store_uri: str) -> Store:
    return open_store(store_uri)


@pytest.fixture
def experiment(store: Store) -> str:
    return experiment_id(store, "tests")


def test_every_point_arrives_once_and_in_order(store: Store, experiment: str) -> None:
    run = store.client.create_run(experiment)
    writer = PointWriter(store.client, run.info.run_id)
    for step in range(2500):
        writer.add({"train/loss": step / 2}, step)
    writer.close()
    history = store.client.get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [
        (step, step / 2) for step in range(2500)
    ]


def test_a_row_or_group_of_any_name_has_a_metric_of_its_own(store: Store, experiment: str) -> None:
    words = (
        "..",
        ".",
        "/x",
        "x/",
        "a/b",
        "\N{FIRE}",
        "\N{DROPLET}",
        "<b>&",
        "#1",
        "+",
        "a=b",
        "x" * 100,
    )
    metrics = {names.metric_name(f"dev1/{word}"): float(i) for i, word in enumerate(words)}
    assert len(metrics) == len(words)
    run = start_run(store, experiment, "r", {})
    run.log_metrics(metrics)
    run.end("FINISHED")
    assert store.client.get_run(run.run_id).data.metrics == metrics


def test_points_that_are_no_numbers_are_left_out_and_counted(store: Store, experiment: str) -> None:
    run = start_run(store, experiment, "r", {})
    run.log_metrics({"a": math.nan, "b": math.inf, "c": 1.0}, 1)
    run.end("FINISHED")
    data = store.client.get_run(run.run_id).data
    assert "a" not in data.metrics
    assert "b" not in data.metrics
    assert data.metrics["c"] == 1.0
    assert data.tags[names.NOT_FINITE] == "2"


def test_a_store_that_fails_is_told_when_the_writer_closes(store: Store) -> None:
    writer = PointWriter(store.client, "no-such-run")
    writer.add({"a": 1.0}, 0)
    with pytest.raises(Exception, match="no-such-run"):
        writer.close()


def test_a_run_is_nested_below_its_suite(store: Store, experiment: str) -> None:
    suite = start_run(store, experiment, "suite", {names.KIND: names.SUITE})
    run = start_run(store, experiment, "run", {names.KIND: names.RUN}, parent=suite)
    run.end("FINISHED")
    suite.end("FINISHED")
    assert store.client.get_run(run.run_id).data.tags["mlflow.parentRunId"] == suite.run_id
    assert store.client.get_run(run.run_id).info.run_name == "run"


def test_artifacts_come_back_as_they_went_in(store: Store, experiment: str) -> None:
    run = start_run(store, experiment, "r", {})
    frame = pd.DataFrame({"row": [0, 1], "language": ["en", "zh"], "prediction": [1.5, 2.5]})
    run.log_table(names.DEV_PREDICTIONS, frame)
    run.log_json(names.CONFIG_FILE, {"tau": 0.2, "text": "我"})
    run.end("FINISHED")
    pd.testing.assert_frame_equal(
        read_frame(store, run.run_id, names.DEV_PREDICTIONS), frame, check_dtype=False
    )
    assert read_json(store, run.run_id, names.CONFIG_FILE) == {"tau": 0.2, "text": "我"}


@pytest.mark.parametrize("damage", ["none", "missing", "shorter"])
def test_a_run_is_whole_only_with_every_artifact_of_its_full_size(
    store: Store, experiment: str, damage: str
) -> None:
    run = start_run(store, experiment, "r", {})
    run.log_text("a.txt", "hello")
    run.log_text("deep/b.txt", "world")
    run.end("FINISHED")
    folder = Path(store.client.get_run(run.run_id).info.artifact_uri.removeprefix("file://"))
    if damage == "missing":
        (folder / "deep" / "b.txt").unlink()
    if damage == "shorter":
        (folder / "a.txt").write_text("hell")
    manifest = store.client.get_run(run.run_id).data.tags[names.MANIFEST]
    assert set(json.loads(manifest)) == {"a.txt", "deep/b.txt"}
    assert has_all_artifacts(store, run.run_id, manifest) == (damage == "none")


def test_a_run_without_a_manifest_is_not_whole(store: Store) -> None:
    assert not has_all_artifacts(store, "any", None)


def test_a_failure_is_kept_with_its_reason_and_traceback(store: Store, experiment: str) -> None:
    run = start_run(store, experiment, "r", {})
    try:
        raise ValueError("what went wrong")
    except ValueError as error:
        run.end("FAILED", "ValueError: what went wrong", error)
    ended = store.client.get_run(run.run_id)
    assert ended.info.status == "FAILED"
    assert ended.data.tags[names.REASON] == "ValueError: what went wrong"
    assert names.TRACEBACK_FILE in [file.path for file in store.client.list_artifacts(run.run_id)]


def test_corpora_are_named_as_inputs_with_the_digest_of_their_bytes(
    store: Store, experiment: str, small_corpus: Path
) -> None:
    corpus = load_corpus(str(small_corpus))
    run = start_run(store, experiment, "r", {})
    run.log_dataset(corpus)
    run.end("FINISHED")
    inputs = store.client.get_run(run.run_id).inputs.dataset_inputs
    assert {i.dataset.digest for i in inputs} == {corpus.digest[:36]}
    assert {i.tags[0].value for i in inputs} == {"training", "test"}
    without_test = replace(corpus, test=None)
    second = start_run(store, experiment, "r2", {})
    second.log_dataset(without_test)
    second.end("FINISHED")
    assert len(store.client.get_run(second.run_id).inputs.dataset_inputs) == 1


def test_runs_of_dead_processes_are_ended_as_killed_and_live_ones_left_alone(
    store: Store, experiment: str
) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = psutil.Process(child.pid).create_time()
    child.kill()
    child.wait()
    host = this_process().rsplit(":", 2)[0]
    orphan = store.client.create_run(
        experiment, tags={names.PROCESS: f"{host}:{child.pid}:{started:.0f}"}, run_name="orphan"
    )
    mine = store.client.create_run(
        experiment, tags={names.PROCESS: this_process()}, run_name="mine"
    )
    foreign = store.client.create_run(experiment, run_name="not of this suite")
    assert end_orphans(store, experiment) == ["orphan"]
    assert store.client.get_run(orphan.info.run_id).info.status == "KILLED"
    assert "killed" in store.client.get_run(orphan.info.run_id).data.tags[names.REASON]
    for run in (mine, foreign):
        assert store.client.get_run(run.info.run_id).info.status == "RUNNING"
