"""A sweep: a study by name, its trials carried out by one or more workers, killed and resumed at will.

A study that exists goes on if it asks the same of the same data, and is refused otherwise. Trials
whose worker died are taken back and run again with the same parameters; `trials` counts all that
were completed, pruned or failed for a reason, before and now. Several processes may carry on the same
study: each takes trials under the study's lock, and all end when it has them.
"""

import multiprocessing
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import optuna
import torch
from filelock import FileLock
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from ablation.core.identity import RunKey, code_digest, libraries
from ablation.core.locks import POLL_S, lock
from ablation.core.state import checkpoints_root
from ablation.encoders.loading import transformer_layers
from ablation.runs.request import Preparations
from ablation.runs.runner import sigterm_as_interrupt
from ablation.tracking import names, provenance
from ablation.tracking.orphans import end_orphans, end_runs_on_interrupt
from ablation.tracking.process_id import is_alive_here, is_dead, this_process
from ablation.tracking.runs import fail_on_error, reopen_run, start_run
from ablation.tracking.store import experiment_id
from ablation.tracking.uris import redact_uri
from ablation.training.checkpoints import clear, prune
from studies.space import check, configure, suggest
from studies.storage import lock_file
from studies.study import (
    OBJECTIVES,
    REASON,
    ResolvedSweep,
    SweepRequest,
    counts,
    open_study,
    params_of,
    queue_grid,
    resolve_sweep,
    sampler_of,
    wanted_trials,
)
from studies.trial import Echo, TrialContext, TrialJobs, run_trial, slots, track_known

_PROCESS: Final = "process"
_RETRIED: Final = "retried"
_SAME_AS: Final = "same_as"


@dataclass(frozen=True)
class SweepResult:
    """A study after a sweep."""

    study: Study
    laid: ResolvedSweep
    study_run: str


@dataclass(frozen=True)
class _Worker:
    """What a process needs to take trials of a study; `layers` are the encoder's."""

    laid: ResolvedSweep
    study: Study
    preparations: Preparations
    layers: int
    place: TrialContext
    tell: Echo


def sweep(laid: ResolvedSweep, tell: Echo) -> SweepResult:
    """Carry the study on until it has its trials. Raises UsageError for one that is another study of that name."""
    preparations = Preparations(laid.corpus)
    layers = _layers(laid, preparations)
    check(laid.space, laid.differences, layers)
    optuna.logging.set_verbosity(
        optuna.logging.ERROR
    )  # a failed trial is told in a line; MLflow keeps its traceback
    study = open_study(laid)
    experiment = experiment_id(laid.store, laid.request.experiment or "studies")
    end_orphans(laid.store, experiment)
    prune(checkpoints_root())
    with end_runs_on_interrupt(laid.store, experiment):
        with FileLock(lock_file(laid.storage_url)):
            study_run = _open_run(laid, study, experiment)
            taken = recover(study)
        wanted = wanted_trials(laid, layers)
        back = f", {taken} taken back" if taken else ""
        tell(f"study {laid.study_name!r}: {_count_done(study)} of {wanted} trials done{back}")
        worker = _Worker(
            laid, study, preparations, layers, _place(laid, experiment, study_run), tell
        )
        deadline = time.time() + laid.request.timeout if laid.request.timeout else float("inf")
        try:
            if laid.request.workers == 1:
                with sigterm_as_interrupt():
                    _work(worker, deadline)
            else:
                _in_processes(laid, deadline)
                study = open_study(laid)
        except KeyboardInterrupt:
            laid.store.writer.set_terminated(study_run, "KILLED")
            if laid.store.delivery:
                laid.store.delivery.drain()
            raise
    return SweepResult(study, laid, study_run)


def recover(study: Study, *, unknown: bool = True) -> int:
    """Fail the trials whose worker on this machine is dead, and queue their parameters again; returns how many were failed.

    With `unknown`, also those of which nothing says who works on them: who takes a trial says so before
    it gives the study's lock back. Only for who has that lock.
    """
    count = 0
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        process = trial.user_attrs.get(_PROCESS)
        if unknown if process is None else is_dead(process):
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            count += 1
    # Also those that ended as FAIL by a signal or by losing their heartbeat, once each.
    for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
        params = params_of(trial)
        if REASON in trial.user_attrs or not params or _was_retried(study, trial):
            continue
        study.enqueue_trial(params, user_attrs={_RETRIED: trial.number})
    return count


