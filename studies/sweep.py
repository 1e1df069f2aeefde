"""A sweep: a study by name, its trials carried out by one or more workers, killed and resumed at will.

A study that exists goes on if it asks the same of the same data, and is refused otherwise. Trials
whose worker died are taken back and run again with the same parameters; `trials` counts all that
were completed, pruned or failed for a reason, before and now.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import optuna
import torch
from filelock import FileLock
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from ablation import provenance
from ablation.encoders.loading import transformer_layers
from ablation.request import Preparations
from ablation.runner import sigterm_as_interrupt
from ablation.tracking import names
from ablation.tracking.processes import end_orphans, is_dead, this_process
from ablation.tracking.runs import reopen_run, start_run
from ablation.tracking.store import experiment_id
from studies.space import check, configure, suggest
from studies.storage import lock_file
from studies.study import (
    OBJECTIVES,
    REASON,
    Laid,
    Request,
    counts,
    lay_out,
    open_study,
    params_of,
    queue_grid,
    wanted_trials,
)
from studies.trial import Place, run_trial, track_known

_PROCESS: Final = "process"
_RETRIED: Final = "retried"
_SAME_AS: Final = "same_as"
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Swept:
    """A study after a sweep."""

    study: Study
    laid: Laid
    study_run: str


def sweep(laid: Laid, tell: Tell) -> Swept:
    """Carry the study on until it has its trials. Raises UsageError for one that is another study of that name."""
    preparations = Preparations(laid.corpus)
    layers = _layers(laid, preparations)
    check(laid.space, laid.differences, layers)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a failed trial is told in a line; MLflow keeps its traceback
    study = open_study(laid, worker=0)
    experiment = experiment_id(laid.store, laid.request.experiment or "studies")
    end_orphans(laid.store, experiment)
    study_run = _open_run(laid, study, experiment)
    taken = recover(study)
    wanted = wanted_trials(laid, layers)
    tell(f"study {laid.study_name!r}: {_count_done(study)} of {wanted} trials done" + (f", {taken} taken back" if taken else ""))
    try:
        study = _carry_on(laid, study, preparations, layers, experiment, study_run, tell)
    except KeyboardInterrupt:
        laid.store.writer.set_terminated(study_run, "KILLED")
        if laid.store.delivery:
            laid.store.delivery.drain()
        raise
    return Swept(study, laid, study_run)


def _carry_on(
    laid: Laid, study: Study, preparations: Preparations, layers: int, experiment: str, study_run: str, tell: Tell
) -> Study:
    """Trials until there are enough, here or in worker processes."""
    deadline = time.time() + laid.request.timeout if laid.request.timeout else float("inf")
    if laid.request.workers == 1:
        with sigterm_as_interrupt():
            _work(laid, study, preparations, layers, experiment, study_run, deadline, tell)
    else:
        _in_processes(laid, deadline)
        study = open_study(laid, worker=0)
    return study


def recover(study: Study) -> int:
    """Fail the trials whose worker on this machine is dead, and queue their parameters again; returns how many."""
    count = 0
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        process = trial.user_attrs.get(_PROCESS)
        if process is None or is_dead(process):
            study.tell(trial.number, state=TrialState.FAIL)
            count += 1
    # Also those that ended as FAIL by a signal or by losing their heartbeat, once each.
    for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
        params = params_of(trial)
        if REASON in trial.user_attrs or not params or _was_retried(study, trial):
            continue
        study.enqueue_trial(params, user_attrs={_RETRIED: trial.number})
    return count


def work(request: Request, worker: int, threads: int, deadline: float) -> None:
    """A worker process: takes trials until there are enough. Started by `sweep`."""
    torch.set_num_threads(threads)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a failed trial is told in a line; MLflow keeps its traceback
    laid = lay_out(request)
    preparations = Preparations(laid.corpus)
    layers = _layers(laid, preparations)
    study = open_study(laid, worker)
    experiment = experiment_id(laid.store, request.experiment or "studies")
    parent = os.getppid()

    def tell(line: str) -> None:
        print(f"worker {worker}: {line}", flush=True)
        if os.getppid() != parent:
            raise KeyboardInterrupt("the sweep that started this worker is gone")

    with sigterm_as_interrupt():
        _work(laid, study, preparations, layers, experiment, study.user_attrs["mlflow_run_id"], deadline, tell)


def _work(
    laid: Laid,
    study: Study,
    preparations: Preparations,
    layers: int,
    experiment: str,
    study_run: str,
    deadline: float,
    tell: Tell,
) -> None:
    place = Place(laid.store, experiment, study_run, _tags(laid))
    wanted, lock = wanted_trials(laid, layers), FileLock(lock_file(laid.storage_url))
    multi = len(OBJECTIVES[laid.request.objective]) > 1

    def objective(trial: optuna.Trial) -> float | tuple[float, ...]:
        params = suggest(trial, laid.space, layers)
        trial.set_user_attr(_PROCESS, this_process())
        lock.release()  # the next worker may look how many trials there are
        try:
            before = _same(study, trial, params)
            if before is not None:  # a sampler may ask again; the answer is known
                trial.set_user_attr(_SAME_AS, before.number)
                track_known(place, trial.number, before, params)
                return tuple(before.values) if multi else before.values[0]
            config = configure(laid.space, laid.differences, params)
            prepared = preparations.get(config)
            pearson, seconds = run_trial(
                trial, params, laid.space.variant, config, prepared, laid.splits, laid.request.seed, place, prune=not multi
            )
        except optuna.TrialPruned:
            raise
        except Exception as error:
            trial.set_user_attr(REASON, f"{type(error).__name__}: {error}")
            raise
        return (pearson, seconds) if multi else pearson

    while time.time() < deadline:
        lock.acquire()
        if _count_done(study) + _count_running(study) >= wanted:
            lock.release()
            return
        queue_grid(study, laid, layers)
        try:
            study.optimize(objective, n_trials=1, catch=(Exception,))
        finally:
            if lock.is_locked:
                lock.release()
        tell(_line(study, study.get_trials(deepcopy=False)))


def _in_processes(laid: Laid, deadline: float) -> None:
    """Workers side by side, each with its share of the cores. Ctrl-C ends them all."""
    context = multiprocessing.get_context("spawn")
    threads = max(1, torch.get_num_threads() // laid.request.workers)
    processes = [
        context.Process(target=work, args=(laid.request, number, threads, deadline), name=f"worker-{number}")
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


def _layers(laid: Laid, preparations: Preparations) -> int:
    config = configure(laid.space, laid.differences, {})
    return len(transformer_layers(preparations.get(config).encoder.model))


def _open_run(laid: Laid, study: Study, experiment: str) -> str:
    """The study's own MLflow run: made once, found again by the study."""
    known = study.user_attrs.get("mlflow_run_id")
    if known is None:
        known = _new_run(laid, experiment)
        study.set_user_attr("mlflow_run_id", known)
    reopen_run(laid.store, known)
    return str(known)


