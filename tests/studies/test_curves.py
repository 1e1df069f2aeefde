"""The curve study: its conditions, what is tracked, and how it is resumed."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow.entities import Run
from rich.console import Console
from typer.testing import CliRunner

from ablation.cli.main import app
from ablation.core.errors import UsageError
from ablation.core.identity import RunKey
from ablation.core.state import run_slot, state_folder
from ablation.runs.progress import Progress
from ablation.runs.results import RunOutcome
from ablation.tracking import names
from ablation.tracking.reading import read_frame, read_json
from ablation.tracking.store import experiment_id, open_store
from ablation.training.checkpoints import save
from studies.curves import CurvesRequest, resolve_curves, run_curves
from studies.study import SweepRequest
from tests.training.test_checkpoints import some


def curves_request(corpus: Path | str, store_uri: str | None) -> CurvesRequest:
    return CurvesRequest(
        taus=(0.2,),
        seeds=(0,),
        data=str(corpus),
        profile="smoke",
        overrides={"optimisation.epochs": 1, "optimisation.log_every": 1},
        tracking_uri=store_uri,
    )


@pytest.fixture
def request_(small_corpus: Path, store_uri: str) -> CurvesRequest:
    return curves_request(small_corpus, store_uri)


@dataclass(frozen=True)
class Trained:
    """A study of one seed, and the same study with a second one, which several tests read."""

    request: CurvesRequest
    first: list[RunOutcome]
    second: list[RunOutcome]

    @property
    def store_uri(self) -> str:
        return str(self.request.tracking_uri)


@pytest.fixture(scope="module")
def trained(small_study: SweepRequest) -> Trained:
    request = curves_request(small_study.data, small_study.tracking_uri)
    first = run_curves(resolve_curves(request), quiet())
    second = run_curves(resolve_curves(replace(request, seeds=(0, 1))), quiet())
    return Trained(request, first, second)


def quiet() -> Progress:
    return Progress(Console(quiet=True))


def tracked(uri: str) -> list[Run]:
    client = open_store(uri).client
    stored = client.get_experiment_by_name("ablation")
    assert stored
    return list(client.search_runs([stored.experiment_id], order_by=["attributes.start_time ASC"]))


def test_every_condition_once_and_those_without_a_temperature_not_again(
    request_: CurvesRequest,
) -> None:
    resolved = resolve_curves(replace(request_, taus=(2, 0.02), seeds=(0, 1)))
    labels = [str(curve.label) for curve in resolved.curves]
    assert len(labels) == len(set(labels)) == 2 * (2 + 2 * 2 * 2)
    assert {c.planned.key.variant for c in resolved.curves if c.tau is None} == {"mse", "epm"}
    assert "mse+cl(attract) tau=0.02 dev1 seed 1" in labels
    assert all(
        c.planned.config is not None and c.tau in (None, c.planned.config.loss.tau)
        for c in resolved.curves
    )
    only_4 = resolve_curves(replace(request_, figures=("4",)))
    assert [c.planned.key.variant for c in only_4.curves] == ["mse", "epm"]


def test_all_conditions_of_a_seed_begin_with_the_same_weights_and_batches(
    trained: Trained,
) -> None:
    store, first = open_store(trained.store_uri), dict[str, set[float]]()
    for run in tracked(trained.store_uri):
        if run.data.tags[names.KIND] == names.CURVE:
            curves = read_frame(store, run.info.run_id, names.CURVES)
            points = curves.set_index(["step", "name"])["value"]
            first.setdefault(run.data.tags[names.SEED], set()).add(points[1, "train/pearson"])
            assert points[1, "gradient/sum"] > 0
    assert {seed: len(values) for seed, values in first.items()} == {"0": 1, "1": 1}
    assert first["0"] != first["1"]


def test_runs_stand_below_the_study_and_never_saw_the_test_rows(trained: Trained) -> None:
    store = open_store(trained.store_uri)
    assert {outcome.state for outcome in trained.first} == {"finished"}
    study, *runs = tracked(trained.store_uri)[:7]
    assert study.data.tags[names.KIND] == names.CURVE_STUDY
    outcomes = read_json(store, study.info.run_id, names.OUTCOMES_FILE)
    assert len(outcomes) == len(runs) == 6
    for run in runs:
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == study.info.run_id
        assert names.TEST_READ not in run.data.tags
        predictions = store.client.list_artifacts(run.info.run_id, "predictions")
        assert names.TEST_PREDICTIONS not in {file.path for file in predictions}
        assert names.DEV_PREDICTIONS in {file.path for file in predictions}
        environment = read_json(store, run.info.run_id, names.ENVIRONMENT_FILE)
        assert environment["torch_threads"] >= 1
        assert "gradient/regression" in run.data.metrics
        assert ("gradient/cosine" in run.data.metrics) == ("cl" in run.data.tags[names.VARIANT])


def test_what_had_finished_is_reused_and_more_seeds_are_added(trained: Trained) -> None:
    assert [o.state for o in trained.second if o.key.seed == 0] == ["reused"] * 6
    assert [o.state for o in trained.second if o.key.seed == 1] == ["finished"] * 6
    fresh = resolve_curves(replace(trained.request, figures=("4",), fresh=True))
    assert not any(curve.planned.is_reused for curve in fresh.curves)


def test_a_curve_that_breaks_is_failed_and_the_others_go_on(
    request_: CurvesRequest, store_uri: str
) -> None:
    wild = {
        "optimisation.lr_encoder": 1e30,
        "optimisation.warmup": 0,
        "optimisation.epochs": 1,
        "optimisation.batch_size": 8,
    }
    outcomes = run_curves(
        resolve_curves(replace(request_, figures=("4",), overrides=wild)), quiet()
    )
    assert [outcome.state for outcome in outcomes] == ["failed", "failed"]
    study, *runs = tracked(store_uri)
    assert study.info.status == "FAILED"
    assert study.data.tags[names.REASON] == "2 runs failed"
    assert all(run.data.tags[names.REASON].startswith("NotFiniteError: train/") for run in runs)


def test_a_curve_that_was_broken_off_goes_on_to_the_same_points(
    request_: CurvesRequest, store_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = replace(
        request_,
        figures=("5",),
        signs=("attract",),
        overrides={"optimisation.epochs": 4, "optimisation.log_every": 1},
    )
    real = Progress.epoch

    def broken_off(
        progress: Progress, key: RunKey, epoch: int, scores: Mapping[str, float]
    ) -> None:
        real(progress, key, epoch, scores)
        if key.variant.startswith("epm") and epoch == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "epoch", broken_off)
        with pytest.raises(KeyboardInterrupt):
            run_curves(resolve_curves(request), quiet())
    again = run_curves(resolve_curves(request), quiet())
    assert [outcome.state for outcome in again] == ["reused", "finished"]
    undisturbed = run_curves(resolve_curves(replace(request, fresh=True)), quiet())
    store = open_store(store_uri)
    assert store.client.get_run(str(again[1].run_id)).data.tags[names.RESUMED] == "3"
    for one, other in zip(again, undisturbed, strict=True):
        frames = [read_frame(store, str(outcome.run_id), names.CURVES) for outcome in (one, other)]
        pd.testing.assert_frame_equal(*frames, check_exact=True)
        assert "gradient/cosine" in set(frames[0]["name"])


def test_damaged_checkpoints_of_a_curve_are_named_and_none_is_left_of_what_finished(
    request_: CurvesRequest, store_uri: str
) -> None:
    resolved = resolve_curves(replace(request_, figures=("4",)))
    first, store = resolved.curves[0], open_store(store_uri)
    slot = run_slot(store.uri, experiment_id(store, "ablation"), first.planned.identity.digest)
    folder = state_folder() / "checkpoints" / slot
    save(folder, some(1))
    (folder / "epoch-000001.safetensors").write_bytes(b"damaged")
    screen = io.StringIO()
    outcomes = run_curves(resolved, Progress(Console(file=screen, width=200)))
    assert [outcome.state for outcome in outcomes] == ["finished", "finished"]
    lines = [line for line in screen.getvalue().splitlines() if "corrupt" in line]
    names_of_files = "epoch-000001.json, epoch-000001.safetensors"
    assert lines == [f"{first.label}: removed corrupt or incomplete checkpoints: {names_of_files}"]
    assert not folder.exists()


def test_processes_side_by_side_give_the_curves_of_one(
    request_: CurvesRequest, store_uri: str, tmp_path: Path
) -> None:
    request = replace(request_, signs=("attract",), cpus_per_run=1)
    here = run_curves(resolve_curves(request), quiet())
    side_by_side = replace(request, on="local:2", fresh=True)
    there = run_curves(resolve_curves(side_by_side), quiet())
    assert [outcome.state for outcome in there] == ["finished"] * 4
    assert [outcome.key for outcome in there] == [outcome.key for outcome in here]
    store = open_store(store_uri)
    for one, other in zip(here, there, strict=True):
        assert one.run_id != other.run_id
        frames = [read_frame(store, str(outcome.run_id), names.CURVES) for outcome in (one, other)]
        pd.testing.assert_frame_equal(*frames, check_exact=True)
    assert {run.info.status for run in tracked(store_uri)} == {"FINISHED"}
    # What has finished is reused, and no process is started for it.
    again = run_curves(resolve_curves(replace(request, on="local:2")), quiet())
    assert [outcome.state for outcome in again] == ["reused"] * 4


def test_a_store_of_this_machine_is_refused_for_workers_on_others(
    request_: CurvesRequest, store_uri: str
) -> None:
    with pytest.raises(UsageError, match=f"mlflow server --backend-store-uri {store_uri}"):
        run_curves(resolve_curves(replace(request_, on="slurm")), quiet())
    assert tracked(store_uri) == []


#: A row of the figures under a name of its own, a loss with a temperature, and an ensemble.
ROWS = """
title = "Mine"

