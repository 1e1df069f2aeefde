"""The description and the shared views on an experiment's page in MLflow."""

import io
import json

import mlflow
import pytest
from rich.console import Console

from ablation.runs.progress import Progress
from ablation.runs.request import RunRequest, resolve_run
from ablation.runs.runner import run_plan
from ablation.tracking import names, views
from ablation.tracking.store import Store, experiment_id, open_store
from ablation.tracking.views import all_views, describe_experiment, view_fragment, view_state
from tests.conftest import some_rows, write_corpus

TABLE = "| Method | dev1 |\n| --- | --- |\n| MSE | 41.00 |"
SHARED = "mlflow.sharedViewState."


@pytest.fixture
def store(store_uri: str) -> Store:
    return open_store(store_uri)


def tags_after(store: Store, name: str = "described") -> tuple[str, dict[str, str], str]:
    """Describe a new experiment; return its id, its tags, and what could not be done."""
    experiment = experiment_id(store, name)
    problem = describe_experiment(store, experiment, TABLE, ["en", "fr"], ["mse · dev1"])
    return experiment, dict(store.client.get_experiment(experiment).tags), problem


def test_the_description_is_the_table_with_a_link_to_every_view(store: Store) -> None:
    experiment, tags, problem = tags_after(store)
    assert problem == ""
    assert tags[names.NOTE].startswith(TABLE)
    for key, view in all_views(["en", "fr"]).items():
        assert f"[{view.name}]({view_fragment(experiment, key)})" in tags[names.NOTE]
        assert json.loads(tags[f"{SHARED}{key}"])["name"] == view.name


def test_every_chart_of_a_view_shows_a_metric_of_the_runs() -> None:
    for view in all_views(["en", "fr"]).values():
        state = view_state(view, ["mse · dev1"])
        assert len(state["compareRunCharts"]) == len(view.charts)
        assert state["orderByKey"] == f"metrics.`{view.sort_by}`"
        assert ("groupBy" in state) == view.grouped
    bars = view_state(all_views(["en", "fr"])["languages"], [])["compareRunCharts"]
    assert [bar["metricKey"] for bar in bars] == ["best/dev_pearson_en", "best/dev_pearson_fr"]


def test_only_the_view_that_is_named_for_them_shows_test_scores() -> None:
    for key, view in all_views(["en"]).items():
        shown = {*view.columns, *(c.metric for c in view.charts), *(c.versus for c in view.charts)}
        assert any(name.startswith("test/") for name in shown) == (key == "dev-test")


def test_another_version_of_mlflow_gets_the_description_and_one_line_but_no_views(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow, "__version__", "4.0.0")
    _, tags, problem = tags_after(store)
    assert "MLflow 4.0.0" in problem
    assert len(problem.splitlines()) == 1
    assert tags[names.NOTE].startswith(TABLE)
    assert not [name for name in tags if name.startswith(SHARED)]


@pytest.mark.parametrize("fault", ["version", "refusal"])
def test_runs_are_tracked_whatever_becomes_of_the_views(
    fault: str,
    store_uri: str,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*arguments: object) -> None:
        raise ValueError("no views here")

    if fault == "version":
        monkeypatch.setattr(mlflow, "__version__", "4.0.0")
    else:
        monkeypatch.setattr(views, "view_state", refuse)
    corpus = write_corpus(
        tmp_path_factory.mktemp("data") / "corpus", some_rows(20, ("en", "es", "fr", "zh"))
    )
    request = RunRequest(
        data=str(corpus),
        profile="smoke",
        variants=("mse",),
        splits=("dev1",),
        overrides={"optimisation.epochs": 1},
        tracking_uri=store_uri,
    )
    log = io.StringIO()
    outcomes = run_plan(resolve_run(request), Progress(Console(file=log, width=300)))
    assert [outcome.state for outcome in outcomes] == ["finished"]
    said = [line for line in log.getvalue().splitlines() if "views" in line]
    assert len(said) == 1
    assert ("4.0.0" if fault == "version" else "no views here") in said[0]
