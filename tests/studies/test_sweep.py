"""Sweeps: every trial is tracked, studies are resumed by name, and test rows are never read."""

import json
import math
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.entities import Run
from optuna.trial import TrialState
from safetensors.torch import load_file, save_file

from ablation.config.overrides import load_profile, resolve_config
from ablation.core.errors import RunError, UsageError
from ablation.core.state import checkpoints_root
from ablation.encoders.tiny import tiny_encoder
from ablation.tracking import names
from ablation.tracking.reading import read_json
from ablation.tracking.store import open_store
from studies.outcome import best_trials, conclude
from studies.profile import scores_of
from studies.space import SHIPPED
from studies.study import SweepRequest, resolve_sweep
from studies.sweep import sweep
from studies.trial import PruningReporter
from tests.studies.conftest import FinishedSweep


def capture_lines() -> tuple[list[str], Callable[[str], None]]:
    """Return a list and a function that appends a line to it."""
    lines: list[str] = []
    return lines, lines.append


def ignore_line(line: str) -> None:
    """Take a line and do nothing."""


def tracked(uri: str, experiment: str = "studies") -> list[Run]:
    """Return an experiment's runs, the oldest first."""
    client = open_store(uri).client
    stored = client.get_experiment_by_name(experiment)
    assert stored
    return list(client.search_runs([stored.experiment_id], order_by=["attributes.start_time ASC"]))


def test_every_trial_is_a_run_below_the_studys(finished: FinishedSweep) -> None:
    store = open_store(finished.store_uri)
    assert finished.lines[0] == "study 'depth': 0 of 5 trials done"
    assert len([line for line in finished.lines if line.startswith("trial ")]) == 5
    study_run, *trials = tracked(finished.store_uri)
    assert study_run.data.tags[names.KIND] == names.STUDY
    assert study_run.info.status == "FINISHED"
    assert {t.data.tags["mlflow.parentRunId"] for t in trials} == {study_run.info.run_id}
    depths = sorted(int(t.data.params["trial.model.freeze_layers"]) for t in trials)
    assert depths == [0, 1, 2, 3, 4]
    for run in trials:
        assert run.info.status == "FINISHED"
        assert run.data.tags[names.TRIAL_STATE] == "COMPLETE"
        assert run.data.metrics["objective/pearson"] == run.data.metrics["best/dev_pearson"]
        environment = read_json(store, run.info.run_id, names.ENVIRONMENT_FILE)
        assert environment["torch_threads"] >= 1
    best = best_trials(finished.result.study)[0]
    assert study_run.data.metrics["objective/best_pearson"] == max(
        t.data.metrics["objective/pearson"] for t in trials
    )
    assert study_run.data.metrics["best/model.freeze_layers"] == best.params["model.freeze_layers"]
    artifacts = {f.path for f in store.client.list_artifacts(study_run.info.run_id)}
    assert {"best.toml", "trials.csv", "plots.html", "space.json", "environment.json"} <= artifacts


def test_the_plots_are_one_page_that_needs_no_network(finished: FinishedSweep) -> None:
    page = (finished.folder / "plots.html").read_text("utf-8")
    assert page.count("plotly-graph-div") >= 3
    assert 'src="http' not in page


def test_test_rows_are_never_seen(finished: FinishedSweep) -> None:
    for run in tracked(finished.store_uri):
        assert names.TEST_READ not in run.data.tags
        assert not [name for name in run.data.metrics if name.startswith("test/")]
        assert names.TEST_PREDICTIONS not in json.loads(run.data.tags[names.MANIFEST])


def test_the_best_settings_are_a_profile(finished: FinishedSweep) -> None:
    file = finished.folder / "best.toml"
    best = best_trials(finished.result.study)[0].params["model.freeze_layers"]
    assert tomllib.loads(file.read_text())["model"] == {"encoder": "tiny", "freeze_layers": best}
    config = resolve_config(load_profile(str(file)), "epm+ft")
    assert config.model.freeze_layers == best
    assert config.optimisation.epochs == 2