[variants.huber]
title = "Huber"
question = "?"
loss.regression = "huber"

[variants.labels]
title = "SupCon"
question = "?"
loss.contrastive = "supcon"

[variants.cold]
title = "SupCon, cold"
question = "?"
loss.contrastive = "supcon"
loss.tau = 0.05

[variants.ensemble]
title = "All"
question = "?"
combines_runs = true
"""


class TestRows:
    """Curves of rows of a table of variants instead of the figures'."""

    def test_each_is_trained_once_or_for_every_temperature_of_its_loss(
        self, request_: CurvesRequest, tmp_path: Path
    ) -> None:
        (tmp_path / "rows.toml").write_text(ROWS)
        rows = replace(request_, taus=(0.1, 1.0), variants=(tmp_path / "rows.toml",))
        assert [str(curve.label) for curve in resolve_curves(rows).curves] == [
            "huber dev1 seed 0",
            "labels tau=0.1 dev1 seed 0",
            "cold tau=0.05 dev1 seed 0",
            "labels tau=1 dev1 seed 0",
        ]
        papers = resolve_curves(replace(rows, variants=("epm+ft", "mse")))
        assert [curve.planned.key.variant for curve in papers.curves] == ["mse", "epm+ft"]

    def test_the_command_reports_them_without_verdicts(
        self,
        request_: CurvesRequest,
        store_uri: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "rows.toml").write_text(ROWS)
        arguments = ["curves", "--variants", "rows.toml,huber,labels", "--taus", "0.2"]
        arguments += ["--seeds", "0", "--data", str(request_.data), "--profile", "smoke"]
        done = CliRunner().invoke(app, [*arguments, "--tracking-uri", store_uri])
        assert done.exit_code == 0, done.output
        page = (tmp_path / "report-ablation" / "report.html").read_text("utf-8")
        assert "labels (τ = 0.2)" in page
        assert "The training curves against Section 4.2" not in page
        (study,) = [
            run for run in tracked(store_uri) if run.data.tags[names.KIND] == names.CURVE_STUDY
        ]
        files = {
            file.path for file in open_store(store_uri).client.list_artifacts(study.info.run_id)
        }
        assert names.VARIANTS_FILE in files
        assert names.VERDICTS_FILE not in files


