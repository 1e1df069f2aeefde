"""Equal budgets: the same number of trials for each variant, and each row at its own best."""

import json
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from optuna.trial import TrialState
from typer.testing import CliRunner

from ablation.cli.main import app
from ablation.config.overrides import load_profile, resolve_config
from ablation.config.tuning_record import load_tuning
from ablation.core.errors import RunError, UsageError
from ablation.tracking import names
from ablation.tracking.process_id import this_process
from reports.build import ReportRequest, read_inputs
from studies.equal_budget import (
    EqualBudgetResult,
    conclude_equal_budget,
    resolve_equal_budget,
    sweep_variants,
    tunes_variants,
)
from studies.study import ResolvedSweep, SweepRequest
from tests.studies.test_sweep import capture_lines, ignore_line, tracked

SPACE = """question = "?"
[fields.variant]
choices = ["mse", "epm+ft"]
[fields."optimisation.lr_head"]
low = 1e-3
high = 1e-1
log = true
"""


def of_two_variants(request: SweepRequest, folder: Path) -> SweepRequest:
    space = folder / "two.toml"
    space.write_text(SPACE)
    return replace(
        request,
        space=str(space),
        study="equal",
        trials=6,
        sampler="tpe",
        overrides={"optimisation.epochs": 1},
    )


@pytest.fixture
def two_variants(request_: SweepRequest, tmp_path: Path) -> SweepRequest:
    return of_two_variants(request_, tmp_path)


@dataclass(frozen=True)
class Tuned:
    """The concluded sweeps of both variants, which several tests read."""

    request: SweepRequest
    result: EqualBudgetResult
    lines: list[str]
    folder: Path


