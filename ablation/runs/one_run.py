"""Train, reuse or combine one run of a plan, unless another process is at it."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from ablation.core.errors import RunError, UsageError, first_line
from ablation.core.identity import RunKey
from ablation.core.interrupts import raise_if_interrupted
from ablation.core.locks import POLL_S
from ablation.core.state import checkpoints_root, run_slot
from ablation.data.splits import make_split
from ablation.runs.context import RunContext
from ablation.runs.execution import (
    TrainingJob,
    finished_meanwhile,
    open_run,
    reuse,
    run_and_record,
    train_tracked,
)
from ablation.runs.exporting import export_run
from ablation.runs.keeping import drop_beaten, keep_run
from ablation.runs.leasing import try_lease
from ablation.runs.new_test_rows import predict_new_rows
from ablation.runs.notes import failed_note, question_of, run_note
from ablation.runs.plan import PlannedRun, ensemble_identity
from ablation.runs.request import ResolvedRun
from ablation.runs.results import RunOutcome
from ablation.tracking import names
from ablation.tracking.damage import DamagedRunError
from ablation.tracking.reading import read_frame
from ablation.tracking.runs import TrackedRun
from ablation.tracking.uris import redact_uri

if TYPE_CHECKING:
    from ablation.training.train_run import RunResult

T = TypeVar("T")


def run_or_reuse(
    context: RunContext,
    planned: ResolvedRun,
    run: PlannedRun,
    outcomes: Mapping[RunKey, RunOutcome],
) -> RunOutcome | None:
    """Return the run's outcome; None if another process is training it.

    Args:
        context: The suite.
        planned: The plan.
        run: One of its runs.
        outcomes: The outcomes so far, among them an ensemble's candidates.
    """
    members: list[RunOutcome] = []
    expected = run.identity.digest
    if run.config is None:  # an ensemble's members are known only now
        members = _members(run.key, outcomes)
        records = [member.record for member in members if member.record]
        identity = ensemble_identity(run.key, [record.identity for record in records])
        run = replace(run, identity=identity)
        if identity.digest != expected:  # what the plan would have reused is another ensemble
            run = replace(run, state="to do")
    return make_once(
        context, run.key, run, names.RUN, lambda: run_one(context, planned, run, members)
    )


def make_once(
    context: RunContext, key: RunKey, run: PlannedRun, kind: str, make: Callable[[], RunOutcome]
) -> RunOutcome | None:
    """Reuse a run, or make it unless another process does; None if one does.

    Args:
        context: The suite or study.
        key: Names the run in what is printed.
        run: The run.
        kind: Its `ablation.kind`.
        make: Makes it; called while this process alone holds the run.
    """
    outcome, damaged = reuse_planned(context, key, run)
    if outcome is not None:
        return outcome
    with try_lease(context, slot_of(context, run), run.identity.digest) as hold:
        if hold is None:
            context.progress.waits(key)
            return None
        run_id = finished_meanwhile(context, run.identity.digest, kind, damaged=damaged)
        if run_id is not None:
            return reuse(context, key, run_id)
        outcome = make()
        hold.run_id = outcome.run_id
        return outcome


def reuse_planned(
    context: RunContext, key: RunKey, run: PlannedRun
) -> tuple[RunOutcome | None, str | None]:
    """Return the outcome of a run that had finished when it was planned, if it is intact.

    Returns:
        The outcome, or None; and the id of the stored run if it is damaged.
    """
    if not run.is_reused or not run.run_id:
        return None, None
    try:
        return reuse(context, key, run.run_id), None
    except DamagedRunError as error:
        context.progress.say(f"{key}: {error}; this one is trained again")
        return None, run.run_id


def take_turns(runs: Sequence[T], attempt: Callable[[T, Sequence[T]], RunOutcome | None]) -> None:
    """Attempt runs in their order, until each has an outcome.

    Args:
        runs: The runs.
        attempt: Takes a run and those before it that have no outcome yet; returns None if the run
            has to be tried again later, such as one that another process is training.
    """
    waiting = runs
    while waiting:
        left: list[T] = []
        for run in waiting:
            raise_if_interrupted()
            if attempt(run, left) is None:
                left.append(run)
        if left and len(left) == len(waiting):
            time.sleep(POLL_S)
        waiting = left


def run_one(
    context: RunContext, planned: ResolvedRun, run: PlannedRun, members: Sequence[RunOutcome]
) -> RunOutcome:
    """Train the run, or combine its members if it is an ensemble; an error fails this run only."""
    question = question_of(run.key, planned.table)
    tags = {names.NOTE: question}
    if run.config is not None and planned.tuning and planned.tuning.each_its_own:
        tags[names.OWN_FIELDS] = json.dumps(planned.tuning.fields)
    checkpoints = checkpoints_root() / slot_of(context, run)
    tracked = open_run(context, run, str(run.key), tags=tags)

    def make() -> "RunResult":
        try:
            result = train()
        except Exception as error:
            with suppress(Exception):  # the store may be what fails
                note = failed_note(question, redact_uri(first_line(error)))
                tracked.set_tags({names.NOTE: note})
            raise
        tracked.set_tags({names.NOTE: run_note(question, result.record)})
        return result

    def train() -> "RunResult":
        if run.config is None:
            return _combine(context, planned, run, members, tracked)
        keeps = planned.request.keep != "none" or planned.request.export is not None
        if run.weights_of is not None:
            try:
                return predict_new_rows(context, tracked, run, keep=keeps)
            except (UsageError, RunError, OSError) as error:
                context.progress.say(f"{run.key}: {first_line(error)}; trained again instead")
        job = TrainingJob(run.key, run.config, run.identity.digest, checkpoints)
        result = train_tracked(context, tracked, job)
        if keeps:
            prepared = context.preparations.get(run.config)
            if problem := keep_run(context.corpus, run, prepared, result):
                context.progress.say(f"{run.key}: {problem}")
        return result

    return run_and_record(context, tracked, run.key, checkpoints, make)


def slot_of(context: RunContext, run: PlannedRun) -> str:
    """Return the name of the run's files in the state folder."""
    return run_slot(context.store.uri, context.experiment, run.identity.digest)


