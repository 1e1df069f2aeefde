"""The measurements: contenders compute the same, every section has rows, and MLflow the table."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ablation.bench import training
from ablation.bench.memory import can_measure, measure_memory, measure_runs
from ablation.bench.prediction import measure_prediction
from ablation.bench.session import BenchRequest, resolve_bench, select_sections
from ablation.bench.suite import measure_suite
from ablation.bench.table import Row
from ablation.bench.tracking import measure_tracking
from ablation.bench.training import floating_point_operations, loss_differences, measure_training
from ablation.bench.workload import Workload, half_frozen, make_workload, our_model
from ablation.cli.main import app
from ablation.config.overrides import load_profile, resolve_config
from ablation.config.schema import RunConfig
from ablation.core.errors import RunError, UsageError
from ablation.data.corpus import load_corpus
from ablation.tracking import names
from ablation.tracking.store import open_store
from tests.commands import fork_context, run


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return resolve_config(load_profile("smoke") | {"optimisation.batch_size": 16}, "mse")


@pytest.fixture(scope="module")
def workload(config: RunConfig) -> Workload:
    return make_workload(load_corpus("demo"), config, rows=48)


@pytest.mark.parametrize("frozen", [False, True], ids=["all layers", "half frozen"])
def test_losses_are_the_trainers(workload: Workload, frozen: bool) -> None:
    assert max(loss_differences(half_frozen(workload) if frozen else workload)) < 1e-5


def test_a_profile_with_a_rate_for_each_layer_is_compared_at_one_rate(config: RunConfig) -> None:
    falling = config.optimisation.model_copy(update={"lr_layer_decay": 0.5})
    layered = make_workload(
        load_corpus("demo"), config.model_copy(update={"optimisation": falling}), rows=48
    )
    assert max(loss_differences(layered)) < 1e-5


def test_another_mathematics_is_noticed(
    workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_another_head(*args: object, **kwargs: object) -> torch.nn.Module:
        model = our_model(workload, dropout=0.0)
        torch.nn.init.normal_(model.head.weight)
        return model

    monkeypatch.setattr(training, "our_model", with_another_head)
    with pytest.raises(RunError, match="losses differ"):
        measure_training(workload, 1, frozen=False)


def test_both_contenders_get_the_same_texts(workload: Workload) -> None:
    kept = workload.prepared.vocabulary.kept
    for ours, whole in zip(workload.texts.ids, workload.whole.ids, strict=True):
        np.testing.assert_array_equal(kept[ours], whole)


@pytest.mark.parametrize("pays", [False, True])
def test_training_rows_have_speed_ceiling_and_share(
    workload: Workload, pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "bfloat16_pays", lambda device: pays)
    if pays:  # the other case measures the rate
        monkeypatch.setattr(training, "matrix_rate", lambda device, dtype: 1e12)
    some = workload.first(32)  # two batches: the first is warm-up
    rows = [
        *measure_training(some, 1 if pays else 2, frozen=False),
        *measure_training(some, 1, frozen=True),
    ]
    against = [
        "padded to 32 tokens",
        *(["at its best, which is in bfloat16", "both in bfloat16"] if pays else ["at its best"]),
    ]
    for row, words in zip(rows, [*against, "share", *against], strict=True):
        assert words in row.what
    ordinary = [1 if pays else 2] * (len(against) + 1)
    assert [len(row.values) for row in rows] == ordinary + [1] * len(against)
    assert all(value > 0 for row in rows for value in row.values)
    assert all(0 < value < 1 for value in rows[len(against)].values)


def test_operations_are_those_of_the_layers_that_train(workload: Workload) -> None:
    whole, half = (
        floating_point_operations(workload),
        floating_point_operations(half_frozen(workload)),
    )
    assert whole == pytest.approx(2 * half)
    # 4 layers of 4 * 32 * 32 + 2 * 32 * 64 weights, 6 operations each a token; attention is
    # quadratic in the length.
    lengths = workload.texts.lengths
    assert whole == 6 * 4 * 8192 * lengths.sum() + 12 * 4 * 32 * (lengths**2).sum()


@pytest.mark.parametrize("prefix", ["", "query: "])
def test_prediction_equals_the_pipelines(config: RunConfig, prefix: str) -> None:
    config = config.model_copy(update={"model": config.model.model_copy(update={"prefix": prefix})})
    (row,) = measure_prediction(make_workload(load_corpus("demo"), config, rows=48), 1)
    assert row.values[0] > 0
    assert row.parts["batch_size"] in (1, 4, 8, 16, 32, 64)
    ceiling = float(row.ceiling.partition("x")[0])
    assert ceiling > row.values[0], "faster than the matrix products alone"


@pytest.mark.skipif(not can_measure(), reason="this system tells no peak of a process")
def test_memory_is_that_of_two_processes(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    forked = fork_context()
    monkeypatch.setattr("multiprocessing.get_context", lambda method: forked)
    (row,) = measure_memory("demo", config, 1)
    assert row.parts["ours_mib"][0] > 0
    assert row.parts["best_mib"][0] > 0


@pytest.mark.skipif(not can_measure(), reason="this system tells no peak of a process")
@pytest.mark.skipif(torch.cuda.is_available(), reason="measures a CPU's memory")
def test_memory_is_measured_run_by_run(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    forked = fork_context()
    monkeypatch.setattr("multiprocessing.get_context", lambda method: forked)
    peak, growth = measure_runs("demo", config, runs=3)
    assert len(peak.parts["peak"]) == len(peak.parts["after"]) == 3
    assert all(p >= a > 0 for p, a in zip(peak.parts["peak"], peak.parts["after"], strict=True))
    assert growth.values[0] > 0


def test_tracking_is_measured_on_both_kinds_of_store(workload: Workload) -> None:
    rows = measure_tracking(workload.first(16), 1)
    assert [row.what.split(", ")[1] for row in rows] == ["SQLite", "a loopback server"]
    assert all(row.values[0] > 0 for row in rows)


def test_the_whole_is_set_against_its_runs(
    small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subprocess.run", run)  # processes that need not load the libraries first
    ratio, whole = measure_suite(
        str(small_corpus), "smoke", 1, variants="mse,epm", splits=("dev1",)
    )
    assert ratio.parts["whole_s"] == list(whole.values)
    assert ratio.values[0] == pytest.approx(
        ratio.parts["whole_s"][0] / ratio.parts["one_by_one_s"][0]
    )


def test_the_command_prints_and_keeps_the_table(store_uri: str, tmp_path: Path) -> None:
    arguments = [
        "bench",
        "--only",
        "prediction",
        "--profile",
        "smoke",
        "--rows",
        "24",
        "--rounds",
        "1",
    ]
    done = CliRunner().invoke(
        app, [*arguments, "--tracking-uri", store_uri, "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 0, done.output
    assert "transformers.pipeline" in done.output
    assert "corpus demo, encoder tiny" in done.output
    client = open_store(store_uri).client
    experiment = client.get_experiment_by_name("bench")
    assert experiment
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.data.tags[names.KIND]) == ("FINISHED", names.BENCH)
    assert [name for name in run.data.metrics if name.startswith("bench/prediction/")]
    (figures,) = json.loads((tmp_path / "out" / names.BENCH_FIGURES).read_text())
    assert figures["median"] == next(
        v for n, v in run.data.metrics.items() if n.startswith("bench/")
    )
    assert "| prediction" in (tmp_path / "out" / names.BENCH_TABLE).read_text()


def test_a_bench_that_fails_is_a_failed_run(
    store_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(workload: Workload, rounds: int) -> None:
        raise RunError("predictions differ")

    monkeypatch.setattr("ablation.bench.session.measure_prediction", fails)
    done = CliRunner().invoke(
        app, ["bench", "--only", "prediction", "--profile", "smoke", "--tracking-uri", store_uri]
    )
    assert isinstance(done.exception, RunError)
    client = open_store(store_uri).client
    experiment = client.get_experiment_by_name("bench")
    assert experiment
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["FAILED"]


def test_measured_commands_know_nothing_of_the_run_that_mlflow_opened(
    store_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, seen = open_store(store_uri).client, list[str]()
    project = {"mlflow.source.type": "PROJECT"}
    opened = client.create_run(client.create_experiment("bench"), tags=project).info
    monkeypatch.setenv("MLFLOW_RUN_ID", opened.run_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", opened.experiment_id)

    def looks(workload: Workload, rounds: int) -> list[Row]:
        seen.extend(
            name for name in os.environ if name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID")
        )
        return [Row("prediction", "looked", (1.0,), "x")]

    monkeypatch.setattr("ablation.bench.session.measure_prediction", looks)
    done = CliRunner().invoke(
        app, ["bench", "--only", "prediction", "--profile", "smoke", "--tracking-uri", store_uri]
    )
    assert done.exit_code == 0, done.output
    assert not seen
    assert client.get_run(opened.run_id).info.status == "FINISHED"


@pytest.mark.parametrize(
    ("name", "message"),
    [("trainin", "did you mean 'training'"), ("x", "known are training, frozen")],
)
def test_unknown_sections_are_refused(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        select_sections([name])


def test_without_accelerate_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, store_uri: str
) -> None:
    monkeypatch.setattr("ablation.bench.session.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"ablation-suite\[bench\]"):
        resolve_bench(BenchRequest(tracking_uri=store_uri))
