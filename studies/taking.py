"""Take trials of a study until it has enough: the work of one process, which may be killed at will.

Trials whose worker died are run again with the same parameters; the requested number of trials
counts all that were completed, pruned or failed for a reason, before and now. Several processes may
work on one study: each takes trials under the study's lock, and all end when it has them. Three
failures in a row for one reason end the work.
"""

import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import fail_stale_trials
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from ablation.core.errors import first_line
from ablation.core.identity import RunKey
from ablation.core.interrupts import raise_if_interrupted
from ablation.core.locks import POLL_S, lock
from ablation.core.state import checkpoints_root
from ablation.encoders.loading import transformer_layers
from ablation.runs.checkpoint_copies import remove_copies
from ablation.runs.context import Preparations
from ablation.tracking.process_id import is_dead, life_of, this_process
from ablation.training.checkpoints import clear
from studies.space import configure, suggest
from studies.storage import JOURNAL
from studies.study import (
    DIRECTIONS,
    REASON,
    ResolvedSweep,
    is_counted,
    make_sampler,
    params_of,
    queue_grid,
    wanted_trials,
)
from studies.study_lock import StudyLock
from studies.trial import Echo, TrialContext, TrialJobs, run_trial, slots, track_repeated

#: So many failures in a row for one reason end a sweep.
MAX_REPEATED_FAILURES: Final = 3
#: Seconds between two looks at a trial that runs on another machine.
AWAY_POLL_S: Final = 2.0
_PROCESS: Final = "process"
#: A trial's attribute: the id of the executor's work that runs it.
_WORK: Final = "work"
_RETRIED: Final = "retried"
_SAME_AS: Final = "same_as"


@dataclass(frozen=True)
class Limits:
    """Keep a sweep's beginning on Optuna's clock, and its last start in epoch seconds."""

    began: datetime
    deadline: float


@dataclass(frozen=True)
class Worker:
    """All that a process needs to take trials of a study.

    Attributes:
        resolved: The checked request.
        study: The study.
        preparations: The corpus, tokenised, and the encoders.
        layers: The number of the encoder's layers.
        context: What the trials share.
        echo: Called with lines for the user.
        work: The id of the executor's work that this is, if any.
    """

    resolved: ResolvedSweep
    study: Study
    preparations: Preparations
    layers: int
    context: TrialContext
    echo: Echo
    work: str = ""


def take_trials(worker: Worker, limits: Limits) -> None:
    """Take trials until enough have ended; wait for those of other processes and machines."""
    resolved, study = worker.resolved, worker.study
    wanted = wanted_trials(resolved, worker.layers)
    study_lock = StudyLock(resolved.storage_url)
    while time.time() < limits.deadline:
        raise_if_interrupted()
        with study_lock:
            if repeated_failure(study, limits):
                return
            with warnings.catch_warnings():  # it is experimental, which is no user's concern
                warnings.simplefilter("ignore", ExperimentalWarning)
                fail_stale_trials(study)  # those of other machines, which give no sign of life
            # A journal's lock is this machine's: elsewhere a worker may be about to write its name.
            recover(study, include_unowned=not resolved.storage_url.startswith(JOURNAL))
            running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            is_enough = count_done(study) + len(running) >= wanted
            if not is_enough:
                queue_grid(study, resolved, worker.layers)
                _take(worker, study_lock)
        if is_enough:
            pause = _pause_for(running, resolved.storage_url)
            if pause is None:
                return
            time.sleep(pause)


def _pause_for(running: Sequence[FrozenTrial], storage_url: str) -> float | None:
    """Return the seconds until the next look at trials of other processes; None to wait for none.

    A trial of another machine ends, or its heartbeat does. Where trials have none (a journal file),
    nothing tells if it still runs.
    """
    processes = [trial.user_attrs[_PROCESS] for trial in running if _PROCESS in trial.user_attrs]
    lives = [life_of(process) for process in processes]
    if "alive" in lives:
        return POLL_S
    return AWAY_POLL_S if lives and not storage_url.startswith(JOURNAL) else None


def _take(worker: Worker, study_lock: StudyLock) -> None:
    """Run one trial; release the study's lock as soon as the storage has the trial."""
    study, number = worker.study, -1
    multi = len(DIRECTIONS[worker.resolved.request.objective]) > 1
    with ExitStack() as locks:
        folders: list[Path] = []

        def objective(trial: optuna.Trial) -> float | tuple[float, ...]:
            nonlocal number
            number = trial.number
            try:
                params = suggest(trial, worker.resolved.space, worker.layers)
                _own(worker, trial)
                study_lock.release()
                values = _evaluate(worker, trial, params, locks, folders)
            except optuna.TrialPruned:
                raise
            except Exception as error:
                trial.set_user_attr(REASON, f"{type(error).__name__}: {first_line(error)}")
                raise
            return values if multi else values[0]

        study.sampler = make_sampler(worker.resolved, study)
        try:
            study.optimize(objective, n_trials=1, catch=(Exception,))
        except (ValueError, AssertionError):
            # This process stood still: another one gave the trial up and queued its parameters.
            if not _was_given_up(study, number):
                raise
        for folder in folders:  # the trial has ended: no process continues from its checkpoints
            clear(folder)
            remove_copies(worker.context.checkpoints, folder, worker.echo)
    worker.echo(_summary(study, number))


def _own(worker: Worker, trial: optuna.Trial) -> None:
    """Write down whose trial it is, once it has a sign of life.

    Optuna's own first sign may come later. A trial whose worker vanished without one has none that
    others could miss: they would wait for it for ever.
    """
    if not worker.resolved.storage_url.startswith(JOURNAL):
        storage: Any = trial.storage
        storage.record_heartbeat(trial._trial_id)
    trial.set_user_attr(_PROCESS, this_process())
    if worker.work:
        trial.set_user_attr(_WORK, worker.work)


