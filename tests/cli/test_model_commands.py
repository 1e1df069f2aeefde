"""`ablation predict` and `ablation submit`, as they are typed."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ablation.cli.main import main
from ablation.tracking import names
from ablation.tracking.reading import read_frame, read_json, read_runs
from ablation.tracking.store import Store, open_store
from tests.conftest import some_rows, write_corpus

ROOT = Path(__file__).resolve().parents[2]
Typed = Callable[..., tuple[object, str, str]]
SMOKE = ("--profile", "smoke", "--set", "optimisation.epochs=2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    folder = tmp_path_factory.mktemp("models")
    seen = ("en", "es", "fr", "zh")
    write_corpus(folder / "corpus", some_rows(20, seen), some_rows(6, (*seen, "ko"), start=100))
    shutil.copy(empty_store, folder / "mlflow.db")
    return folder


@pytest.fixture
def ablation(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Typed:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ABLATION_STATE", str(folder / "state"))

    def run(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["ablation", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return run


@pytest.fixture
def store(folder: Path, ablation: Typed) -> Store:
    """A store with the runs of three rows, two seeds each, whose models are exported."""
    if not (folder / "exported").exists():
        code, _, err = ablation(
            *("run", "--data", "corpus", *SMOKE, "--variants", "mse,epm,ensemble"),
            *("--splits", "dev1", "--seeds", "0,1", "--no-report", "--export", "exported"),
        )
        assert code == 0, err
    return open_store(f"sqlite:///{folder / 'mlflow.db'}")


def finished(store: Store) -> dict[str, str]:
    """Ids of the runs by name."""
    experiment = store.client.get_experiment_by_name("ablation")
    assert experiment is not None
    rows = read_runs(store, experiment.experiment_id, [names.RUN])
    return {row.tags["mlflow.runName"]: row.run_id for row in rows}


def test_a_folder_an_ensemble_and_a_run_score_a_file_as_their_runs_did(
    ablation: Typed, store: Store, folder: Path
) -> None:
    for name in ("mse", "ensemble"):
        expected = read_frame(store, finished(store)[f"{name} dev1 seed 0"], names.TEST_PREDICTIONS)
        code, out, err = ablation("predict", f"exported/{name}-dev1-seed0", "corpus/test.csv")
        assert code == 0, err
        scored = pd.read_csv(io.StringIO(out))
        given = pd.read_csv(folder / "corpus" / "test.csv")
        pd.testing.assert_frame_equal(scored[given.columns], given)
        np.testing.assert_allclose(scored["prediction"], expected["prediction"], atol=1e-5)
        file = folder / "exported" / f"{name}-dev1-seed0" / "ensemble.json"
        members = json.loads(file.read_text())["members"] if file.exists() else {}
        assert ("spread" in scored) == (len(members) > 1)


def test_kept_weights_score_like_the_export(ablation: Typed, store: Store, folder: Path) -> None:
    best = [
        run_id
        for name, run_id in finished(store).items()
        if name.startswith(("mse", "ensemble"))
        and ablation("predict", run_id, "corpus/test.csv", "--out", f"{run_id}.jsonl")[0] == 0
    ]
    assert best  # one seed at least of each row
    rows = [json.loads(line) for line in (folder / f"{best[0]}.jsonl").read_text().splitlines()]
    expected = read_frame(store, best[0], names.TEST_PREDICTIONS)
    np.testing.assert_allclose(
        [row["prediction"] for row in rows], expected["prediction"], atol=1e-5
    )


def test_a_run_ends_with_its_best_model_registered(ablation: Typed, store: Store) -> None:
    rows = ("run", "--data", "corpus", *SMOKE, "--variants", "mse,epm,ensemble")
    options = ("--splits", "dev1", "--seeds", "0,1", "--no-report", "--register", "at-the-end")
    code, out, err = ablation(*rows, *options)
    assert code == 0, err
    assert "models:/at-the-end@champion" in out
    version = store.client.get_model_version_by_alias("at-the-end", "champion")
    assert version.run_id in finished(store).values()
    assert "development rows of dev1" in str(version.description)


def test_a_model_that_is_not_kept_can_not_be_registered(ablation: Typed) -> None:
    code, _, err = ablation("run", *SMOKE, "--keep", "none", "--register", "nothing")
    assert code == 2
    assert "--keep" in err


def test_mlflow_run_scores_a_file(
    ablation: Typed, store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, file = folder / "exported" / "mse-dev1-seed0", folder / "corpus" / "test.csv"
    parameters = {"model": model, "file": file, "out": folder / "by-mlflow.csv"}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", "run", str(ROOT), "-e", "predict"]
        + ["--env-manager", "local"]
        + [word for name, value in parameters.items() for word in ("-P", f"{name}={value}")],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stderr
    expected = read_frame(store, finished(store)["mse dev1 seed 0"], names.TEST_PREDICTIONS)
    scored = pd.read_csv(folder / "by-mlflow.csv")
    np.testing.assert_allclose(scored["prediction"], expected["prediction"], atol=1e-5)


def test_another_precision_moves_the_last_digits_only(ablation: Typed, store: Store) -> None:
    scores = {}
    for precision in ("float32", "bfloat16"):
        arguments = ("exported/mse-dev1-seed0", "corpus/test.csv", "--precision", precision)
        code, out, err = ablation("predict", *arguments)
        assert code == 0, err
        scores[precision] = pd.read_csv(io.StringIO(out))["prediction"]
    assert (scores["float32"] != scores["bfloat16"]).any()
    np.testing.assert_allclose(scores["bfloat16"], scores["float32"], atol=0.05)
    code, _, err = ablation(*("predict", *arguments[:2], "--precision", "bfloat"))
    assert code == 2
    assert "did you mean 'bfloat16'?" in err


def test_standard_input_is_read(
    ablation: Typed, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(b"text\ngood night my love\nbuses at nine\n"))
    monkeypatch.setattr(sys, "stdin", stdin)
    code, out, _ = ablation("predict", "exported/mse-dev1-seed0", "-")
    assert code == 0
    assert out.splitlines()[0] == "text,prediction"
    assert len(out.splitlines()) == 3


def test_a_model_that_is_not_there_is_named_in_one_line(ablation: Typed, store: Store) -> None:
    for source, message in (
        ("nowhere", "no such folder"),
        ("0" * 32, "not in this tracking store"),
        ("corpus", "not a model"),
    ):
        code, _, err = ablation("predict", source, "corpus/test.csv")
        assert code == 2
        assert message in err
        assert len(err.splitlines()) == 1


def test_a_submission_has_a_score_for_each_test_row_and_is_made_once(
    ablation: Typed, store: Store, folder: Path
) -> None:
    arguments = (
        *("submit", "--data", "corpus", *SMOKE, "--variants", "mse,epm", "--seeds", "0,1"),
        *("--out", "out/submission.csv"),
    )
    code, out, err = ablation(*arguments)
    assert code == 0, err
    assert "development foretells r =" in out
    assert "optimism" in out
    first = (folder / "out" / "submission.csv").read_text()
    table = pd.read_csv(io.StringIO(first))
    assert list(table.columns) == ["row", "score"]
    assert list(table["row"]) == list(range(30))
    again = ablation(*arguments)[1]
    assert again.count("reused") == 8  # four development runs, four refits
    table_again = pd.read_csv(folder / "out" / "submission.csv")
    np.testing.assert_allclose(table_again["score"], table["score"], atol=2e-6)


@pytest.fixture
def suites(ablation: Typed, folder: Path) -> None:
    """Two experiments with finished runs: "finished", and "other rows" on another corpus."""
    if (folder / "others").exists():
        return
    for corpus, experiment in (("corpus", "finished"), ("others", "other rows")):
        if corpus == "others":
            some, test = some_rows(20, ("en", "es")), some_rows(6, ("en", "ko"), start=300)
            write_corpus(folder / corpus, some, test)
        code, _, err = ablation(
            *("run", "--data", corpus, *SMOKE, "--variants", "mse,epm", "--splits", "dev1"),
            *("--seeds", "0,1", "--experiment", experiment, "--no-report"),
        )
        assert code == 0, err


@pytest.mark.usefixtures("suites")
def test_finished_runs_are_submitted_without_training(
    ablation: Typed, store: Store, folder: Path
) -> None:
    split = ("--split", "dev1")
    code, out, err = ablation(
        "submit", "--from-runs", "--experiment", "finished", *split, "--out", "finished.csv"
    )
    assert code == 0, err
    assert "nested halves" in out
    experiment = store.client.get_experiment_by_name("finished").experiment_id
    (tracked,) = read_runs(store, experiment, [names.SUBMISSION])
    (selected,) = read_json(store, tracked.run_id, "selected.json")
    runs = {
        f"{run.tags[names.VARIANT]} dev1 seed {run.tags[names.SEED]}": run.run_id
        for run in read_runs(store, experiment, [names.RUN])
    }
    assert selected["candidates"] == len(runs) == 4
    members = selected["members"]
    predictions = [
        read_frame(store, runs[key], names.TEST_PREDICTIONS).sort_values("row")["prediction"]
        for key in members
    ]
    expected = np.average(predictions, axis=0, weights=list(members.values()))
    written = pd.read_csv(folder / "finished.csv")
    np.testing.assert_allclose(written["score"], expected, atol=1e-6)
    # Of two experiments, here one and its copy, every run counts twice.
    for command in (
        ("bundle", "--experiment", "finished", "--out", "finished.zip"),
        ("unbundle", "finished.zip", "--experiment", "copy"),
    ):
        assert ablation(*command)[0] == 0
    code, out, err = ablation(
        "submit", "--from-runs", "--experiment", "finished,copy", "--out", "both.csv"
    )
    assert code == 0, err
    assert "of 8 runs" in out
    assert "copy: " in out or "finished: " in out
    np.testing.assert_allclose(pd.read_csv(folder / "both.csv")["score"], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--experiment", "nowhere"), "there is none"),
        (("--experiment", "finished,nowhere"), "there is none"),
        (("--experiment", "finished,other rows"), "on the corpus of 'finished'"),
        (("--experiment", "finished", "--split", "dve1"), "did you mean 'dev1'?"),
        (("--experiment", "finished", "--variants", "epn"), "did you mean 'epm'?"),
        (("--experiment", "finished", "--seeds", "7"), "these seeds"),
    ],
)
@pytest.mark.usefixtures("suites")
def test_finished_runs_that_are_not_there_are_named(
    ablation: Typed, arguments: tuple[str, ...], message: str
) -> None:
    code, _, err = ablation("submit", "--from-runs", *arguments)
    assert code == 2
    assert message in err


def test_what_can_not_be_submitted_is_said_before_training(ablation: Typed, folder: Path) -> None:
    write_corpus(folder / "no-test", some_rows(20, ("en", "es")))
    for arguments, message in (
        (("--data", "no-test"), "no test rows"),
        (("--data", "corpus", "--variants", "mse,ensemble"), "trains nothing"),
        (("--data", "corpus", "--split", "dev2:all"), "one split"),
    ):
        code, _, err = ablation("submit", *SMOKE, *arguments)
        assert code == 2
        assert message in err
