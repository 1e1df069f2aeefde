"""Studies of killed or several processes: each trial is done once, with the same numbers."""

import os
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import optuna
import pytest
from mlflow.entities import Run
from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from ablation.core.errors import RunError
from ablation.core.state import checkpoints_root
from ablation.tracking import names
from ablation.tracking.store import open_store
from ablation.training.checkpoints import Checkpoint, CheckpointWriter
from ablation.training.checkpoints import complete as complete_checkpoint
from studies import storage as storage_module
from studies import trial as trial_module
from studies.storage import open_storage
from studies.study import SweepRequest, encoder_digests, open_study, queue_grid, resolve_sweep
from studies.sweep import SweepResult, sweep
from tests.commands import PATIENCE_S, Command, completed
from tests.studies.test_sweep import capture_lines, ignore_line, tracked


def command(request: SweepRequest, folder: Path, *more: str) -> list[str]:
    overrides = [
        part for name, value in request.overrides.items() for part in ("--set", f"{name}={value}")
    ]
    return [
        "sweep",
        "--space",
        request.space,
        "--study",
        request.study,
        "--data",
        request.data,
        "--profile",
        "smoke",
        "--trials",
        str(request.trials),
        "--sampler",
        request.sampler,
        "--pruner",
        request.pruner,
        "--tracking-uri",
        str(request.tracking_uri),
        "--storage",
        request.storage,
        "--out",
        str(folder / "out"),
        *overrides,
        *more,
    ]


def load(request: SweepRequest) -> Study:
    return optuna.load_study(study_name=request.study, storage=open_storage(request.storage))


def complete(study: Study) -> dict[str, FrozenTrial]:
    """Return completed trials by their parameters, and check that none was done twice."""
    trials = study.get_trials(states=(TrialState.COMPLETE,))
    assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
    by_params = {str(trial.params): trial for trial in trials}
    assert len(by_params) == len(trials)
    return by_params


def points(uri: str, run_id: str) -> dict[str, list[tuple[int, float]]]:
    """Return a run's points by metric in the order of steps, without those of its costs."""
    client = open_store(uri).client
    measured = [
        n
        for n in client.get_run(run_id).data.metrics
        if n.startswith(("train/", "dev/", "lr/", "best/"))
    ]
    return {
        name: sorted((p.step, p.value) for p in client.get_metric_history(run_id, name))
        for name in measured
    }


@pytest.fixture
def undisturbed(
    request_: SweepRequest, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Run a request like this test's in another store, with another state folder."""

    def run_elsewhere(request: SweepRequest) -> tuple[SweepResult, str]:
        other = tmp_path / "undisturbed"
        other.mkdir()
        uri = f"sqlite:///{other / 'mlflow.db'}"
        (other / "mlflow.db").write_bytes(empty_store.read_bytes())
        with monkeypatch.context() as patch:
            patch.setenv("ABLATION_STATE", str(other / "state"))
            return sweep(
                resolve_sweep(
                    replace(request, tracking_uri=uri, storage=f"sqlite:///{other / 'studies.db'}")
                ),
                ignore_line,
            ), uri

    return run_elsewhere


def assert_same(study: Study, uri: str, other: Study, other_uri: str) -> None:
    """Check that two studies have the same trials, values and points, to the bit."""
    theirs = complete(other)
    assert complete(study).keys() == theirs.keys()
    for params, trial in complete(study).items():
        assert trial.values == theirs[params].values
        assert trial.intermediate_values == theirs[params].intermediate_values
        assert points(uri, trial.user_attrs["mlflow_run_id"]) == points(
            other_uri, theirs[params].user_attrs["mlflow_run_id"]
        )


#: Epochs that are completed when a process is killed in mid-trial.
COMPLETED = 4


def hold_in_the_second_trial() -> None:
    """Let this process wait for a signal there; on a busy machine it may be long in coming."""
    real = trial_module.PruningReporter.raise_if_pruned

    def held(reporter: trial_module.PruningReporter, epoch: int) -> None:
        real(reporter, epoch)
        if reporter._trial.number == 1 and epoch == COMPLETED:
            print("held", flush=True)
            signal.pause()

    trial_module.PruningReporter.raise_if_pruned = held  # type: ignore[method-assign]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_study_killed_in_mid_trial_goes_on_after_the_last_completed_epoch_to_the_same_bit(
    number: signal.Signals, request_: SweepRequest, store_uri: str, tmp_path: Path, undisturbed: Any
) -> None:
    request = replace(request_, trials=3, overrides={"optimisation.epochs": 12})
    process = Command(command(request, tmp_path), tmp_path, prelude=hold_in_the_second_trial)
    process.read_until("held")
    process.send_signal(number)
    process.communicate()
    if number == signal.SIGKILL:
        code, output, errors = completed(command(request, tmp_path), tmp_path)
        assert code == 0, errors
        lines = output.splitlines()
    else:
        lines, echo = capture_lines()
        sweep(resolve_sweep(request), echo)
    (resumed,) = [run for run in trials_of(store_uri) if names.RESUMED in run.data.tags]
    epoch = int(resumed.data.tags[names.RESUMED])
    assert epoch in (COMPLETED - 1, COMPLETED)
    assert f"trial {resumed.data.tags[names.TRIAL_NUMBER]}: goes on after epoch {epoch}" in lines
    assert Counter(run.info.status for run in trials_of(store_uri)) == {"FINISHED": 3, "KILLED": 1}
    other, other_uri = undisturbed(request)
    assert_same(load(request), store_uri, other.study, other_uri)
    assert not list(checkpoints_root().glob("*")), "what has ended needs no checkpoint"