def work(
    request: SweepRequest,
    number: int,
    threads: int,
    deadline: float,
    environment: Mapping[str, str],
) -> None:
    """A worker process: takes trials until there are enough. Started by `sweep`, whose `environment` it has."""
    os.environ.update(environment)  # what it was forked from may be older than a change
    torch.set_num_threads(threads)
    optuna.logging.set_verbosity(
        optuna.logging.ERROR
    )  # a failed trial is told in a line; MLflow keeps its traceback
    laid = resolve_sweep(request)
    preparations = Preparations(laid.corpus)
    study = open_study(laid)
    experiment = experiment_id(laid.store, request.experiment or "studies")
    parent = os.getppid()

    def tell(line: str) -> None:
        print(f"worker {number}: {line}", flush=True)
        if os.getppid() != parent:
            raise KeyboardInterrupt("the sweep that started this worker is gone")

    place = _place(laid, experiment, study.user_attrs["mlflow_run_id"])
    with sigterm_as_interrupt(), end_runs_on_interrupt(laid.store, experiment):
        _work(
            _Worker(laid, study, preparations, _layers(laid, preparations), place, tell), deadline
        )


def _work(worker: _Worker, deadline: float) -> None:
    """Take trials until the study has enough that ended; those of this machine's other processes are waited for."""
    laid, study = worker.laid, worker.study
    wanted, lock = wanted_trials(laid, worker.layers), FileLock(lock_file(laid.storage_url))
    while time.time() < deadline:
        with lock:
            recover(study, unknown=False)
            running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            is_enough = _count_done(study) + len(running) >= wanted
            if not is_enough:
                queue_grid(study, laid, worker.layers)
                _take(worker, lock)
        if is_enough:
            if not any(is_alive_here(trial.user_attrs.get(_PROCESS, "")) for trial in running):
                return
            time.sleep(POLL_S)


def _take(worker: _Worker, lock: FileLock) -> None:
    """Carry out one trial. `lock` is given back as soon as others may look how many there are."""
    study, number = worker.study, -1
    multi = len(OBJECTIVES[worker.laid.request.objective]) > 1
    with ExitStack() as claims:
        folders: list[Path] = []

        def objective(trial: optuna.Trial) -> float | tuple[float, ...]:
            nonlocal number
            number = trial.number
            params = suggest(trial, worker.laid.space, worker.layers)
            trial.set_user_attr(_PROCESS, this_process())
            lock.release()
            try:
                values = _values(worker, trial, params, claims, folders)
            except optuna.TrialPruned:
                raise
            except Exception as error:
                trial.set_user_attr(REASON, f"{type(error).__name__}: {error}")
                raise
            return values if multi else values[0]

        study.sampler = sampler_of(worker.laid, study)
        study.optimize(objective, n_trials=1, catch=(Exception,))
        for folder in folders:  # the study knows what became of it: there is nothing to go on with
            clear(folder)
    worker.tell(_line(study, number))


def _values(
    worker: _Worker,
    trial: optuna.Trial,
    params: Mapping[str, Any],
    claims: ExitStack,
    folders: list[Path],
) -> tuple[float, ...]:
    """Pearson and seconds of a trial, trained, or taken from the one that had its parameters before.

    What it trains is claimed in `claims`, where its checkpoints are is added to `folders`.
    """
    laid, place = worker.laid, worker.place
    config = configure(laid.space, laid.differences, params)
    keys = [RunKey(laid.space.variant, split, laid.request.seed) for split in laid.splits]
    trainings = TrialJobs(params, config, keys)
    for slot in slots(trainings, place):
        claims.enter_context(lock(slot))
        folders.append(checkpoints_root() / slot)
    if (
        before := _same(worker.study, trial, params)
    ) is not None:  # a sampler may ask again; the answer is known
        trial.set_user_attr(_SAME_AS, before.number)
        track_known(place, trial.number, before, params)
        return tuple(before.values)
    prune = len(OBJECTIVES[laid.request.objective]) == 1
    return run_trial(
        trial, trainings, worker.preparations.get(config), place, worker.tell, prune=prune
    )


