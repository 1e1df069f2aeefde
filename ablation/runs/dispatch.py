"""Train a plan's runs in an executor's processes: send, listen, send again what was lost.

The driver alone orders the runs and ensembles, counts attempts, and ends the MLflow runs of workers
that were lost, so that none stays RUNNING.
"""

import pickle
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ablation.core.identity import RunKey
from ablation.core.interrupts import raise_if_interrupted
from ablation.core.locks import POLL_S
from ablation.executors.protocol import Event, Executor, Resources, Work
from ablation.runs.context import RunContext
from ablation.runs.execution import finished_meanwhile, reuse
from ablation.runs.leasing import is_free, revoke
from ablation.runs.one_run import (
    lacks_members,
    reuse_planned,
    run_or_reuse,
    slot_of,
    use_weights,
)
from ablation.runs.plan import PlannedRun
from ablation.runs.progress import Progress, RunEvents
from ablation.runs.remote import (
    FUNCTION,
    SentRun,
    mark_state,
    pickle_suite,
    sent_environment,
    unmark_state,
)
from ablation.runs.request import ResolvedRun
from ablation.runs.results import RunOutcome
from ablation.tracking import names
from ablation.tracking.orphans import end_running
from ablation.tracking.retry import describe_error

#: So often is a run sent whose worker was lost.
MAX_ATTEMPTS: Final = 3
#: Seconds between two looks at a run that another process is training.
LOOK_S: Final = 10.0


@dataclass(frozen=True)
class Shipment:
    """The form in which runs of a suite or a study are sent.

    Attributes:
        function: "module:name" of a function of (shared, SentRun, send).
        shared: Its pickled first argument.
        resources: Resources of each run.
        kind: The runs' `ablation.kind`.
    """

    function: str
    shared: bytes
    resources: Resources
    kind: str


@dataclass(frozen=True)
class _Sent:
    key: RunKey
    attempt: int


def show(progress: RunEvents, name: str, arguments: tuple[Any, ...]) -> None:
    """Call a method of `progress` as a worker's `Forwarded` was called."""
    match name:
        case "say":
            progress.say(*arguments)
        case "started":
            progress.started(*arguments)
        case "waits":
            progress.waits(*arguments)
        case "resumed":
            progress.resumed(*arguments)
        case "step":
            progress.step(*arguments)
        case "epoch":
            progress.epoch(*arguments)
        case "ended":
            *most, note = arguments
            progress.ended(*most, note=note)


