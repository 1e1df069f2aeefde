"""Models in MLflow: logged without pickles, registered by a rule, and served by MLflow alone."""

import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from rich.console import Console

from ablation.core.errors import UsageError
from ablation.encoders.packing import Packing
from ablation.models.exported import POOLING_FLAGS
from ablation.runs.model_source import open_model
from ablation.runs.progress import Progress
from ablation.runs.registering import Champion, register_best, register_run
from ablation.runs.request import RunRequest, resolve_run
from ablation.runs.results import RunOutcome
from ablation.runs.runner import run_plan
from ablation.tracking import served_model
from ablation.tracking.models import registered_folder
from ablation.tracking.store import Store, find_experiment, open_store
from ablation.training.pooling import POOLINGS
from tests.conftest import some_rows, write_corpus
from tests.tracking.servers import Server

TEXTS = ["good night, my love", "buses at nine", "x"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("registry")
    shutil.copy(empty_store, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABLATION_STATE", str(folder / "state"))
        yield folder


@pytest.fixture(scope="module")
def store(folder: Path) -> Store:
    return open_store(f"sqlite:///{folder / 'mlflow.db'}")


@pytest.fixture(scope="module")
def outcomes(folder: Path, store: Store) -> list[RunOutcome]:
    seen = ("en", "es", "fr", "zh")
    request = RunRequest(
        data=str(
            write_corpus(
                folder / "corpus", some_rows(20, seen), some_rows(6, (*seen, "ko"), start=100)
            )
        ),
        profile="smoke",
        variants=("mse", "epm", "ensemble"),
        splits=("dev1",),
        overrides={"optimisation.epochs": 2},
        tracking_uri=store.uri,
    )
    return run_plan(resolve_run(request), Progress(Console(file=StringIO())))


@pytest.fixture(scope="module")
def champion(store: Store, outcomes: list[RunOutcome]) -> Champion:
    experiment = find_experiment(store, "ablation")
    assert experiment is not None
    return register_best(store, experiment, "dev1", "intimacy")


def test_the_best_run_by_development_rows_is_the_champion_and_says_why(
    store: Store, outcomes: list[RunOutcome], champion: Champion
) -> None:
    best = max(outcomes, key=lambda o: o.record.dev["pearson"] if o.record else -1)
    assert champion.run_id == best.run_id
    version = store.client.get_model_version_by_alias("intimacy", "champion")
    assert "highest pooled Pearson on development rows of dev1" in str(version.description)
    assert version.run_id == best.run_id


def test_a_champion_that_is_still_the_best_run_is_not_registered_again(
    store: Store, champion: Champion
) -> None:
    experiment = find_experiment(store, "ablation")
    assert experiment is not None
    again = register_best(store, experiment, "dev1", "intimacy")
    assert again.version == champion.version
    assert again.run_id == champion.run_id


def test_the_logged_model_has_signature_example_requirements_and_metrics_but_no_pickle(
    store: Store, champion: Champion
) -> None:
    model = store.client.get_logged_model(champion.version.model_id)
    assert {metric.key for metric in model.metrics or []} >= {"best/dev_pearson", "test/pearson"}
    (test,) = [m for m in model.metrics or [] if m.key == "test/pearson"]
    assert test.dataset_name == "corpus-test"
    with registered_folder(store, champion.version.uri) as exported:
        files = [f for f in exported.parents[1].rglob("*") if f.is_file()]
        assert not [f for f in files if f.suffix in (".pkl", ".bin", ".pt")]
        assert (exported / "README.md").is_file()
        description = (exported.parents[1] / "MLmodel").read_text("utf-8")
    assert str(Path(__file__).parents[2]) not in description  # no path of this machine
    for part in ("signature", "saved_input_example_info", "model_id"):
        assert part in description


def test_the_champion_scores_like_its_run_here_and_in_mlflow(
    store: Store, outcomes: list[RunOutcome], champion: Champion
) -> None:
    with open_model(champion.version.uri, store.uri) as predictor:
        expected = predictor.predict(TEXTS)
    for run in (champion.run_id, *(f"runs:/{champion.run_id}{end}" for end in ("", "/model"))):
        with open_model(run, store.uri) as predictor:
            np.testing.assert_allclose(predictor.predict(TEXTS), expected, atol=1e-6)
    with registered_folder(store, champion.version.uri) as exported:
        loaded = mlflow.pyfunc.load_model(str(exported.parents[1]))
        scored = loaded.predict(pd.DataFrame({"text": TEXTS, "language": "en"}))
        np.testing.assert_allclose(scored["prediction"], expected, atol=1e-5)
        for missing in (None, " ", float("nan")):
            with pytest.raises(MlflowException, match="row 1"):
                loaded.predict(pd.DataFrame({"text": ["a", missing]}))


@pytest.mark.parametrize("pooling", sorted(POOLINGS))
def test_every_pooling_is_served_as_it_was_trained(pooling: str) -> None:
    lengths, hidden = torch.tensor([4, 1, 3]), torch.randn(8, 5)
    grid = torch.full((3, 4, 5), 9.0)
    mask = torch.arange(4)[None, :] < lengths[:, None]
    grid[mask] = hidden
    offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    text = torch.arange(3).repeat_interleave(lengths)
    position = torch.arange(8) - offsets[text]
    packing = Packing(lengths, 1, 4, text, position, offsets.int())
    served = served_model._POOLINGS[POOLING_FLAGS[pooling]](grid, mask[..., None].float())
    torch.testing.assert_close(served, POOLINGS[pooling](hidden, packing))


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("models:/nobody@champion", "nobody"),
        ("models:/intimacy@nobody", "nobody"),
        ("models:/a/b/c", "write models:/NAME@champion"),
    ],
)
def test_a_registered_model_that_is_not_there_is_named(
    store: Store, champion: Champion, uri: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message), registered_folder(store, uri):
        pass