def _evaluate(
    worker: Worker,
    trial: optuna.Trial,
    params: Mapping[str, Any],
    locks: ExitStack,
    folders: list[Path],
) -> tuple[float, ...]:
    """Return Pearson and seconds of a trial: trained, or of an earlier one with its parameters.

    Args:
        worker: The worker.
        trial: Optuna's trial.
        params: The trial's parameters.
        locks: Takes the locks of what is trained.
        folders: Takes the folders of its checkpoints.
    """
    resolved, context = worker.resolved, worker.context
    config = configure(resolved.space, resolved.overrides, params, resolved.table)
    keys = [
        RunKey(resolved.space.variant, split, resolved.request.seed) for split in resolved.splits
    ]
    jobs = TrialJobs(params, config, keys)
    for slot in slots(jobs, context):
        locks.enter_context(lock(slot))
        folders.append(checkpoints_root() / slot)
    earlier = _completed_with(worker.study, trial, params)
    if earlier is not None:
        trial.set_user_attr(_SAME_AS, earlier.number)
        track_repeated(context, trial.number, earlier, params)
        return tuple(earlier.values)
    prune = len(DIRECTIONS[resolved.request.objective]) == 1
    prepared = worker.preparations.get(config)
    return run_trial(trial, jobs, prepared, context, worker.echo, prune=prune)


def recover(study: Study, *, include_unowned: bool = True) -> int:
    """Fail the trials whose worker on this machine is dead, and queue their parameters again.

    Call it with the study's lock only, and while this process runs no trial: a worker writes its
    name before it releases the lock, so a trial without one is of a worker that died.

    Args:
        study: The study.
        include_unowned: Also fail running trials that name no worker.

    Returns:
        The number of trials that were failed.
    """
    count = 0
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        process = trial.user_attrs.get(_PROCESS)
        # A process takes one trial at a time: its own was left by a storage that was lost.
        left = process == this_process()
        if include_unowned if process is None else left or is_dead(process):
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            count += 1
    # Trials that failed by a signal or a lost heartbeat are queued too, once each.
    for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
        params = params_of(trial)
        if REASON in trial.user_attrs or not params or _was_retried(study, trial):
            continue
        study.enqueue_trial(params, user_attrs={_RETRIED: trial.number})
    return count


def fail_trials_of(study: Study, work: str) -> None:
    """Fail the running trials of an executor's work that is lost, so that `recover` queues them.

    Call it with the study's lock only.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.user_attrs.get(_WORK) == work:
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def count_layers(resolved: ResolvedSweep, preparations: Preparations) -> int:
    """Return the number of the encoder's layers. Raises UsageError if it can't be loaded."""
    config = configure(resolved.space, resolved.overrides, {}, resolved.table)
    return len(transformer_layers(preparations.get(config).encoder.model))


def count_done(study: Study) -> int:
    """Count completed and pruned trials, and those that failed for a reason of their own."""
    return sum(is_counted(trial) for trial in study.get_trials(deepcopy=False))


def repeated_failure(study: Study, limits: Limits) -> str:
    """Return the reason for which the sweep's last trials all failed, or an empty text."""
    ended = [
        (trial.datetime_complete, trial.number, trial.user_attrs.get(REASON, ""))
        for trial in study.get_trials(deepcopy=False)
        if trial.datetime_complete and trial.datetime_complete >= limits.began and is_counted(trial)
    ]
    reasons = [reason for _, _, reason in sorted(ended)[-MAX_REPEATED_FAILURES:]]
    if len(reasons) < MAX_REPEATED_FAILURES or len(set(reasons)) > 1 or not reasons[0]:
        return ""
    return f"{MAX_REPEATED_FAILURES} trials in a row failed with {reasons[0]}"


def _was_given_up(study: Study, number: int) -> bool:
    """Return whether another process has failed the trial, for want of a sign of life."""
    states = {trial.number: trial.state for trial in study.get_trials(deepcopy=False)}
    return states.get(number) == TrialState.FAIL


def _completed_with(
    study: Study, trial: optuna.Trial, params: Mapping[str, Any]
) -> FrozenTrial | None:
    """Return a completed trial with the same parameters: a sampler may draw them again."""
    completed = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return next((t for t in completed if t.params == params and t.number != trial.number), None)


def _was_retried(study: Study, trial: FrozenTrial) -> bool:
    """Return True if `recover`, or Optuna after a lost heartbeat, queued the trial again."""
    others = study.get_trials(deepcopy=False)
    return any(
        t.user_attrs.get(_RETRIED) == trial.number
        or t.system_attrs.get("failed_trial") == trial.number
        for t in others
    )


def _summary(study: Study, number: int) -> str:
    """Return a line on a trial's outcome and the best one so far."""
    trials = study.get_trials(deepcopy=False)
    last = next(trial for trial in trials if trial.number == number)
    params = ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in last.params.items()
    )
    values = " and ".join(f"{v:.4f}" for v in last.values or ())
    if _SAME_AS in last.user_attrs:
        values += f", as trial {last.user_attrs[_SAME_AS]}"
    outcome = values or last.user_attrs.get(REASON) or last.state.name.lower()
    best = ""
    if len(study.directions) == 1 and any(t.state == TrialState.COMPLETE for t in trials):
        best = f"; best {study.best_value:.4f} (trial {study.best_trial.number})"
    return f"trial {last.number}: {params}: {outcome}{best}"