class Dispatch:
    """Runs on their way through an executor."""

    def __init__(
        self, executor: Executor, context: RunContext, shipment: Shipment, progress: Progress
    ) -> None:
        """Send nothing yet."""
        self.outcomes: dict[RunKey, RunOutcome] = {}
        self._runs: Mapping[RunKey, PlannedRun] = {}
        self._executor, self._context, self._shipment = executor, context, shipment
        self._progress = progress
        self._sent: dict[str, _Sent] = {}
        self._count = 0
        #: Runs that another process trains, with the time of the next look.
        self._elsewhere: dict[RunKey, float] = {}

    def run_all(self, runs: Mapping[RunKey, PlannedRun]) -> list[RunOutcome]:
        """Return every run's outcome, in their order; of an interrupt, end all runs in truth.

        Args:
            runs: The runs by the keys that name them in what is shown.
        """
        self._runs = runs
        try:
            return self._run_all()
        except BaseException:
            self._executor.close()  # processes that can end their runs themselves do
            self._end_running(names.PARENT, self._context.suite, "interrupted")
            raise

    def settle(self, outcome: RunOutcome) -> None:
        """Keep a run's outcome."""
        self.outcomes[outcome.key] = outcome

    def combine(self) -> RunOutcome | None:
        """Make a run here that needs others' outcomes, once they are there; None if none can be."""
        return None

    def _run_all(self) -> list[RunOutcome]:
        for key, run in self._runs.items():
            if run.config is not None:
                self._begin(key, run)
        while len(self.outcomes) < len(self._runs):
            raise_if_interrupted()
            self._look_elsewhere()
            if (made := self.combine()) is not None:
                self.settle(made)
            elif self._sent:
                for event in self._executor.events():
                    self._handle(event)
            else:
                time.sleep(POLL_S)
        return [self.outcomes[key] for key in self._runs]

    def _begin(self, key: RunKey, run: PlannedRun) -> None:
        """Reuse a run if that is planned, else send it."""
        outcome, _ = reuse_planned(self._context, key, run)
        if outcome is not None:
            self.settle(outcome)
        else:
            self._send(key, 1)

    def _send(self, key: RunKey, attempt: int) -> None:
        self._count += 1
        work = f"{self._context.suite[:12]}-{self._count}"
        self._sent[work] = _Sent(key, attempt)
        self._executor.submit(
            Work(
                work,
                self._shipment.function,
                self._shipment.shared,
                pickle.dumps(SentRun(key, self._runs[key], work)),
                self._shipment.resources,
                sent_environment(),
            )
        )

    def _handle(self, event: Event) -> None:
        sent = self._sent.get(event.work)
        if sent is None:
            return
        match event.kind:
            case "message":
                name, arguments = event.value
                show(self._progress, name, arguments)
            case "ended":
                del self._sent[event.work]
                if event.value is None:
                    self._elsewhere[sent.key] = time.monotonic() + LOOK_S
                else:
                    self.settle(event.value)
            case "failed":
                del self._sent[event.work]
                self._end_running(names.WORK, event.work, str(event.value))
                self._fail(sent.key, str(event.value))
            case "lost":
                del self._sent[event.work]
                self._again(event.work, sent, str(event.value))

    def _again(self, work: str, sent: _Sent, reason: str) -> None:
        """End a lost run's MLflow run in truth, and send the run again."""
        self._end_running(names.WORK, work, f"lost: {reason}")
        revoke(self._context, self._runs[sent.key].identity.digest, work)
        if sent.attempt >= MAX_ATTEMPTS:
            self._fail(sent.key, f"lost {MAX_ATTEMPTS} times, the last time: {reason}")
            return
        self._progress.lost(sent.key, f"{reason}; attempt {sent.attempt + 1} of {MAX_ATTEMPTS}")
        self._send(sent.key, sent.attempt + 1)

    def _fail(self, key: RunKey, reason: str) -> None:
        self._progress.ended(key, "failed", note=reason)
        self.settle(RunOutcome(key, "failed", None, None, reason))

    def _look_elsewhere(self) -> None:
        """Reuse the runs that another process has finished, and send those that it gave up."""
        now = time.monotonic()
        for key, at in list(self._elsewhere.items()):
            if now < at:
                continue
            run = self._runs[key]
            run_id = finished_meanwhile(self._context, run.identity.digest, self._shipment.kind)
            if run_id is not None:
                del self._elsewhere[key]
                self.settle(reuse(self._context, key, run_id))
            elif is_free(self._context, slot_of(self._context, run), run.identity.digest):
                del self._elsewhere[key]
                self._send(key, 1)
            else:
                self._elsewhere[key] = now + LOOK_S

    def _end_running(self, tag: str, value: str, reason: str) -> None:
        try:
            end_running(self._context.store, self._context.experiment, tag, value, reason)
        except Exception as error:  # whatever the store raises, other runs go on
            self._progress.say(f"runs of lost workers were not ended: {describe_error(error)}")


class SuiteDispatch(Dispatch):
    """The runs of a plan, whose ensembles are combined as soon as their members have ended."""

    def __init__(
        self, executor: Executor, context: RunContext, planned: ResolvedRun, progress: Progress
    ) -> None:
        """Send nothing yet."""
        shipment = Shipment(FUNCTION, pickle_suite(context, planned), planned.resources, names.RUN)
        super().__init__(executor, context, shipment, progress)
        self._planned = planned

    def run_plan(self) -> list[RunOutcome]:
        """Return every run's outcome, in the plan's order."""
        mark_state(self._context.suite)
        outcomes = self.run_all({run.key: run for run in self._planned.runs})
        unmark_state(self._context.suite)
        return outcomes

    def settle(self, outcome: RunOutcome) -> None:
        super().settle(outcome)
        use_weights(self._context, self._planned, outcome, self.outcomes)

    def combine(self) -> RunOutcome | None:
        left = [run for run in self._planned.runs if run.key not in self.outcomes]
        trained = [run for run in left if run.config is not None]
        for run in left:
            if run.config is None and not lacks_members(run, trained):
                outcome = run_or_reuse(self._context, self._planned, run, self.outcomes)
                if outcome is not None:
                    return outcome
        return None
