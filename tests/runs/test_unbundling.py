"""Work goes on from a bundle: its runs are reused, reported on, and never written twice."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import ablation
from ablation.core.errors import UsageError
from ablation.runs.unbundling import unbundle
from ablation.tracking import names
from ablation.tracking.bundle import BundleSource
from ablation.tracking.sources import StoreSource
from ablation.tracking.store import Store, open_store
from ablation.tracking.views import all_views
from reports.analysis.collect import open_source
from reports.build import ReportRequest, list_numbers, read_inputs
from reports.contents import compose
from tests.conftest import some_rows, write_corpus

LANGUAGES = ("en", "es", "fr", "zh")
DESCRIPTION = """
[task]
name = "stars"
measures = "stars"

[files]
train = "train.csv"

[columns]
text = "text"
label = "label"
group = "language"
weight = "weight"

[group]
kind = "language"

[label]
lowest = 0
highest = 10
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of its own scale, whose rows have weights."""
    folder = write_corpus(tmp_path_factory.mktemp("stars"), some_rows(20, LANGUAGES))
    table = pd.read_csv(folder / "train.csv")
    table["weight"] = 1.0 + table.index % 3
    table.to_csv(folder / "train.csv", index=False)
    (folder / "corpus.toml").write_text(DESCRIPTION)
    return folder


@pytest.fixture(scope="module")
def request_(corpus: Path, empty_store: Path) -> ablation.RunRequest:
    file = corpus.parent / "trained.db"
    file.write_bytes(empty_store.read_bytes())
    return ablation.RunRequest(
        data=str(corpus),
        profile="smoke",
        variants=("mse", "epm", "ensemble"),
        splits=("dev1",),
        seeds=(0,),
        tracking_uri=f"sqlite:///{file}",
        keep="none",
    )


@pytest.fixture(scope="module")
def bundle(request_: ablation.RunRequest, corpus: Path) -> Path:
    assert all(outcome.state == "finished" for outcome in ablation.run(request_))
    file = corpus.parent / "e.zip"
    return ablation.bundle("ablation", file, tracking_uri=request_.tracking_uri).file


@pytest.fixture
def store(empty_store: Path, tmp_path: Path) -> Store:
    return open_store(f"sqlite:///{shutil.copy(empty_store, tmp_path / 'new.db')}")


def numbers(request: ReportRequest) -> dict[str, list[Any]]:
    """Return texts and values of every table but those that name runs and the store."""
    listed = list_numbers(compose(read_inputs(request)))
    return {
        table: [(cell["row"], cell["column"], cell["text"]) for cell in cells]
        for table, cells in listed.items()
        if table not in ("runs", "origin", "provenance")
    }


def active(store: Store, experiment: str = "ablation") -> list[Any]:
    found = store.client.get_experiment_by_name(experiment)
    assert found is not None
    return list(store.client.search_runs([found.experiment_id]))


def test_run_reuses_what_a_bundle_brought(
    bundle: Path, request_: ablation.RunRequest, store: Store
) -> None:
    written = unbundle(BundleSource(bundle), store)
    assert (written.experiment, written.runs, written.present) == ("ablation", 3, 0)
    elsewhere = replace(request_, tracking_uri=store.uri)
    assert all(run.is_reused for run in ablation.plan(elsewhere).runs)


def test_the_report_is_the_same(bundle: Path, request_: ablation.RunRequest, store: Store) -> None:
    unbundle(BundleSource(bundle), store)
    before = numbers(ReportRequest(tracking_uri=request_.tracking_uri, texts=False))
    assert numbers(ReportRequest(tracking_uri=store.uri, texts=False)) == before


def test_scores_and_curves_are_metrics_again(
    bundle: Path, request_: ablation.RunRequest, store: Store
) -> None:
    unbundle(BundleSource(bundle), store)
    trained = {run.info.run_id: run for run in active(open_store(request_.tracking_uri))}
    for run in active(store):
        original = trained[run.data.tags[names.ORIGINAL]]
        kept = {k: v for k, v in original.data.metrics.items() if not k.startswith("system/")}
        if original.data.tags[names.KIND] == names.RUN:
            assert run.data.metrics == kept
            assert run.info.run_name == original.info.run_name
            assert run.data.params == original.data.params
        else:
            assert run.data.params["data"] == Path(original.data.params["data"]).name
        assert run.info.status == original.info.status
        assert run.info.start_time == original.info.start_time


def test_the_experiments_page_has_its_views_and_keeps_a_description_that_it_has(
    bundle: Path, store: Store
) -> None:
    done = unbundle(BundleSource(bundle), store)
    experiment = store.client.get_experiment_by_name(done.experiment)
    shared = {name for name in experiment.tags if name.startswith("mlflow.sharedViewState.")}
    assert {name.rpartition(".")[2] for name in shared} == set(all_views(()))
    state = json.loads(json.loads(experiment.tags["mlflow.sharedViewState.languages"])["state"])
    of_languages = {f"best/dev_pearson_{language}" for language in LANGUAGES}
    assert {chart["metricKey"] for chart in state["compareRunCharts"]} <= of_languages
    store.client.set_experiment_tag(experiment.experiment_id, names.NOTE, "mine")
    unbundle(BundleSource(bundle), store)
    tags = store.client.get_experiment(experiment.experiment_id).tags
    assert tags[names.NOTE] == "mine"


def test_runs_name_each_other_by_their_new_ids(bundle: Path, store: Store) -> None:
    unbundle(BundleSource(bundle), store)
    runs = active(store)
    ids = {run.info.run_id for run in runs}
    ensemble = next(r for r in runs if r.data.tags.get(names.VARIANT) == "ensemble")
    assert set(json.loads(ensemble.data.tags[names.MEMBER_RUNS]).values()) <= ids
    assert ensemble.data.tags[names.PARENT] in ids


def test_a_second_call_writes_nothing(bundle: Path, store: Store) -> None:
    unbundle(BundleSource(bundle), store)
    before = {run.info.run_id for run in active(store)}
    assert unbundle(BundleSource(bundle), store).present == 3
    assert {run.info.run_id for run in active(store)} == before


def test_what_it_came_from_gets_nothing(bundle: Path, request_: ablation.RunRequest) -> None:
    assert unbundle(BundleSource(bundle), open_store(request_.tracking_uri)).runs == 0


@pytest.mark.parametrize("written", [0, 1, 3])
def test_interrupted_it_goes_on(bundle: Path, store: Store, written: int) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == written:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unbundle(BundleSource(bundle), store, progress=interrupt)
    unbundle(BundleSource(bundle), store)
    originals = [run.data.tags[names.ORIGINAL] for run in active(store)]
    assert len(originals) == len(set(originals)) == 4
    assert all(run.info.status == "FINISHED" for run in active(store))


def test_scale_and_weights_are_in_a_bundle(bundle: Path, request_: ablation.RunRequest) -> None:
    kept = BundleSource(bundle)
    stored = open_source(request_.tracking_uri, "ablation")
    assert isinstance(stored, StoreSource)
    (suite,) = kept.read_runs([names.SUITE])
    layout = json.loads(kept.read_bytes(suite.run_id, names.CORPUS_LAYOUT))
    assert (layout["label"]["lowest"], layout["label"]["highest"]) == (0, 10)
    for run in stored.read_runs([names.RUN]):
        weights = kept.read_frame(run.run_id, names.DEV_PREDICTIONS)["weight"]
        assert weights.nunique() == 3


def test_a_file_that_is_no_bundle_makes_no_store(tmp_path: Path) -> None:
    file = tmp_path / "e.zip"
    file.write_bytes(b"PK")
    with pytest.raises(UsageError, match="is no bundle"):
        ablation.unbundle(file, tracking_uri=f"sqlite:///{tmp_path}/new.db")
    assert not (tmp_path / "new.db").exists()