def _new_run(laid: Laid, experiment: str) -> str:
    below = {names.PARENT: laid.request.parent} if laid.request.parent else {}
    run = start_run(laid.store, experiment, f"study {laid.study_name}", {names.KIND: names.STUDY, **_tags(laid), **below})
    run.corpus(replace(laid.corpus, test=None))  # its test rows are not looked at
    run.params({"study": laid.study_name, "space": laid.request.space, "splits": ",".join(laid.splits)})
    run.json(names.ENVIRONMENT_FILE, provenance.environment())
    run.json("space.json", laid.space.model_dump(mode="json"))
    run.end("FINISHED")
    return run.run_id


def _tags(laid: Laid) -> Mapping[str, object]:
    source = provenance.source()
    return {
        names.PROFILE: laid.request.profile, names.CORPUS: laid.corpus.name, names.SPLIT: ",".join(laid.splits),
        names.SYNTHETIC: str(laid.corpus.synthetic).lower(), names.COMMIT: source.commit or "none",
        names.DIRTY: str(source.dirty).lower(), f"{names.IDENTITY_PART}data": laid.corpus.digest,
        names.STUDY_NAME: laid.study_name, names.VARIANT: laid.space.variant,
    }  # fmt: skip


def _count_done(study: Study) -> int:
    """Completed and pruned trials, and those that failed for a reason of their own."""
    return sum(counts(trial) for trial in study.get_trials(deepcopy=False))


def _count_running(study: Study) -> int:
    return len(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))


def _same(study: Study, trial: optuna.Trial, params: Mapping[str, Any]) -> FrozenTrial | None:
    """A completed trial with the same parameters."""
    completed = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return next((t for t in completed if t.params == params and t.number != trial.number), None)


def _was_retried(study: Study, trial: FrozenTrial) -> bool:
    """Whether the trial was queued again: by `recover`, or by Optuna for a lost heartbeat."""
    others = study.get_trials(deepcopy=False)
    return any(t.user_attrs.get(_RETRIED) == trial.number or t.system_attrs.get("failed_trial") == trial.number for t in others)


def _line(study: Study, trials: list[FrozenTrial]) -> str:
    """What became of the newest trial that ended, and the best so far."""
    ended = [t for t in trials if t.state.is_finished()]
    last = max(ended, key=lambda t: t.datetime_complete.timestamp() if t.datetime_complete else 0.0)
    params = ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in last.params.items()
    )
    values = " and ".join(f"{v:.4f}" for v in last.values or ())
    if _SAME_AS in last.user_attrs:
        values += f", as trial {last.user_attrs[_SAME_AS]}"
    became = values or last.user_attrs.get(REASON) or last.state.name.lower()
    best = ""
    if len(study.directions) == 1 and any(t.state == TrialState.COMPLETE for t in trials):
        best = f"; best {study.best_value:.4f} (trial {study.best_trial.number})"
    return f"trial {last.number}: {params}: {became}{best}"
