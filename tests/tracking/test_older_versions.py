"""Runs that an older version tracked can be planned, reported on and run again.

`experiment_0.1.0.zip` was written by version 0.1.0 and exported through MLflow's client: the smoke
profile on the corpus in it, variants mse, epm and ensemble, split dev1, seeds 0 and 1.
"""

import io
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from mlflow.entities import Metric, Param
from rich.console import Console

from ablation.cli.main import main
from ablation.runs.progress import Progress
from ablation.runs.request import RunRequest, resolve_run
from ablation.runs.runner import run_plan
from ablation.tracking import names
from ablation.tracking.history import incomplete_runs, past_runs
from ablation.tracking.store import Store, experiment_id, open_store
from reports.analysis.collect import collect, read_corpus, read_records, read_tables

ARCHIVE = Path(__file__).resolve().parents[1] / "data_files" / "experiment_0.1.0.zip"


@pytest.fixture
def request_(store_uri: str, tmp_path: Path) -> RunRequest:
    """The command of the old version, on a store that holds what it tracked."""
    with ZipFile(ARCHIVE) as archive:
        archive.extractall(tmp_path / "old")
    store = open_store(store_uri)
    experiment = experiment_id(store, "ablation")
    ids: dict[str, str] = {}
    for run in json.loads((tmp_path / "old" / "runs.json").read_text("utf-8")):
        ids[run["id"]] = restore(store, experiment, run, tmp_path / "old" / "artifacts", ids)
    return RunRequest(
        data=str(tmp_path / "old" / "corpus"),
        profile="smoke",
        variants=("mse", "epm", "ensemble"),
        splits=("dev1",),
        seeds=(0, 1),
        tracking_uri=store_uri,
    )


def restore(
    store: Store, experiment: str, run: dict[str, Any], artifacts: Path, ids: dict[str, str]
) -> str:
    """Write one exported run, with the new ids of the runs that it names, and return its id."""

    def renamed(text: str) -> str:
        return re.sub(r"\b[0-9a-f]{32}\b", lambda match: ids.get(match[0], match[0]), text)

    tags = {key: renamed(value) for key, value in run["tags"].items()}
    created = store.client.create_run(experiment, run["start_time"], tags, run["name"])
    run_id = str(created.info.run_id)
    store.client.log_batch(
        run_id,
        metrics=[Metric(key, value, run["end_time"], 0) for key, value in run["metrics"].items()],
        params=[Param(key, value) for key, value in run["params"].items()],
    )
    store.client.log_artifacts(run_id, str(artifacts / run["id"]))
    store.client.set_terminated(run_id, run["status"], run["end_time"])
    return run_id


def test_a_plan_knows_them_and_says_what_has_changed(request_: RunRequest) -> None:
    runs = resolve_run(request_).runs
    assert Counter(run.state for run in runs) == {"stale": 6}
    assert all("the code" in run.reason for run in runs)
    trained = [run for run in runs if run.config is not None]
    assert not any("the data" in run.reason for run in trained)


def test_their_artifacts_are_all_there(request_: RunRequest) -> None:
    store = open_store(request_.tracking_uri)
    past = past_runs(store, experiment_id(store, "ablation"))
    assert len(past.runs) == 6
    assert list(incomplete_runs(store, past)) == []


def test_a_report_collects_their_scores_predictions_and_members(request_: RunRequest) -> None:
    experiment = collect(request_.tracking_uri, "ablation")
    assert Counter(run.variant for run in experiment.finished) == {
        "mse": 2,
        "epm": 2,
        "ensemble": 2,
    }
    records = read_records(experiment, experiment.finished)
    assert all(record.test is not None for record in records.values())
    for path in (names.DEV_PREDICTIONS, names.TEST_PREDICTIONS):
        tables = read_tables(experiment, experiment.finished, path)
        assert all(table is not None and len(table) for table in tables.values())
    train, test = read_corpus(experiment, experiment.finished)
    assert train is not None
    assert test is not None
    assert (len(train), len(test)) == (80, 30)
    known = {run.run_id for run in experiment.finished}
    ensembles = [run for run in experiment.finished if run.variant == "ensemble"]
    assert all(set(run.member_runs.values()) <= known for run in ensembles)
    assert all(run.member_runs for run in ensembles)


def test_the_command_reports_on_them(
    request_: RunRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [
        "report",
        "--tracking-uri",
        str(request_.tracking_uri),
        "--out",
        str(tmp_path / "r"),
    ]
    monkeypatch.setattr(sys, "argv", ["ablation", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert (tmp_path / "r" / "report.html").is_file()


def test_running_again_trains_beside_them(request_: RunRequest) -> None:
    outcomes = run_plan(resolve_run(request_), Progress(Console(file=io.StringIO())))
    assert [outcome.state for outcome in outcomes] == ["finished"] * 6
    assert len(collect(request_.tracking_uri, "ablation").finished) == 12