def test_the_command_ends_with_a_report_and_verdicts_in_the_store(
    request_: CurvesRequest, store_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [
        "curves",
        "--taus",
        "0.2",
        "--seeds",
        "0,1",
        "--data",
        str(request_.data),
        "--profile",
        "smoke",
    ]
    done = CliRunner().invoke(app, [*arguments, "--tracking-uri", store_uri])
    assert done.exit_code == 0, done.output
    assert "Report: " in done.output
    page = (tmp_path / "report-ablation" / "report.html").read_text("utf-8")
    assert "The study of training curves" in page
    study = tracked(store_uri)[0]
    verdicts = read_json(open_store(store_uri), study.info.run_id, names.VERDICTS_FILE)["verdicts"]
    assert {v["id"] for v in verdicts} == {
        "faster",
        "smoother",
        "slower",
        "cancelling",
        "vanishing",
        "amplified",
        "collapse",
    }
    assert {v["condition"] for v in verdicts} == {
        None,
        "Eq. 9 as printed, τ = 0.2",
        "Eq. 9 attract, τ = 0.2",
    }
    assert "verdict/vanishing as_printed tau 0.2/mean" in study.data.metrics


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"figures": ["6"]}, "--figures 6: known are 4, 5"),
        ({"figures": []}, r"--figures \(nothing\): known are 4, 5"),
        ({"signs": ["printed"]}, "--signs printed: did you mean 'as_printed'"),
        ({"taus": [0.2, -1]}, "give temperatures above 0"),
        ({"taus": []}, "give temperatures above 0"),
        ({"split": "dev1,dev2"}, "a curve study trains on one split"),
        ({"split": "dev3"}, "dev3"),
        ({"seeds": [-1]}, "seed -1"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_trained(
    request_: CurvesRequest, store_uri: str, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        resolve_curves(replace(request_, **change))
    assert open_store(store_uri).client.get_experiment_by_name("ablation") is None
