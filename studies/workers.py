"""Workers of a sweep: processes of an executor that take trials of one study.

The driver starts them, prints their lines, starts a lost one again, and ends what a lost one left
running, in MLflow and in the study. The storage is shared, so each worker draws its own trials.
"""

import pickle
import platform
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import optuna
from optuna.study import Study

from ablation.config.variant_table import VariantTable
from ablation.core.errors import RunError
from ablation.core.interrupts import raise_if_interrupted
from ablation.data.corpus import Corpus
from ablation.executors.protocol import Event, Executor, Work
from ablation.runs.remote import (
    SentCode,
    deliver,
    preparations_of,
    refuse_other_encoder,
    sent_environment,
)
from ablation.tracking import names
from ablation.tracking.orphans import end_running, end_runs_on_interrupt
from ablation.tracking.retry import describe_error
from ablation.tracking.store import open_store
from studies.space import Space
from studies.storage import lost_storage
from studies.study import ResolvedSweep, SweepRequest, open_study
from studies.study_lock import StudyLock
from studies.study_run import RUN_ID
from studies.taking import Limits, Worker, count_layers, fail_trials_of, take_trials
from studies.trial import Echo, trial_context

#: The module that local processes are forked with, and the function that executors call.
MODULE: Final = "studies.workers"
FUNCTION: Final = f"{MODULE}:take_sent"
#: So often is a worker started that was lost.
MAX_ATTEMPTS: Final = 3


@dataclass(frozen=True)
class SentSweep:
    """A sweep as it is sent to its workers: what was resolved, where it is kept, and its limits.

    The corpus has no test rows.
    """

    request: SweepRequest
    space: Space
    corpus: Corpus
    overrides: dict[str, Any]
    splits: list[str]
    store: str
    storage_url: str
    study_name: str
    table: VariantTable
    experiment: str
    encoders: Mapping[str, str]
    limits: Limits
    code: SentCode

    @classmethod
    def of(
        cls, resolved: ResolvedSweep, experiment: str, encoders: Mapping[str, str], limits: Limits
    ) -> "SentSweep":
        """Return what is sent of a sweep.

        Args:
            resolved: The sweep.
            experiment: The id of the MLflow experiment.
            encoders: Digests of the encoders by name.
            limits: When to stop.
        """
        return cls(
            resolved.request,
            resolved.space,
            replace(resolved.corpus, test=None),
            resolved.overrides,
            resolved.splits,
            resolved.store.uri,
            resolved.storage_url,
            resolved.study_name,
            resolved.table,
            experiment,
            encoders,
            limits,
            SentCode(),
        )

    def resolve(self) -> ResolvedSweep:
        """Return the sweep with a store of this process. Raises UsageError."""
        return ResolvedSweep(
            self.request,
            self.space,
            self.corpus,
            self.overrides,
            self.splits,
            open_store(self.store),
            self.storage_url,
            self.study_name,
            self.table,
        )


def take_sent(sent: SentSweep, work: str, send: Echo) -> None:
    """Take trials until the study has enough: the work of an executor's process.

    Args:
        sent: The sweep.
        work: The id of this work.
        send: Sends a line for the user.

    Raises:
        RunError: Code, libraries or encoder are not the driver's, or the storage was lost.
        UsageError: Store, storage or encoder can't be used.
    """
    sent.code.adopt()
    for name, digest in sent.encoders.items():
        refuse_other_encoder(name, digest)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    resolved = sent.resolve()
    store, experiment = resolved.store, sent.experiment
    study = open_study(resolved, sent.encoders)
    # Of a job that a scheduler starts anew: nothing else of this attempt is alive.
    end_running(store, experiment, names.WORK, work, "its job was requeued")
    with StudyLock(resolved.storage_url):
        fail_trials_of(study, work)
    preparations = preparations_of(resolved.corpus)
    tags = {names.WORK: work, names.WORKER: platform.node()}
    context = trial_context(resolved, experiment, study.user_attrs[RUN_ID], sent.encoders, tags)
    layers = count_layers(resolved, preparations)
    worker = Worker(resolved, study, preparations, layers, context, send, work)
    try:
        with end_runs_on_interrupt(store, experiment):
            take_trials(worker, sent.limits)
    except Exception as error:
        raise (lost_storage(resolved.storage_url, error) or error) from error
    finally:
        deliver(store)


