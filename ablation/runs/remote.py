"""Train a run in a process of an executor: what is sent there, what is checked, what comes back."""

import os
import pickle
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ablation.config.own_code import add_sources, known_sources
from ablation.config.tuning_record import Tuning
from ablation.config.variant_table import VariantTable
from ablation.core.errors import RunError
from ablation.core.identity import RunKey, code_digest, libraries
from ablation.core.state import STATE, state_folder
from ablation.data.corpus import Corpus
from ablation.encoders.sources import encoder_digest
from ablation.runs.context import Preparations, RunContext
from ablation.runs.one_run import run_or_reuse
from ablation.runs.plan import PlannedRun
from ablation.runs.progress import EndState
from ablation.runs.request import ResolvedRun, RunRequest
from ablation.runs.results import RunOutcome
from ablation.tracking import names
from ablation.tracking.leases import settle_leases
from ablation.tracking.orphans import end_running
from ablation.tracking.store import Store, open_store

#: The function that executors call.
FUNCTION: Final = "ablation.runs.remote:train"
#: Beginnings of the variables that workers get: where stores, buckets and encoders are, and keys.
_SENT: Final = ("MLFLOW_", "AWS_", "AZURE_", "GOOGLE_", "HF_", "ABLATION_")
#: Seconds between two messages on the steps of a run.
_STEP_S: Final = 0.5
#: Seconds for what the tracking server has not received when a run has ended.
_DRAIN_S: Final = 60.0

#: A call of one of `Progress`'s methods: its name and arguments.
Message = tuple[str, tuple[Any, ...]]


@dataclass(frozen=True)
class SentCode:
    """The code that a worker has to have, and that of one's own, which it gets.

    Attributes:
        code: `code_digest` of the driver.
        libraries: `libraries` of the driver.
        sources: Sources of one's own functions, by digest.
    """

    code: str = field(default_factory=code_digest)
    libraries: str = field(default_factory=libraries)
    sources: Mapping[str, str] = field(default_factory=known_sources)

    def adopt(self) -> None:
        """Take the sources. Raises RunError if code or libraries are others on this machine."""
        here = platform.node()
        if code_digest() != self.code:
            raise RunError(f"{here} has another version of ablation's code; install the driver's")
        if libraries() != self.libraries:
            raise RunError(
                f"{here} has {libraries()}, the driver {self.libraries}; install the same"
            )
        add_sources(self.sources)


@dataclass(frozen=True)
class SentContext:
    """The part of a `RunContext` that is sent to a worker.

    Attributes:
        corpus: The data.
        store: The tracking store's URI.
        experiment: The experiment's id.
        suite: The suite's or the study's run.
        tags: Tags of every run.
        fresh: Train runs again that have finished before.
        newest_start: When the newest run started that the driver knows, in ms since 1970.
        checkpoints: The URL that checkpoints are copied to.
        code: The driver's code.
    """

    corpus: Corpus
    store: str
    experiment: str
    suite: str
    tags: Mapping[str, object]
    fresh: bool
    newest_start: int
    checkpoints: str
    code: SentCode

    @classmethod
    def of(cls, context: RunContext) -> "SentContext":
        """Return what is sent of a context."""
        return cls(
            context.corpus,
            context.store.uri,
            context.experiment,
            context.suite,
            dict(context.tags),
            context.fresh,
            context.store.newest_start.get(context.experiment, 0),
            context.checkpoints,
            SentCode(),
        )


@dataclass(frozen=True)
class SentSuite:
    """The part that all runs of a suite share, as it is sent to a worker.

    Attributes:
        context: What its runs share.
        request: The suite's request.
        tuning: How the settings were found.
        table: The variants.
    """

    context: SentContext
    request: RunRequest
    tuning: Tuning | None
    table: VariantTable


@dataclass(frozen=True)
class SentRun:
    """A run as it is sent to a worker.

    Attributes:
        key: Names the run in what is shown.
        run: The run.
        work: The id of this attempt.
    """

    key: RunKey
    run: PlannedRun
    work: str


def pickle_suite(context: RunContext, planned: ResolvedRun) -> bytes:
    """Return what the runs of a suite share, as it is sent."""
    return pickle.dumps(
        SentSuite(SentContext.of(context), planned.request, planned.tuning, planned.table)
    )