#: Optuna counts heartbeats in whole seconds.
QUICK_HEARTBEAT_S = 1


def _with_quick_heartbeats() -> None:
    storage_module.HEARTBEAT_S = QUICK_HEARTBEAT_S  # type: ignore[misc]
    storage_module.GRACE_S = QUICK_HEARTBEAT_S  # type: ignore[misc]


def stop_in_the_second_trial() -> None:
    """Let this process stand still there, as SIGSTOP or a closed laptop makes it."""
    _with_quick_heartbeats()
    real = trial_module.PruningReporter.raise_if_pruned

    def held(reporter: trial_module.PruningReporter, epoch: int) -> None:
        real(reporter, epoch)
        if reporter._trial.number == 1 and epoch == COMPLETED:
            print("held", flush=True)
            os.kill(os.getpid(), signal.SIGSTOP)

    trial_module.PruningReporter.raise_if_pruned = held  # type: ignore[method-assign]


def test_a_worker_that_stands_still_until_it_is_given_up_ends_well_and_so_does_the_study(
    request_: SweepRequest, store_uri: str, tmp_path: Path
) -> None:
    request = replace(request_, trials=3, overrides={"optimisation.epochs": 6})
    stopped = Command(command(request, tmp_path), tmp_path, prelude=stop_in_the_second_trial)
    stopped.read_until("held")
    study = load(request)
    (trial,) = study.get_trials(states=(TrialState.RUNNING,))
    other = Command(command(request, tmp_path), tmp_path, prelude=_with_quick_heartbeats)
    # Not by what it says: the trial's second attempt waits for the lock of the standing process.
    deadline = time.monotonic() + PATIENCE_S
    while study.get_trials()[trial.number].state != TrialState.FAIL:
        assert time.monotonic() < deadline, "it was not given up"
        time.sleep(0.2)
    stopped.send_signal(signal.SIGCONT)
    for process in (stopped, other):
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert len(complete(study)) == 3
    assert "RUNNING" not in {run.info.status for run in tracked(store_uri)}


def trials_of(uri: str) -> list[Run]:
    return [run for run in tracked(uri) if run.data.tags[names.KIND] == names.TRIAL]