@pytest.mark.parametrize("space", SHIPPED)
def test_every_shipped_space_is_searched(small_study: SweepRequest, space: str) -> None:
    request = replace(
        small_study,
        space=space,
        study=space,
        sampler="tpe",
        trials=1,
        overrides={"optimisation.epochs": 1},
        experiment="spaces",
    )
    (trial,) = sweep(resolve_sweep(request), ignore_line).study.trials
    assert trial.state == TrialState.COMPLETE


def test_a_study_goes_on_by_its_name_and_counts_what_was_done(request_: SweepRequest) -> None:
    sweep(resolve_sweep(replace(request_, trials=1)), ignore_line)
    lines, echo = capture_lines()
    swept = sweep(resolve_sweep(replace(request_, trials=3)), echo)
    assert lines[0] == "study 'depth': 1 of 3 trials done"
    assert len(lines) == 3
    assert len(swept.study.trials) == 3


def test_a_storage_that_is_lost_in_mid_trial_is_named_in_both_runs_and_the_study_goes_on(
    request_: SweepRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, elsewhere = tmp_path / "studies.db", tmp_path / "elsewhere.db"
    report = PruningReporter.report

    def lose_storage(reporter: PruningReporter, pearson: float, epoch: int) -> None:
        if not elsewhere.exists():
            file.rename(elsewhere)
        report(reporter, pearson, epoch)

    request = replace(request_, trials=2)
    with monkeypatch.context() as patch:
        patch.setattr(PruningReporter, "report", lose_storage)
        with pytest.raises(RunError, match=r"storage .*studies\.db: lost: .*command continues"):
            sweep(resolve_sweep(request), ignore_line)
    runs = tracked(request.tracking_uri or "")
    assert [run.info.status for run in runs] == ["FAILED", "FAILED"]
    assert all("storage" in run.data.tags[names.REASON] for run in runs)
    assert names.TRACEBACK_FILE in json.loads(runs[1].data.tags[names.MANIFEST])

    elsewhere.rename(file)
    study = sweep(resolve_sweep(request), ignore_line).study
    assert [t.state for t in study.trials].count(TrialState.COMPLETE) == 2
    study_run, *trials = tracked(request.tracking_uri or "")
    assert sorted(run.info.status for run in trials) == ["FAILED", "FINISHED", "FINISHED"]
    assert names.REASON not in study_run.data.tags


@pytest.mark.parametrize("sampler", ["tpe", "qmc"])
def test_a_study_that_goes_on_draws_nothing_twice(request_: SweepRequest, sampler: str) -> None:
    request = replace(request_, space="lr", sampler=sampler)
    for trials in (2, 4):
        swept = sweep(resolve_sweep(replace(request, trials=trials)), ignore_line)
    rates = [t.params["optimisation.lr_head"] for t in swept.study.trials]
    assert len(rates) == len(set(rates)) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": "lr", "sampler": "tpe"}, "space:"),
        ({"objective": "pearson,seconds"}, "objective:|directions"),
        ({"splits": ("dev2",)}, "splits: \\['dev1'\\] there, \\['dev2'\\] here"),
        ({"overrides": {"optimisation.epochs": 3}}, "settings:"),
        ({"seed": 5}, "seed: 0 there, 5 here"),
    ],
)
def test_another_question_under_the_same_name_is_refused_with_the_difference(
    finished: FinishedSweep, change: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        sweep(resolve_sweep(replace(finished.request, **change)), ignore_line)  # type: ignore[arg-type]


def test_pruned_trials_are_killed_runs_with_their_epoch(
    request_: SweepRequest, store_uri: str
) -> None:
    overrides = {"optimisation.epochs": 5}
    request = replace(
        request_, space="lr", sampler="tpe", pruner="hyperband", trials=6, overrides=overrides
    )
    swept = sweep(resolve_sweep(request), ignore_line)
    pruned = [t for t in swept.study.trials if t.state == TrialState.PRUNED]
    assert pruned
    runs = {
        int(r.data.tags[names.TRIAL_NUMBER]): r
        for r in tracked(store_uri)
        if r.data.tags[names.KIND] == names.TRIAL
    }
    scores = scores_of(swept)
    assert [math.isnan(score) for score in scores] == [t in pruned for t in swept.study.trials]
    for trial in pruned:
        run = runs[trial.number]
        assert run.info.status == "KILLED"
        assert run.data.tags[names.TRIAL_STATE] == "PRUNED"
        assert run.data.tags[names.REASON].startswith(
            f"pruned after epoch {max(trial.intermediate_values)} "
        )
    assert not list(checkpoints_root().glob("*")), "neither the pruned nor the completed ones go on"


def test_a_trial_that_breaks_is_failed_counts_and_does_not_end_the_study(
    request_: SweepRequest, store_uri: str, tmp_path: Path
) -> None:
    space = tmp_path / "broken.toml"
    space.write_text('question = "?"\n[fields."optimisation.lr_encoder"]\nchoices = [1e-4, 1e30]')
    overrides = {"optimisation.epochs": 1, "optimisation.warmup": 0, "optimisation.batch_size": 8}
    lines, echo = capture_lines()
    swept = sweep(
        resolve_sweep(replace(request_, space=str(space), trials=2, overrides=overrides)), echo
    )
    assert sorted(t.state.name for t in swept.study.trials) == ["COMPLETE", "FAIL"]
    assert any("NotFiniteError: train/" in line for line in lines)
    failed = next(r for r in tracked(store_uri) if r.info.status == "FAILED")
    assert failed.data.tags[names.TRIAL_STATE] == "FAIL"
    assert not list(checkpoints_root().glob("*")), (
        "what failed for a reason of its own does not go on"
    )
    again, echo = capture_lines()
    sweep(resolve_sweep(replace(request_, space=str(space), trials=2, overrides=overrides)), echo)
    assert again == ["study 'depth': 2 of 2 trials done"]


def test_three_failures_in_a_row_for_one_reason_stop_a_study_that_can_go_on(
    request_: SweepRequest, store_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object) -> None:
        raise ValueError("no value can be drawn")

    lines, echo = capture_lines()
    with monkeypatch.context() as patch:
        patch.setattr("studies.taking.suggest", fails)
        result = sweep(resolve_sweep(request_), echo)
    reason = "3 trials in a row failed with ValueError: no value can be drawn"
    assert result.stopped == reason
    assert lines[-1] == f"study 'depth' stopped: {reason}"
    assert len(result.study.get_trials(states=(TrialState.FAIL,))) == 3
    conclude(result, tmp_path / "out")
    (run,) = tracked(store_uri)
    assert (run.info.status, run.data.tags[names.REASON]) == ("FAILED", reason)
    resumed = sweep(resolve_sweep(request_), ignore_line)
    assert not resumed.stopped
    assert len(resumed.study.get_trials(states=(TrialState.COMPLETE,))) == 2


def test_failures_for_different_reasons_do_not_stop_a_study(
    request_: SweepRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons = iter("ababa")

    def fails(*arguments: object) -> None:
        raise ValueError(next(reasons))

    monkeypatch.setattr("studies.taking.suggest", fails)
    result = sweep(resolve_sweep(request_), ignore_line)
    assert not result.stopped
    assert len(result.study.trials) >= 5


def test_a_study_is_not_resumed_with_other_weights(request_: SweepRequest, tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_encoder(), folder)
    request = replace(request_, trials=1, overrides={"model.encoder": str(folder)})
    sweep(resolve_sweep(request), ignore_line)
    (weights,) = folder.glob("*.safetensors")
    changed = {name: tensor + 0.01 for name, tensor in load_file(weights).items()}
    save_file(changed, weights, {"format": "pt"})
    with pytest.raises(UsageError, match="give --study a new name\nencoder: "):
        sweep(resolve_sweep(replace(request, trials=2)), ignore_line)


def test_a_study_whose_run_is_in_another_tracking_store_is_told_so(
    request_: SweepRequest, tmp_path: Path
) -> None:
    request = replace(request_, trials=1, overrides={"optimisation.epochs": 1})
    sweep(resolve_sweep(request), ignore_line)
    elsewhere = f"sqlite:///{tmp_path / 'elsewhere' / 'mlflow.db'}"
    with pytest.raises(UsageError, match=r"study 'depth': its run .* give another with --tracking"):
        sweep(resolve_sweep(replace(request, tracking_uri=elsewhere)), ignore_line)


def test_parameters_that_were_tried_are_not_trained_again(
    request_: SweepRequest, store_uri: str, tmp_path: Path
) -> None:
    space = tmp_path / "one.toml"
    space.write_text('question = "?"\n[fields."model.pooling"]\nchoices = ["mean"]')
    swept = sweep(
        resolve_sweep(replace(request_, space=str(space), sampler="tpe", trials=3)),
        ignore_line,
    )
    assert len({t.value for t in swept.study.trials}) == 1
    again = [r for r in tracked(store_uri) if names.SAME_AS in r.data.tags]
    assert [r.data.tags[names.SAME_AS] for r in again] == ["0", "0"]
    assert all(
        "torch_threads" in read_json(open_store(store_uri), r.info.run_id, names.ENVIRONMENT_FILE)
        for r in again
    )
    assert all("cost/seconds" not in r.data.metrics for r in again)


def test_two_objectives_give_a_pareto_front(request_: SweepRequest, tmp_path: Path) -> None:
    swept = sweep(
        resolve_sweep(replace(request_, objective="pearson,seconds", trials=3)), ignore_line
    )
    assert best_trials(swept.study)
    assert all(len(t.values) == 2 and t.values[1] > 0 for t in swept.study.trials)
    conclude(swept, tmp_path / "out")
    assert "Pareto" in (tmp_path / "out" / "plots.html").read_text("utf-8")


def test_several_splits_are_averaged(request_: SweepRequest, store_uri: str) -> None:
    sweep(resolve_sweep(replace(request_, splits=("dev1", "dev2"), trials=1)), ignore_line)
    (run,) = [r for r in tracked(store_uri) if r.data.tags[names.KIND] == names.TRIAL]
    client = open_store(store_uri).client
    best = [
        max(p.value for p in client.get_metric_history(run.info.run_id, f"{split}/dev/pearson"))
        for split in ("dev1", "dev2")
    ]
    assert run.data.metrics["objective/pearson"] == pytest.approx(sum(best) / 2)


def test_a_journal_file_serves_as_well(request_: SweepRequest, tmp_path: Path) -> None:
    swept = sweep(
        resolve_sweep(replace(request_, storage=f"journal:{tmp_path / 'study.log'}", trials=2)),
        ignore_line,
    )
    assert len(swept.study.trials) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sampler": "tpee"}, "unknown sampler 'tpee'"),
        ({"pruner": "x"}, "unknown pruner 'x'"),
        ({"objective": "loss"}, "unknown objective 'loss'"),
        ({"trials": 0}, "trials must be at least 1"),
        ({"workers": 0}, "workers must be at least 1"),
        ({"splits": ("dev9",)}, "unknown split 'dev9'"),
        ({"storage": "nonsense://x"}, "storage nonsense://x: can't be used"),
    ],
)
def test_an_invalid_request_is_explained(
    request_: SweepRequest, change: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        sweep(resolve_sweep(replace(request_, **change)), ignore_line)  # type: ignore[arg-type]
