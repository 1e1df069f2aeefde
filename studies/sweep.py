"""A sweep: a study's trials run by one or more workers, which may be killed and resumed at will.

An existing study is resumed if it has the same definition, and is refused otherwise. This process
takes the trials itself (`taking`), or an executor's workers do, here or elsewhere (`workers`).
"""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import optuna
from optuna.study import Study

from ablation.core.counting import counted
from ablation.core.state import checkpoints_root
from ablation.executors.protocol import Executor
from ablation.runs.context import Preparations
from ablation.runs.placement import (
    executor_on,
    refuse_local_artifacts,
    refuse_local_store,
    threads_of,
)
from ablation.runs.runner import sigterm_as_interrupt
from ablation.tracking.orphans import end_orphans, end_runs_on_interrupt
from ablation.tracking.runs import fail_run
from ablation.tracking.store import experiment_id
from ablation.training.checkpoints import prune
from studies.space import check
from studies.storage import lost_storage, refuse_local_storage
from studies.study import ResolvedSweep, encoder_digests, open_study, wanted_trials
from studies.study_lock import StudyLock
from studies.study_run import open_study_run
from studies.taking import (
    Limits,
    Worker,
    count_done,
    count_layers,
    recover,
    repeated_failure,
    take_trials,
)
from studies.trial import Echo, trial_context
from studies.workers import MODULE, SentSweep, run_workers

DEFAULT_EXPERIMENT: Final = "studies"


@dataclass(frozen=True)
class SweepResult:
    """A study after a sweep; `stopped` says why it ended early, and is empty if it did not."""

    study: Study
    resolved: ResolvedSweep
    study_run: str
    stopped: str = ""


def sweep(resolved: ResolvedSweep, echo: Echo) -> SweepResult:
    """Run trials until the study has the requested number.

    Args:
        resolved: The checked request.
        echo: Called with lines for the user.

    Raises:
        UsageError: The space can't be searched, the study exists with another definition, or
            workers on other machines could not reach store or storage.
        RunError: The storage was lost, or every worker.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the runs are ended as KILLED.
    """
    with sigterm_as_interrupt(), open_workers(resolved) as executor:
        return sweep_with(resolved, executor, echo)


def open_workers(resolved: ResolvedSweep) -> AbstractContextManager[Executor | None]:
    """Open the executor of a sweep's workers; None if this process takes the trials.

    Raises UsageError as `sweep` does.
    """
    if resolved.place.is_here:
        return nullcontext()
    store, on = resolved.store, resolved.on

    def refuse_local() -> None:
        refuse_local_store(store, on)
        refuse_local_storage(resolved.storage_url, on)
        refuse_local_artifacts(store, _experiment(resolved), on)

    return executor_on(on, resolved.resources, MODULE, refuse_local)


def sweep_with(resolved: ResolvedSweep, executor: Executor | None, echo: Echo) -> SweepResult:
    """Run trials as `sweep` does, in this process or by workers of an executor that is open."""
    # A failed trial is reported in a line; MLflow has its traceback.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    preparations = Preparations(resolved.corpus)
    encoders = encoder_digests(resolved)
    layers = count_layers(resolved, preparations)
    check(resolved.space, resolved.overrides, layers, resolved.table)
    study = open_study(resolved, encoders)
    experiment = _experiment(resolved)
    end_orphans(resolved.store, experiment)
    prune(checkpoints_root())
    with end_runs_on_interrupt(resolved.store, experiment):
        with StudyLock(resolved.storage_url):
            study_run = open_study_run(resolved, study, experiment)
            recovered = recover(study)
        wanted = wanted_trials(resolved, layers)
        note = f", {recovered} taken back" if recovered else ""
        done = f"{count_done(study)} of {counted(wanted, 'trial')} done"
        echo(f"study {resolved.study_name!r}: {done}{note}")
        timeout = resolved.request.timeout
        limits = Limits(datetime.now(), time.time() + timeout if timeout else float("inf"))
        try:
            if executor is None:
                context = trial_context(resolved, experiment, study_run, encoders)
                with threads_of(resolved.resources, resolved.place, resolved.request.cpus_per_run):
                    worker = Worker(resolved, study, preparations, layers, context, echo)
                    take_trials(worker, limits)
            elif count_done(study) < wanted:
                sent = SentSweep.of(resolved, experiment, encoders, limits)
                run_workers(executor, sent, resolved, study, echo)
                study = open_study(resolved, encoders)
        except BaseException as error:
            ending = lost_storage(resolved.storage_url, error) or error
            fail_run(resolved.store, study_run, ending)
            if ending is error:
                raise
            raise ending from error
    # Of workers that died beside this one: no other command may follow.
    end_orphans(resolved.store, experiment)
    stopped = repeated_failure(study, limits)
    if stopped:
        echo(f"study {resolved.study_name!r} stopped: {stopped}")
    return SweepResult(study, resolved, study_run, stopped)


def _experiment(resolved: ResolvedSweep) -> str:
    """Return the id of the requested experiment."""
    return experiment_id(resolved.store, resolved.request.experiment or DEFAULT_EXPERIMENT)
