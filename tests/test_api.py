"""The Python API: plan, run, load what came out as a table, load a model, report."""

import ast
import shutil
import subprocess
import sys
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ablation
from ablation.tracking import names
from ablation.tracking.reading import read_frame
from ablation.tracking.store import open_store
from tests.conftest import some_rows, write_corpus

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> ablation.RunRequest:
    folder = tmp_path_factory.mktemp("api")
    seen = ("en", "es", "fr", "zh")
    corpus = write_corpus(
        folder / "corpus", some_rows(20, seen), some_rows(6, (*seen, "ko"), start=100)
    )
    return ablation.RunRequest(
        data=corpus,
        profile="smoke",
        variants=["mse", "epm", "ensemble"],
        splits=["dev1"],
        seeds=[0],
        overrides={"optimisation.epochs": 1},
        tracking_uri=f"sqlite:///{shutil.copy(empty_store, folder / 'mlflow.db')}",
        export=folder / "models",
    )


@pytest.fixture(scope="module")
def results(request_: ablation.RunRequest) -> pd.DataFrame:
    planned = ablation.plan(request_)
    assert list(planned.to_frame()["state"]) == ["to do"] * 3
    outcomes = ablation.run(planned)
    assert [outcome.state for outcome in outcomes] == ["finished"] * 3
    return ablation.load_results("ablation", request_.tracking_uri)


def test_importing_the_package_loads_nothing_heavy_and_no_name_before_it_is_used() -> None:
    script = """
import sys, ablation
heavy = {"numpy", "pandas", "pydantic", "torch", "mlflow", "rich", "typer", "ablation.api"}
assert not heavy & set(sys.modules)
assert set(ablation.__all__) <= set(dir(ablation))
ablation.RunRequest
assert not {"torch", "mlflow", "matplotlib"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_every_public_name_is_known_to_type_checkers_and_can_be_imported() -> None:
    tree = ast.parse((ROOT / "ablation" / "__init__.py").read_text("utf-8"))
    typed = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(ablation.__all__) <= typed
    assert all(hasattr(ablation, name) for name in ablation.__all__)
    assert not hasattr(ablation, "nothing_of_this_name")


@pytest.mark.parametrize(
    "name", ["plan", "run", "load_results", "load_model", "report", "power", "compare"]
)
def test_every_function_says_what_it_takes_returns_and_raises_and_has_an_example(name: str) -> None:
    function = getattr(ablation, name)
    sections = {line.strip() for line in function.__doc__.splitlines()}
    assert {"Args:", "Returns:", "Raises:", "Example:"} <= sections
    assert all(f"{parameter}:" in function.__doc__ for parameter in signature(function).parameters)


def test_finished_runs_are_reused(request_: ablation.RunRequest, results: pd.DataFrame) -> None:
    frame = ablation.plan(request_).to_frame()
    assert list(frame["state"]) == ["finished"] * 3
    assert set(frame["run_id"]) == set(results["run_id"])
    assert [outcome.state for outcome in ablation.run(request_)] == ["reused"] * 3


def test_results_have_a_row_for_each_run_subset_and_metric(
    request_: ablation.RunRequest, results: pd.DataFrame
) -> None:
    assert not results.duplicated(["run_id", "rows", "subset", "metric"]).any()
    assert set(results["rows"]) == {"dev", "test"}
    correlations = {"pearson", "mean_pearson", "spearman", "concordance"}
    assert set(results["metric"]) == {*correlations, "rmse", "mae"}
    assert set(results["subset"]) == {"all", "seen", "unseen", "en", "es", "fr", "zh", "ko"}
    assert results.query("metric in @correlations")["value"].between(-1, 1).all()
    assert (results.query("metric not in @correlations")["value"] > 0).all()
    (value,) = results.query(
        "variant == 'epm' and rows == 'test' and metric == 'pearson' and subset == 'unseen'"
    )["value"]
    run_id = results.query("variant == 'epm'")["run_id"].iloc[0]
    run = open_store(request_.tracking_uri).client.get_run(run_id)
    assert run.data.metrics["test/pearson_unseen"] == value
    assert run.data.tags[names.IDENTITY] in set(results["identity"])


def test_an_exported_model_predicts_what_its_run_predicted(
    request_: ablation.RunRequest, results: pd.DataFrame
) -> None:
    assert request_.export
    model = ablation.load_model(request_.export / "epm-dev1-seed0")
    run_id = results.query("variant == 'epm'")["run_id"].iloc[0]
    store = open_store(request_.tracking_uri)
    expected = read_frame(store, run_id, names.TEST_PREDICTIONS).sort_values("row")
    texts = pd.read_csv(Path(request_.data) / "test.csv")["text"].tolist()
    np.testing.assert_allclose(model.predict(texts), expected["prediction"], atol=1e-5)
    assert model.predict([]).shape == (0,)
    with pytest.raises(ablation.UsageError, match="give a list of texts"):
        model.predict("a text")


def test_a_report_is_written(
    request_: ablation.RunRequest, results: pd.DataFrame, tmp_path: Path
) -> None:
    lines: list[str] = []
    output = ablation.report(
        ablation.ReportRequest(tracking_uri=request_.tracking_uri),
        tmp_path / "report",
        log=False,
        echo=lines.append,
    )
    assert (output.folder / "report.html").is_file()
    assert output.suite is None
    assert lines


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"variants": "mse,epm"}, "variants = 'mse,epm': give a list"),
        ({"splits": "dev1"}, "splits = 'dev1': give a list"),
        ({"seeds": []}, "no seeds given"),
        ({"seeds": [-1]}, "seed -1"),
        ({"seeds": [True]}, "seed True"),
        ({"seeds": ["0"]}, "seed '0'"),
        ({"variants": ["emp"]}, "did you mean 'epm'"),
        ({"overrides": {"loss.tua": 1}}, "did you mean 'loss.tau'"),
    ],
)
def test_wrong_values_are_explained(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ablation.UsageError, match=message):
        ablation.plan(ablation.RunRequest(**wrong))