class TestGoingOn:
    """A sweep interrupted at a chosen call in this process, as by SIGTERM, and resumed."""

    @pytest.fixture
    def one_trial(self, request_: SweepRequest) -> SweepRequest:
        # Rates have no exact decimal form: a trial must be resumed with the very same numbers.
        return replace(
            request_, space="lr", sampler="tpe", trials=1, overrides={"optimisation.epochs": 6}
        )

    @pytest.fixture
    def interrupt_at(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        def sweep_until(request: SweepRequest, count: int, method: str) -> None:
            """Run a sweep up to the `count`-th call of the pruning reporter's `method`."""
            real, calls = getattr(trial_module.PruningReporter, method), 0

            def interrupted(*arguments: Any) -> None:
                nonlocal calls
                calls += 1
                if calls == count:
                    raise KeyboardInterrupt
                real(*arguments)

            with monkeypatch.context() as patch:
                patch.setattr(trial_module.PruningReporter, method, interrupted)
                with pytest.raises(KeyboardInterrupt):
                    sweep(resolve_sweep(request), ignore_line)

        return sweep_until

    def test_the_pruner_hears_of_every_epoch_in_its_order(
        self,
        one_trial: SweepRequest,
        store_uri: str,
        interrupt_at: Any,
        undisturbed: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        reported: list[dict[int, float]] = []

        class RecordingPruner(BasePruner):
            def prune(self, study: Study, trial: FrozenTrial) -> bool:
                reported.append(dict(trial.intermediate_values))
                return False

        monkeypatch.setattr("studies.study.make_pruner", lambda resolved: RecordingPruner())
        interrupt_at(one_trial, 4, "report")
        assert [list(values) for values in reported] == [[1], [1, 2], [1, 2, 3]]
        reported.clear()
        swept = sweep(resolve_sweep(one_trial), ignore_line)
        after_a_kill = list(reported)
        reported.clear()
        other, other_uri = undisturbed(one_trial)
        assert after_a_kill == reported
        assert len(reported) == 6
        assert_same(swept.study, store_uri, other.study, other_uri)

    def test_what_the_pruner_said_of_the_last_completed_epoch_still_holds(
        self,
        one_trial: SweepRequest,
        store_uri: str,
        interrupt_at: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        class PruneAfterThree(BasePruner):
            def prune(self, study: Study, trial: FrozenTrial) -> bool:
                return trial.last_step == 3

        monkeypatch.setattr("studies.study.make_pruner", lambda resolved: PruneAfterThree())
        interrupt_at(one_trial, 3, "raise_if_pruned")
        assert list(checkpoints_root().glob("*/epoch-000003.json"))
        swept = sweep(resolve_sweep(one_trial), ignore_line)
        assert [t.state for t in swept.study.trials] == [TrialState.FAIL, TrialState.PRUNED]
        pruned = trials_of(store_uri)[-1]
        assert pruned.data.tags[names.REASON].startswith("pruned after epoch 3 with")
        assert pruned.data.tags[names.RESUMED] == "3"
        assert not list(checkpoints_root().glob("*")), "a pruned trial needs no checkpoint"

    def test_the_pruner_hears_of_the_first_split_alone(
        self, one_trial: SweepRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        steps: list[int | None] = []

        class RecordingPruner(BasePruner):
            def prune(self, study: Study, trial: FrozenTrial) -> bool:
                steps.append(trial.last_step)
                return False

        monkeypatch.setattr("studies.study.make_pruner", lambda resolved: RecordingPruner())
        sweep(resolve_sweep(replace(one_trial, splits=("dev1", "dev2"))), ignore_line)
        assert steps == [1, 2, 3, 4, 5, 6]

    def test_of_several_splits_each_goes_on(
        self, one_trial: SweepRequest, store_uri: str, undisturbed: Any, interrupt_at: Any
    ) -> None:
        one_trial = replace(one_trial, splits=("dev1", "dev2"))
        saved = []

        def third_of_the_second(folder: Path, checkpoint: Checkpoint, draft: Path) -> None:
            complete_checkpoint(folder, checkpoint, draft)
            saved.append(folder)
            if len(set(saved)) == 2 and checkpoint.epoch == 3:
                raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ablation.training.checkpoints.complete", third_of_the_second)
            with pytest.raises(KeyboardInterrupt):
                sweep(resolve_sweep(one_trial), ignore_line)
        lines, echo = capture_lines()
        swept = sweep(resolve_sweep(one_trial), echo)
        # The last epoch is not stored, and is done again.
        assert [line for line in lines if "goes on" in line] == [
            f"trial 1: goes on after epoch {e}" for e in (5, 3)
        ]
        other, _ = undisturbed(one_trial)
        assert [t.values for t in complete(swept.study).values()] == [
            t.values for t in complete(other.study).values()
        ]
        assert not list(checkpoints_root().glob("*"))

    def test_copies_of_checkpoints_let_a_trial_go_on_with_another_state_folder(
        self,
        one_trial: SweepRequest,
        interrupt_at: Any,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        url = f"memory://{tmp_path}"
        one_trial = replace(one_trial, checkpoints=url)
        interrupt_at(one_trial, 5, "report")
        monkeypatch.setenv("ABLATION_STATE", str(tmp_path / "other"))
        lines, echo = capture_lines()
        sweep(resolve_sweep(one_trial), echo)
        assert "trial 1: goes on after epoch 4" in lines
        files, root = fsspec.url_to_fs(url)
        assert files.find(root) == [], "what has ended needs no checkpoint"

    def test_damaged_checkpoints_are_named_and_passed_over(
        self, one_trial: SweepRequest, interrupt_at: Any
    ) -> None:
        interrupt_at(one_trial, 5, "report")
        (damaged,) = checkpoints_root().glob("*/epoch-000004.safetensors")
        damaged.write_bytes(damaged.read_bytes()[:-3])
        lines, echo = capture_lines()
        sweep(resolve_sweep(one_trial), echo)
        files = "epoch-000004.json, epoch-000004.safetensors"
        assert f"trial 1: removed corrupt or incomplete checkpoints: {files}" in lines
        assert "trial 1: goes on after epoch 3" in lines

    def test_a_trial_that_failed_for_a_reason_leaves_no_checkpoint(
        self, one_trial: SweepRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(pruning: object, epoch: int) -> None:
            if epoch == 3:
                assert list(checkpoints_root().glob("*/epoch-000002.json"))
                raise RunError("broken")

        monkeypatch.setattr(trial_module.PruningReporter, "raise_if_pruned", fails)
        swept = sweep(resolve_sweep(one_trial), ignore_line)
        assert [(t.state, t.user_attrs["reason"]) for t in swept.study.trials] == [
            (TrialState.FAIL, "RunError: broken")
        ]
        assert not list(checkpoints_root().glob("*"))

    def test_seconds_of_a_process_that_died_count(
        self, one_trial: SweepRequest, interrupt_at: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = CheckpointWriter.save

        def after_an_hour(saver: CheckpointWriter, checkpoint: Checkpoint) -> None:
            real(saver, replace(checkpoint, state={**checkpoint.state, "seconds": 3600.0}))

        with monkeypatch.context() as patch:
            patch.setattr(CheckpointWriter, "save", after_an_hour)
            interrupt_at(one_trial, 4, "report")
        sweep(resolve_sweep(one_trial), ignore_line)
        assert (
            3600
            < trials_of(str(one_trial.tracking_uri))[-1].data.metrics["objective/seconds"]
            < 7200
        )


def test_a_worker_killed_before_it_wrote_its_parameters_down_loses_none(
    request_: SweepRequest,
) -> None:
    resolved = resolve_sweep(request_)
    study = open_study(resolved, encoder_digests(resolved))
    queue_grid(study, resolved, layers=4)
    study.ask()  # RUNNING, without parameters or a worker
    swept = sweep(resolved, ignore_line)
    assert sorted(t.params["model.freeze_layers"] for t in complete(swept.study).values()) == [
        0,
        1,
        2,
        3,
        4,
    ]


def test_a_worker_killed_so_while_others_work_loses_none_either(request_: SweepRequest) -> None:
    resolved = resolve_sweep(request_)

    def begin_another(line: str) -> None:
        if line.startswith("trial 0: "):
            load(request_).ask()  # as on another machine, which ends before it has a name

    swept = sweep(resolved, begin_another)
    frozen = sorted(t.params["model.freeze_layers"] for t in complete(swept.study).values())
    assert frozen == [0, 1, 2, 3, 4]
    assert not swept.study.get_trials(states=(TrialState.RUNNING,))


def test_workers_share_a_study(request_: SweepRequest, tmp_path: Path) -> None:
    # Long enough for the worker that starts later to find trials left.
    request = replace(request_, overrides={"optimisation.epochs": 12})
    code, _, errors = completed(command(request, tmp_path, "--workers", "2"), tmp_path)
    assert code == 0, errors
    study = load(request)
    assert sorted(t.params["model.freeze_layers"] for t in study.trials) == [0, 1, 2, 3, 4]
    assert {t.state for t in study.trials} == {TrialState.COMPLETE}
    assert len({t.user_attrs["process"] for t in study.trials}) == 2


class TestAtOnce:
    """Several processes of one command that start together, before store and study exist."""

    def test_two(self, request_: SweepRequest, tmp_path: Path) -> None:
        self.each_trial_once(request_, tmp_path, 2)

    @pytest.mark.soak
    def test_eight(self, request_: SweepRequest, tmp_path: Path) -> None:
        self.each_trial_once(request_, tmp_path, 8)

    def each_trial_once(self, request: SweepRequest, folder: Path, count: int) -> None:
        """Check that no process fails, each trial is done once, and all print the same best."""
        fresh = folder / "fresh"
        fresh.mkdir()
        request = replace(
            request,
            space="lr",
            sampler="tpe",
            trials=3 * count,
            overrides={"optimisation.epochs": 3},
            tracking_uri=f"sqlite:///{fresh / 'mlflow.db'}",
            storage=f"sqlite:///{fresh / 'studies.db'}",
        )
        processes = [Command(command(request, folder), folder) for _ in range(count)]
        texts = ["".join(process.communicate()) for process in processes]
        assert [process.returncode for process in processes] == [0] * count, "\n".join(texts)
        assert "locked" not in "".join(texts)
        study = load(request)
        assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 3 * count
        assert len(complete(study)) == 3 * count, "the same values were drawn twice"
        assert len({t.user_attrs["process"] for t in study.trials}) > 1
        best = {
            line for text in texts for line in text.splitlines() if line.startswith("best of epm: ")
        }
        assert len(best) == 1
        (above, *runs) = tracked(str(request.tracking_uri))
        assert {run.info.status for run in (above, *runs)} == {"FINISHED"}
        assert above.data.tags[names.KIND] == names.STUDY
        assert sorted(int(run.data.tags[names.TRIAL_NUMBER]) for run in runs) == list(
            range(3 * count)
        )
        history = open_store(request.tracking_uri).client.get_metric_history(
            above.info.run_id, "objective/best_pearson"
        )
        assert [(point.step, point.value) for point in history] == [(3 * count, study.best_value)]
        assert (folder / "out" / "best.toml").is_file()