class Forwarded:
    """Send what `Progress` would show."""

    def __init__(self, send: Callable[[Message], object]) -> None:
        """Send by `send`, which never raises."""
        self._send = send
        self._stepped = 0.0

    def say(self, text: str) -> None:
        self._send(("say", (text,)))

    def started(self, key: RunKey) -> None:
        self._send(("started", (key,)))

    def waits(self, key: RunKey) -> None:
        self._send(("waits", (key,)))

    def resumed(self, key: RunKey, epoch: int) -> None:
        self._send(("resumed", (key, epoch)))

    def step(self, key: RunKey, done: int, total: int) -> None:
        """Send a step, unless one was sent a moment ago."""
        now = time.monotonic()
        if done == total or now - self._stepped >= _STEP_S:
            self._stepped = now
            self._send(("step", (key, done, total)))

    def epoch(self, key: RunKey, epoch: int, scores: Mapping[str, float]) -> None:
        self._send(("epoch", (key, epoch, dict(scores))))

    def ended(
        self,
        key: RunKey,
        state: EndState,
        dev: float | None = None,
        test: float | None = None,
        *,
        note: str = "",
    ) -> None:
        self._send(("ended", (key, state, dev, test, note)))


def train(suite: SentSuite, sent: SentRun, send: Callable[[Message], object]) -> RunOutcome | None:
    """Train or reuse a run, and return its outcome; None if another process is training it.

    Raises:
        RunError: Code, libraries or encoder are not the driver's, so results could be others.
        UsageError: The store or the encoder can't be used.
    """

    def make(context: RunContext) -> RunOutcome | None:
        keeps = state_is_shared(context.suite)
        request = replace(suite.request, export=None, keep=suite.request.keep if keeps else "none")
        planned = ResolvedRun(
            request, context.corpus, context.store, [sent.run], suite.tuning, table=suite.table
        )
        return run_or_reuse(context, planned, sent.run, {})

    return make_sent(suite.context, sent, send, make)


def make_sent(
    shared: SentContext,
    sent: SentRun,
    send: Callable[[Message], object],
    make: Callable[[RunContext], RunOutcome | None],
) -> RunOutcome | None:
    """Make a run that was sent, and return its outcome; None if another process is training it.

    Args:
        shared: What the runs share.
        sent: The run.
        send: Sends what happens to it.
        make: Makes it in a context of this process.

    Raises:
        RunError: Code, libraries or encoder are not the driver's, so results could be others.
        UsageError: The store or the encoder can't be used.
    """
    shared.code.adopt()
    if sent.run.config is not None:
        refuse_other_encoder(sent.run.config.model.encoder, sent.run.identity.parts["encoder"])
    store = open_store(shared.store)
    store.newest_start[shared.experiment] = shared.newest_start
    # Of a job that a scheduler starts anew: nothing else of this attempt is alive.
    end_running(store, shared.experiment, names.WORK, sent.work, "its job was requeued")
    context = RunContext(
        store,
        shared.experiment,
        shared.suite,
        {**shared.tags, names.WORK: sent.work, names.WORKER: platform.node()},
        preparations_of(shared.corpus),
        Forwarded(send),
        shared.fresh,
        checkpoints=shared.checkpoints,
    )
    try:
        outcome = make(context)
    finally:
        deliver(store)
    if outcome is None or outcome.run_id is None:
        return outcome
    run_id = store.run_id(outcome.run_id)
    return replace(outcome, run_id=run_id, kept=store.unsynced_note(outcome.run_id))


def deliver(store: Store) -> None:
    """Wait for a moment until a server has what this process wrote; its machine may be lost."""
    if store.delivery is not None:
        store.delivery.drain(limit=_DRAIN_S)
        settle_leases()


def refuse_other_encoder(name: str, digest: str) -> None:
    """Raise RunError if an encoder has another digest on this machine than the driver's."""
    if encoder_digest(name) != digest:
        raise RunError(f"{platform.node()} has other weights of encoder {name!r} than the driver")


def mark_state(suite: str) -> None:
    """Write a file by which workers find out that they share the driver's state folder."""
    file = state_folder() / "executors" / suite / "driver"
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file.write_text(suite, "ascii")


def unmark_state(suite: str) -> None:
    """Remove that file, once no worker is left."""
    shutil.rmtree(state_folder() / "executors" / suite, ignore_errors=True)


def state_is_shared(suite: str) -> bool:
    """Return whether this process has the driver's state folder: only then are weights kept."""
    return (state_folder() / "executors" / suite / "driver").is_file()


def sent_environment() -> dict[str, str]:
    """Return the variables that workers need to reach stores and encoders as this process does."""
    return {
        name: value
        for name, value in os.environ.items()
        if (name.startswith(_SENT) or name == STATE) and name != names.MLFLOW_RUN_ID
    }


_prepared: dict[tuple[str, bool], Preparations] = {}


def preparations_of(corpus: Corpus) -> Preparations:
    """Return what this process has prepared of a corpus, which comes anew with each work."""
    key = (corpus.digest, corpus.test is None)
    if key not in _prepared:
        _prepared.clear()
        _prepared[key] = Preparations(corpus)
    return _prepared[key]
