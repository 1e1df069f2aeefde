"""Workers of a sweep in an executor: the same trials, each once, and the truth about lost ones."""

import os
import signal
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from optuna.trial import TrialState

from ablation.core.errors import RunError, UsageError
from ablation.executors.protocol import Event, Kind, Work
from ablation.tracking import names
from ablation.tracking.store import open_store
from studies.storage import refuse_local_storage
from studies.study import SweepRequest, encoder_digests, open_study, resolve_sweep
from studies.sweep import sweep
from studies.taking import Limits
from studies.workers import MAX_ATTEMPTS, SentSweep, run_workers
from tests.commands import Command
from tests.studies.test_interrupted import command, complete, load, trials_of
from tests.studies.test_sweep import capture_lines, ignore_line, tracked

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("on", "package"),
    [
        ("local:2", "multiprocessing"),
        ("slurm:cluster=local,time=20", "submitit"),
        pytest.param("ray:local", "ray", marks=pytest.mark.soak),
    ],
)
def test_trials_of_workers_have_the_values_of_one_process(
    on: str,
    package: str,
    request_: SweepRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip(package)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    elsewhere = replace(request_, study="elsewhere", on=on, cpus_per_run=1)
    lines, echo = capture_lines()
    theirs = complete(sweep(resolve_sweep(elsewhere), echo).study)
    here = complete(sweep(resolve_sweep(replace(request_, cpus_per_run=1)), ignore_line).study)
    assert {k: t.values for k, t in theirs.items()} == {k: t.values for k, t in here.items()}
    assert len([line for line in lines if line.startswith("worker ") and ": trial " in line]) == 5
    runs = trials_of(str(request_.tracking_uri))
    assert {run.info.status for run in runs} == {"FINISHED"}
    by_workers = [run for run in runs if names.WORK in run.data.tags]
    assert len(by_workers) == 5


def test_a_killed_worker_is_started_again_and_its_trial_is_done_once(
    request_: SweepRequest, store_uri: str, tmp_path: Path
) -> None:
    request = replace(request_, trials=3, overrides={"optimisation.epochs": 40})
    on = ("--on", "local:1", "--cpus-per-run", "1")
    process = Command(command(request, tmp_path, *on), tmp_path)
    process.read_until("worker 1: trial ")
    first = load(request).get_trials(states=(TrialState.COMPLETE,))[0]
    os.kill(int(first.user_attrs["process"].split(":")[1]), signal.SIGKILL)
    process.read_until("worker 1: lost: ")
    output, errors = process.communicate()
    assert process.returncode == 0, output + errors
    assert len(complete(load(request))) == 3
    assert "RUNNING" not in {run.info.status for run in tracked(store_uri)}


def test_an_interrupt_ends_every_trial_in_truth_and_the_study_goes_on(
    request_: SweepRequest, store_uri: str, tmp_path: Path
) -> None:
    request = replace(request_, trials=5, overrides={"optimisation.epochs": 40})
    process = Command(command(request, tmp_path, "--workers", "2"), tmp_path)
    process.read_until(": trial ")
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 130
    assert "RUNNING" not in {run.info.status for run in tracked(store_uri)}
    swept = sweep(resolve_sweep(request), ignore_line)
    assert len(complete(swept.study)) == 5


class Ending:
    """An executor whose works all end as `kind` says, for one reason."""

    def __init__(self, kind: Kind) -> None:
        self.submitted: list[Work] = []
        self._kind = kind
        self._news: list[Event] = []

    def submit(self, work: Work) -> str:
        self.submitted.append(work)
        self._news.append(Event(work.id, self._kind, "no such machine"))
        return work.id

    def events(self) -> list[Event]:
        news, self._news = self._news, []
        return news

    def cancel(self, work: str) -> None:
        """Do nothing: all have ended."""

    def close(self) -> None:
        """Do nothing: all have ended."""


@pytest.mark.parametrize(("kind", "starts"), [("failed", 2), ("lost", 2 * MAX_ATTEMPTS)])
def test_a_sweep_whose_workers_all_fail_says_why(
    kind: Kind, starts: int, request_: SweepRequest
) -> None:
    resolved = resolve_sweep(replace(request_, workers=2))
    encoders = encoder_digests(resolved)
    study = open_study(resolved, encoders)
    experiment = resolved.store.client.create_experiment("studies")
    limits = Limits(datetime.now(), float("inf"))
    sent = SentSweep.of(resolved, experiment, encoders, limits)
    executor, (lines, echo) = Ending(kind), capture_lines()
    with pytest.raises(RunError, match=r"no worker went on to the study's end: .*such"):
        run_workers(executor, sent, resolved, study, echo)
    assert len(executor.submitted) == starts
    assert len({work.id for work in executor.submitted}) == starts
    assert any("worker 2: " in line for line in lines)


class TestPlaces:
    """Refuse a storage that workers on other machines could not reach before anything starts."""

    def test_a_store_of_this_machine(self, request_: SweepRequest, store_uri: str) -> None:
        resolved = resolve_sweep(replace(request_, on="slurm", workers=8))
        with pytest.raises(UsageError, match=f"mlflow server --backend-store-uri {store_uri}"):
            sweep(resolved, ignore_line)
        assert open_store(store_uri).client.get_experiment_by_name("studies") is None

    @pytest.mark.parametrize("url", ["sqlite:////home/me/studies.db", "journal:/home/me/study.log"])
    def test_a_storage_of_this_machine(self, url: str) -> None:
        with pytest.raises(UsageError, match=r"--storage postgresql.*\n.*docker run .*postgres"):
            refuse_local_storage(url, "ray")

    def test_no_database_that_is_served(self) -> None:
        refuse_local_storage("postgresql+psycopg://me@host/studies", "ray")

    def test_two_numbers_of_workers(self, request_: SweepRequest) -> None:
        with pytest.raises(UsageError, match="give one number of workers"):
            resolve_sweep(replace(request_, on="local:2", workers=3))
        assert resolve_sweep(replace(request_, on="local:2")).workers == 2
        assert resolve_sweep(replace(request_, workers=3)).on == "local:3"