def use_weights(
    context: RunContext,
    planned: ResolvedRun,
    outcome: RunOutcome,
    outcomes: Mapping[RunKey, RunOutcome],
) -> None:
    """Export a run's model if that is requested, then drop the weights that are not to be kept."""
    request = planned.request
    if request.export and (problem := export_run(context.store, outcome, outcomes, request.export)):
        context.progress.say(f"{outcome.key}: {problem}")
    if outcome.state == "finished":
        drop_beaten(planned.runs, outcomes, request.keep)


def lacks_members(ensemble: PlannedRun, left: Sequence[PlannedRun]) -> bool:
    """Return whether one of the runs that have not ended is of the ensemble's split and seed."""
    key = ensemble.key
    return any((run.key.split, run.key.seed) == (key.split, key.seed) for run in left)


def _members(key: RunKey, outcomes: Mapping[RunKey, RunOutcome]) -> list[RunOutcome]:
    """Return the runs that an ensemble may choose from: this suite's, of its split and seed."""
    return [
        outcome
        for other, outcome in outcomes.items()
        if (other.split, other.seed) == (key.split, key.seed)
        and outcome.record
        and not outcome.record.members
    ]


def _combine(
    context: RunContext,
    planned: ResolvedRun,
    run: PlannedRun,
    members: Sequence[RunOutcome],
    tracked: TrackedRun,
) -> "RunResult":
    """Select an ensemble from its members' stored predictions, and tag the runs that it chose."""
    # Imported here: with transformers it takes seconds, and reused runs don't need it.
    from ablation.training.ensemble import run_ensemble

    store, corpus, key = context.store, context.corpus, run.key
    run_ids = {
        member.key.variant: member.run_id
        for member in members
        if member.record and not member.record.collapsed and member.run_id
    }
    dev = {name: read_frame(store, i, names.DEV_PREDICTIONS) for name, i in run_ids.items()}
    test = None
    if corpus.test is not None:
        test = {name: read_frame(store, i, names.TEST_PREDICTIONS) for name, i in run_ids.items()}
    data = next(r.config.data for r in planned.runs if r.config is not None)
    split = make_split(corpus, key.split, data.split_seed, data.equal_texts)
    result = run_ensemble(corpus, key, run.identity.digest, split, dev, test)
    chosen = result.record.members or {}
    member_runs = {name: run_id for name, run_id in run_ids.items() if name in chosen}
    tracked.set_tags({names.MEMBER_RUNS: json.dumps(member_runs)})
    return result
