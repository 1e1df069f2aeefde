"""Train a plan's runs in an executor's processes: send, listen, send again what was lost.

The driver alone orders the runs and ensembles, counts attempts, and ends the MLflow runs of workers
that were lost, so that none stays RUNNING.
"""

import pickle
import time
from dataclasses import dataclass
from typing import Any, Final

from ablation.config.own_code import known_sources
from ablation.core.identity import RunKey, code_digest, libraries
from ablation.core.interrupts import raise_if_interrupted
from ablation.core.locks import POLL_S
from ablation.executors.protocol import Event, Executor, Work
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
    SentSuite,
    mark_state,
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


@dataclass
class _Sent:
    run: PlannedRun
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
    """The runs of a plan on their way through an executor."""

    def __init__(
        self,
        executor: Executor,
        context: RunContext,
        planned: ResolvedRun,
        progress: Progress,
    ) -> None:
        """Send nothing yet."""
        self.outcomes: dict[RunKey, RunOutcome] = {}
        self._executor, self._context, self._planned = executor, context, planned
        self._progress = progress
        self._sent: dict[str, _Sent] = {}
        self._count = 0
        #: Runs that another process trains, with the time of the next look.
        self._elsewhere: dict[RunKey, tuple[PlannedRun, float]] = {}
        mark_state(context.suite)
        request = planned.request
        self._shared = pickle.dumps(
            SentSuite(
                request,
                planned.corpus,
                planned.tuning,
                planned.table,
                context.store.uri,
                context.experiment,
                context.suite,
                dict(context.tags),
                code_digest(),
                libraries(),
                known_sources(),
            )
        )

    def run_all(self) -> list[RunOutcome]:
        """Return every run's outcome, in the plan's order."""
        runs = self._planned.runs
        for run in runs:
            if run.config is not None:
                self._begin(run)
        while len(self.outcomes) < len(runs):
            raise_if_interrupted()
            self._look_elsewhere()
            if self._combine():
                continue
            if not self._sent:
                time.sleep(POLL_S)
                continue
            for event in self._executor.events():
                self._handle(event)
        unmark_state(self._context.suite)
        return [self.outcomes[run.key] for run in runs]

    def end_interrupted(self) -> None:
        """End the MLflow runs that workers had no time to end."""
        self._end_running(names.PARENT, self._context.suite, "interrupted")

    def _begin(self, run: PlannedRun) -> None:
        """Reuse a run if that is planned, else send it."""
        if run.is_reused:
            outcome, _ = reuse_planned(self._context, run)
            if outcome is not None:
                self._settle(outcome)
                return
        self._send(run, 1)

    def _send(self, run: PlannedRun, attempt: int) -> None:
        self._count += 1
        work = f"{self._context.suite[:12]}-{self._count}"
        self._sent[work] = _Sent(run, attempt)
        self._executor.submit(
            Work(
                work,
                FUNCTION,
                self._shared,
                pickle.dumps(SentRun(run, work)),
                self._planned.resources,
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
                    self._elsewhere[sent.run.key] = sent.run, time.monotonic() + LOOK_S
                else:
                    self._settle(event.value)
            case "failed":
                del self._sent[event.work]
                self._end_running(names.WORK, event.work, str(event.value))
                self._fail(sent.run, str(event.value))
            case "lost":
                del self._sent[event.work]
                self._again(event.work, sent, str(event.value))

    def _again(self, work: str, sent: _Sent, reason: str) -> None:
        """End a lost run's MLflow run in truth, and send the run again."""
        self._end_running(names.WORK, work, f"lost: {reason}")
        revoke(self._context, sent.run.identity.digest, work)
        if sent.attempt >= MAX_ATTEMPTS:
            self._fail(sent.run, f"lost {MAX_ATTEMPTS} times, the last time: {reason}")
            return
        self._progress.lost(sent.run.key, f"{reason}; attempt {sent.attempt + 1} of {MAX_ATTEMPTS}")
        self._send(sent.run, sent.attempt + 1)

    def _fail(self, run: PlannedRun, reason: str) -> None:
        self._progress.ended(run.key, "failed", note=reason)
        self._settle(RunOutcome(run.key, "failed", None, None, reason))

    def _settle(self, outcome: RunOutcome) -> None:
        self.outcomes[outcome.key] = outcome
        use_weights(self._context, self._planned, outcome, self.outcomes)

    def _look_elsewhere(self) -> None:
        """Reuse the runs that another process has finished, and send those that it gave up."""
        now = time.monotonic()
        for key, (run, at) in list(self._elsewhere.items()):
            if now < at:
                continue
            run_id = finished_meanwhile(self._context, run.identity.digest)
            if run_id is not None:
                del self._elsewhere[key]
                self._settle(reuse(self._context, key, run_id))
            elif is_free(self._context, slot_of(self._context, run), run.identity.digest):
                del self._elsewhere[key]
                self._send(run, 1)
            else:
                self._elsewhere[key] = run, now + LOOK_S

    def _combine(self) -> bool:
        """Combine an ensemble whose members have ended; return whether there was one."""
        left = [run for run in self._planned.runs if run.key not in self.outcomes]
        trained = [run for run in left if run.config is not None]
        for run in left:
            if run.config is None and not lacks_members(run, trained):
                outcome = run_or_reuse(self._context, self._planned, run, self.outcomes)
                if outcome is not None:
                    self._settle(outcome)
                    return True
        return False

    def _end_running(self, tag: str, value: str, reason: str) -> None:
        try:
            end_running(self._context.store, self._context.experiment, tag, value, reason)
        except Exception as error:  # whatever the store raises, other runs go on
            self._progress.say(f"runs of lost workers were not ended: {describe_error(error)}")