def run_workers(
    executor: Executor, sent: SentSweep, resolved: ResolvedSweep, study: Study, echo: Echo
) -> None:
    """Run a sweep's workers in an executor until all have ended.

    Args:
        executor: The executor.
        sent: The sweep, as it is sent.
        resolved: The sweep.
        study: The study.
        echo: Called with lines for the user.

    Raises:
        RunError: No worker went on to the study's end.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the workers' runs are ended as KILLED.
    """
    count = f"{resolved.workers} worker{'s' * (resolved.workers != 1)}"
    echo(f"{count} on {resolved.on}, each with {resolved.resources}")
    crew = _Crew(executor, sent, resolved, study, echo)
    try:
        crew.run(resolved.workers)
    except BaseException:
        executor.close()  # processes that can end their runs themselves do
        crew.end_interrupted()
        raise


class _Crew:
    """The workers of a sweep, by the ids of their works."""

    def __init__(
        self,
        executor: Executor,
        sent: SentSweep,
        resolved: ResolvedSweep,
        study: Study,
        echo: Echo,
    ) -> None:
        self._executor, self._resolved, self._study = executor, resolved, study
        self._experiment, self._echo = sent.experiment, echo
        self._shared = pickle.dumps(sent)
        #: Number and attempt of each worker that has not ended.
        self._working: dict[str, tuple[int, int]] = {}
        self._token = uuid.uuid4().hex[:12]
        self._problems: list[str] = []

    def run(self, count: int) -> None:
        """Start the workers, and return when all have ended. Raises RunError if none did well."""
        for number in range(1, count + 1):
            self._start(number, 1)
        while self._working:
            raise_if_interrupted()
            for event in self._executor.events():
                self._handle(event)
        if len(self._problems) == count:
            raise RunError(f"no worker went on to the study's end: {self._problems[0]}")

    def end_interrupted(self) -> None:
        """End the MLflow runs that workers had no time to end."""
        for work in self._working:
            self._end_runs(work, "interrupted")

    def _start(self, number: int, attempt: int) -> None:
        work = f"{self._token}-{number}-{attempt}"
        self._working[work] = number, attempt
        self._executor.submit(
            Work(
                work,
                FUNCTION,
                self._shared,
                pickle.dumps(work),
                self._resolved.resources,
                sent_environment(),
            )
        )

    def _handle(self, event: Event) -> None:
        if event.work not in self._working:
            return
        number, attempt = self._working[event.work]
        match event.kind:
            case "message":
                self._echo(f"worker {number}: {event.value}")
            case "ended":
                del self._working[event.work]
            case "failed":
                self._give_up(event.work, number, str(event.value))
            case "lost" if attempt < MAX_ATTEMPTS:
                self._leave(event.work, f"lost: {event.value}")
                self._echo(f"worker {number}: lost: {event.value}; started again")
                self._start(number, attempt + 1)
            case "lost":
                self._give_up(event.work, number, f"lost {MAX_ATTEMPTS} times: {event.value}")

    def _give_up(self, work: str, number: int, reason: str) -> None:
        self._leave(work, reason)
        self._problems.append(reason)
        self._echo(f"worker {number}: {reason}")

    def _leave(self, work: str, reason: str) -> None:
        """Fail what a worker left running; its parameters are queued again by the others."""
        del self._working[work]
        self._end_runs(work, reason)
        with StudyLock(self._resolved.storage_url):
            fail_trials_of(self._study, work)

    def _end_runs(self, work: str, reason: str) -> None:
        try:
            end_running(self._resolved.store, self._experiment, names.WORK, work, reason)
        except Exception as error:  # whatever the store raises, other workers go on
            self._echo(f"runs of lost workers were not ended: {describe_error(error)}")