@pytest.fixture(scope="module")
def tuned(small_study: SweepRequest, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    folder, lines = tmp_path_factory.mktemp("tuned"), list[str]()
    request = of_two_variants(small_study, folder)
    result = sweep_variants(request, lines.append)
    conclude_equal_budget(result, folder / "out")
    return Tuned(request, result, lines, folder / "out")


def test_a_space_of_variants_is_recognised() -> None:
    assert tunes_variants("variants")
    assert not tunes_variants("joint")


def test_trials_are_shared_equally_and_rounded_up(two_variants: SweepRequest) -> None:
    assert {
        v: resolved.request.trials
        for v, resolved in resolve_equal_budget(replace(two_variants, trials=7)).items()
    } == {"mse": 4, "epm+ft": 4}
    with pytest.raises(UsageError, match="tuned for pearson alone"):
        resolve_equal_budget(replace(two_variants, objective="pearson,seconds"))


def test_each_variant_is_a_study_below_one_run(tuned: Tuned) -> None:
    lines = tuned.lines
    assert lines[0] == "3 trials for each of 2 variants: mse, epm+ft"
    assert lines[1] == "mse: study 'equal/mse': 0 of 3 trials done"
    top, *rest = tracked(str(tuned.request.tracking_uri))
    studies = {r.info.run_id: r for r in rest if r.data.tags[names.KIND] == names.STUDY}
    trials = [r for r in rest if r.data.tags[names.KIND] == names.TRIAL]
    assert {r.data.tags["mlflow.parentRunId"] for r in studies.values()} == {top.info.run_id}
    assert [
        studies[t.data.tags["mlflow.parentRunId"]].data.tags[names.VARIANT] for t in trials
    ] == ["mse"] * 3 + ["epm+ft"] * 3
    assert {r.info.status for r in [top, *rest]} == {"FINISHED"}
    # TPE draws its first trials at random: with one seed, the same values for all variants.
    rates = [
        [t.params["optimisation.lr_head"] for t in swept.study.trials]
        for swept in tuned.result.results.values()
    ]
    assert rates[0] == rates[1]


def test_workers_go_from_one_variants_study_to_the_next(two_variants: SweepRequest) -> None:
    tuned = sweep_variants(
        replace(two_variants, trials=4, on="local:1", cpus_per_run=1), ignore_line
    )
    trials = [trial for result in tuned.results.values() for trial in result.study.trials]
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert len(trials) == 2 * len(tuned.results["mse"].study.trials)
    (process,) = {trial.user_attrs["process"] for trial in trials}
    assert process != this_process()


def test_variants_share_the_time_that_is_left(
    two_variants: SweepRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeouts = []

    def record(resolved: ResolvedSweep, executor: object, echo: object) -> None:
        timeouts.append(resolved.request.timeout)

    clock = iter([100.0, 100.0, 140.0])
    monkeypatch.setattr("studies.equal_budget.monotonic", lambda: next(clock))
    monkeypatch.setattr("studies.equal_budget.sweep_with", record)
    sweep_variants(replace(two_variants, timeout=60.0), ignore_line)
    assert timeouts == [60.0, 20.0]


def test_a_study_of_variants_goes_on_by_its_name(
    two_variants: SweepRequest, store_uri: str
) -> None:
    sweep_variants(replace(two_variants, trials=2), ignore_line)
    lines, echo = capture_lines()
    result = sweep_variants(replace(two_variants, trials=4), echo)
    assert lines[1] == "mse: study 'equal/mse': 1 of 2 trials done"
    assert all(
        len(s.study.get_trials(states=(TrialState.COMPLETE,))) == 2 for s in result.results.values()
    )
    assert len([r for r in tracked(store_uri) if "mlflow.parentRunId" not in r.data.tags]) == 1


def test_the_profile_gives_each_row_its_own_best(tuned: Tuned) -> None:
    file = str(tuned.folder / "best.toml")
    for variant, swept in tuned.result.results.items():
        config = resolve_config(load_profile(file), variant)
        assert config.optimisation.lr_head == swept.study.best_params["optimisation.lr_head"]
        assert config.optimisation.epochs == 1
    assert (
        resolve_config(load_profile(file), "epm").optimisation.lr_head
        == resolve_config(load_profile("smoke")).optimisation.lr_head
    )
    tuning = load_tuning(file)
    assert tuning is not None
    assert tuning.each_its_own
    assert {v: len(values) for v, values in tuning.trials.items()} == {"mse": 3, "epm+ft": 3}
    assert max(tuning.trials["mse"]) == tuned.result.results["mse"].study.best_value
    assert (tuned.folder / "history.html").is_file()
    assert (tuned.folder / "mse" / "plots" / "history.png").is_file()


def test_pictures_that_fail_leave_the_settings_that_were_found(
    tuned: Tuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no picture")

    monkeypatch.setattr("studies.outcome.plots", fail)
    with pytest.raises(OSError, match="no picture"):
        conclude_equal_budget(tuned.result, tmp_path)
    found = (tmp_path / "best.toml").read_text("utf-8")
    assert found == (tuned.folder / "best.toml").read_text("utf-8")
    assert (tmp_path / "mse" / "trials.csv").is_file()


def test_a_variant_without_a_completed_trial_is_named(
    two_variants: SweepRequest, store_uri: str, tmp_path: Path
) -> None:
    wild = {
        "optimisation.epochs": 1,
        "optimisation.warmup": 0,
        "optimisation.batch_size": 8,
        "optimisation.lr_encoder": 1e30,
    }
    result = sweep_variants(replace(two_variants, trials=2, overrides=wild), ignore_line)
    with pytest.raises(RunError, match="no trial was completed for mse, epm\\+ft"):
        conclude_equal_budget(result, tmp_path / "out")
    assert tracked(store_uri)[0].info.status == "FAILED"


def test_the_command_tunes_then_runs_every_row_at_its_best_and_reports_on_equal_budgets(
    two_variants: SweepRequest, store_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [
        "sweep",
        "--space",
        two_variants.space,
        "--study",
        "equal",
        "--trials",
        "4",
        "--data",
        two_variants.data,
        "--profile",
        "smoke",
        "--set",
        "optimisation.epochs=1",
        "--storage",
        two_variants.storage,
        "--tracking-uri",
        store_uri,
        "--then-seeds",
        "0",
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    profile = tomllib.loads((tmp_path / "study-equal" / "best.toml").read_text("utf-8"))
    runs = {
        r.data.tags[names.VARIANT]: r
        for r in tracked(store_uri, "ablation")
        if r.data.tags[names.KIND] == names.RUN
    }
    assert runs.keys() == {"mse", "epm+ft", "ensemble"}
    for variant in ("mse", "epm+ft"):
        own = profile["variant"][variant]["optimisation"]["lr_head"]
        assert float(runs[variant].data.params["optimisation.lr_head"]) == own
        assert json.loads(runs[variant].data.tags[names.OWN_FIELDS]) == ["optimisation.lr_head"]
    inputs = read_inputs(ReportRequest(tracking_uri=store_uri))
    assert len(inputs.groups) == 1, (
        "rows of one table although their settings differ: each has its own"
    )
    assert inputs.budgets is not None
    assert inputs.budgets.counts == {"mse": 2, "epm+ft": 2}
    assert not inputs.budgets.warning
    assert "How the settings were tuned" in (
        tmp_path / "report-ablation" / "report.html"
    ).read_text("utf-8")