def _in_processes(laid: ResolvedSweep, deadline: float) -> None:
    """Workers side by side, each with its share of the cores. Ctrl-C ends them all.

    They are forked from one process that has the libraries loaded and has done nothing with them, where that can be
    had: loading them takes ten seconds of a core for each.
    """
    forking = "forkserver" in multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if forking else "spawn")
    if forking:
        context.set_forkserver_preload([__name__])
    threads = max(1, torch.get_num_threads() // laid.request.workers)
    processes = [
        context.Process(
            target=work,
            args=(laid.request, number, threads, deadline, dict(os.environ)),
            name=f"worker-{number}",
        )
        for number in range(1, laid.request.workers + 1)
    ]
    with sigterm_as_interrupt():
        for process in processes:
            process.start()
        try:
            for process in processes:
                process.join()
        except KeyboardInterrupt:
            for process in processes:
                process.terminate()
            for process in processes:
                process.join()
            raise


def _layers(laid: ResolvedSweep, preparations: Preparations) -> int:
    config = configure(laid.space, laid.differences, {})
    return len(transformer_layers(preparations.get(config).encoder.model))


def _open_run(laid: ResolvedSweep, study: Study, experiment: str) -> str:
    """The study's own MLflow run: made once, found again by the study."""
    known = study.user_attrs.get("mlflow_run_id")
    if known is None:
        known = _new_run(laid, experiment)
        study.set_user_attr("mlflow_run_id", known)
    reopen_run(laid.store, known)
    return str(known)


def _new_run(laid: ResolvedSweep, experiment: str) -> str:
    below = {names.PARENT: laid.request.parent} if laid.request.parent else {}
    run = start_run(
        laid.store,
        experiment,
        f"study {laid.study_name}",
        {names.KIND: names.STUDY, **_tags(laid), **below},
    )
    with fail_on_error(run):
        run.log_dataset(replace(laid.corpus, test=None))  # its test rows are not looked at
        run.log_params(
            {"study": laid.study_name, "space": laid.request.space, "splits": ",".join(laid.splits)}
        )
        run.log_json(names.ENVIRONMENT_FILE, provenance.environment())
        run.log_json("space.json", laid.space.model_dump(mode="json"))
    run.end("FINISHED")
    return run.run_id


def _place(laid: ResolvedSweep, experiment: str, study_run: str) -> TrialContext:
    study = f"{laid.study_name} in {redact_uri(laid.storage_url)}"
    parts = {
        "data": laid.corpus.digest,
        "code": code_digest(),
        "libraries": libraries(),
        "study": study,
    }
    return TrialContext(laid.store, experiment, study_run, _tags(laid), parts)


def _tags(laid: ResolvedSweep) -> Mapping[str, object]:
    source = provenance.source()
    return {
        names.PROFILE: laid.request.profile,
        names.CORPUS: laid.corpus.name,
        names.SPLIT: ",".join(laid.splits),
        names.SYNTHETIC: str(laid.corpus.synthetic).lower(),
        names.COMMIT: source.commit or "none",
        names.DIRTY: str(source.dirty).lower(),
        f"{names.IDENTITY_PART}data": laid.corpus.digest,
        names.STUDY_NAME: laid.study_name,
        names.VARIANT: laid.space.variant,
    }


def _count_done(study: Study) -> int:
    """Completed and pruned trials, and those that failed for a reason of their own."""
    return sum(counts(trial) for trial in study.get_trials(deepcopy=False))


def _same(study: Study, trial: optuna.Trial, params: Mapping[str, Any]) -> FrozenTrial | None:
    """A completed trial with the same parameters."""
    completed = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return next((t for t in completed if t.params == params and t.number != trial.number), None)


def _was_retried(study: Study, trial: FrozenTrial) -> bool:
    """Whether the trial was queued again: by `recover`, or by Optuna for a lost heartbeat."""
    others = study.get_trials(deepcopy=False)
    return any(
        t.user_attrs.get(_RETRIED) == trial.number
        or t.system_attrs.get("failed_trial") == trial.number
        for t in others
    )


def _line(study: Study, number: int) -> str:
    """What became of a trial, and the best so far."""
    trials = study.get_trials(deepcopy=False)
    last = next(trial for trial in trials if trial.number == number)
    params = ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in last.params.items()
    )
    values = " and ".join(f"{v:.4f}" for v in last.values or ())
    if _SAME_AS in last.user_attrs:
        values += f", as trial {last.user_attrs[_SAME_AS]}"
    became = values or last.user_attrs.get(REASON) or last.state.name.lower()
    best = ""
    if len(study.directions) == 1 and any(t.state == TrialState.COMPLETE for t in trials):
        best = f"; best {study.best_value:.4f} (trial {study.best_trial.number})"
    return f"trial {last.number}: {params}: {became}{best}"