def test_an_ensemble_is_registered_whole(store: Store, outcomes: list[RunOutcome]) -> None:
    ensemble = next(o for o in outcomes if o.record and o.record.members)
    assert ensemble.run_id
    version = register_run(store, ensemble.run_id, "together", "chosen by name").version
    with (
        open_model(version.uri, store.uri) as registered,
        open_model(ensemble.run_id, store.uri) as kept,
    ):
        np.testing.assert_allclose(registered.predict(TEXTS), kept.predict(TEXTS), atol=1e-6)


@pytest.mark.soak
def test_the_real_server_scores_json_and_csv_and_refuses_a_null_text(
    store: Store, champion: Champion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    command = ["mlflow", "models", "serve", "-m", champion.version.uri, "--env-manager", "local"]
    server = Server(command)
    with open_model(champion.version.uri, store.uri) as predictor:
        expected = predictor.predict(TEXTS)

    def answer(kind: str, body: str) -> list[float]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{server.port}/invocations",
            body.encode(),
            {"Content-Type": kind},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return [row["prediction"] for row in json.load(response)["predictions"]]

    try:
        records = json.dumps({"dataframe_records": [{"text": text} for text in TEXTS]})
        np.testing.assert_allclose(answer("application/json", records), expected, atol=1e-5)
        table = pd.DataFrame({"text": TEXTS, "id": 1}).to_csv(index=False)
        np.testing.assert_allclose(answer("text/csv", table), expected, atol=1e-5)
        with pytest.raises(urllib.error.HTTPError) as refused:
            answer("application/json", '{"dataframe_records": [{"text": "a"}, {"text": null}]}')
        assert refused.value.code == 400
    finally:
        server.kill()


@pytest.mark.soak
def test_mlflow_models_predict_scores_a_csv(
    store: Store, champion: Champion, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    pd.DataFrame({"text": TEXTS}).to_csv(tmp_path / "texts.csv", index=False)
    arguments = ("-m", champion.version.uri, "--env-manager", "local", "-t", "csv")
    files = ("-i", str(tmp_path / "texts.csv"), "-o", str(tmp_path / "scored.json"))
    subprocess.run(
        [sys.executable, "-m", "mlflow", "models", "predict", *arguments, *files],
        check=True,
        capture_output=True,
    )
    rows = json.loads((tmp_path / "scored.json").read_text())["predictions"]
    with open_model(champion.version.uri, store.uri) as predictor:
        np.testing.assert_allclose(
            [row["prediction"] for row in rows], predictor.predict(TEXTS), atol=1e-5
        )
