"""Execute a plan: train or reuse every run, track it, and keep failures to the run that failed."""

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ablation.config.own_code import FIELDS, parse_own, source_of
from ablation.core.errors import RunError, UsageError, first_line
from ablation.core.identity import RunKey
from ablation.core.interrupts import raise_if_interrupted, signals_as_interrupt
from ablation.core.locks import POLL_S, try_lock
from ablation.core.state import checkpoints_root, run_slot
from ablation.data.splits import make_split
from ablation.runs.context import RunContext, origin_tags
from ablation.runs.energy import EnergyMeter
from ablation.runs.execution import (
    TrainingJob,
    finished_meanwhile,
    open_run,
    reuse,
    row_name,
    run_and_record,
    train_tracked,
)
from ablation.runs.exporting import export_run
from ablation.runs.keeping import drop_beaten, keep_run
from ablation.runs.model_pages import log_models_without_weights
from ablation.runs.new_test_rows import predict_new_rows
from ablation.runs.notes import (
    failed_note,
    question_of,
    results_table,
    run_note,
    suite_note,
    suite_questions,
)
from ablation.runs.plan import PlannedRun, ensemble_identity
from ablation.runs.progress import Progress
from ablation.runs.request import (
    DEFAULT_EXPERIMENT,
    ResolvedRun,
    RunRequest,
    adopted_experiment,
    opened_run,
    prepare_all,
)
from ablation.runs.results import RunOutcome, log_comparison, settle
from ablation.tracking import names, provenance
from ablation.tracking.damage import DamagedRunError
from ablation.tracking.orphans import (
    end_orphans,
    end_runs_on_interrupt,
    mlflow_run_process,
    terminate_with,
)
from ablation.tracking.reading import read_frame
from ablation.tracking.runs import (
    TrackedRun,
    adopt_run,
    describe_run,
    fail_on_error,
    start_run,
)
from ablation.tracking.seal import record_reading
from ablation.tracking.store import experiment_id
from ablation.tracking.uris import redact_uri
from ablation.tracking.views import describe_experiment
from ablation.training.checkpoints import prune

if TYPE_CHECKING:
    from ablation.training.train_run import RunResult


def run_plan(planned: ResolvedRun, progress: Progress) -> list[RunOutcome]:
    """Train what the plan has not reused, and return the outcome of every run in its order.

    A run that fails leaves the others alone. Ctrl-C and SIGTERM end all that is running, marked
    KILLED, and are raised. Raises UsageError before anything is written for an unusable encoder.
    """
    preparations = prepare_all(planned)
    request, store = planned.request, planned.store
    meter = EnergyMeter(request.energy) if request.energy else None
    with sigterm_as_interrupt():
        experiment = _experiment(planned)
        end_orphans(store, experiment)
        with end_runs_on_interrupt(store, experiment):
            tags = origin_tags(planned.corpus, str(request.profile))
            suite = _open_suite(planned, experiment, tags)
            context = RunContext(
                store, experiment, suite, tags, preparations, progress, request.fresh, meter
            )
            with fail_on_error(suite):
                if request.unseal and planned.corpus.has_test_labels:
                    record_reading(store, experiment, "run --unseal")
                progress.plan([(run.key, _epochs(run)) for run in planned.runs])
                with progress:
                    outcomes = _run_all(context, planned)
                log_comparison(suite, planned.corpus, outcomes, planned.table)
                suite.set_tags({names.NOTE: suite_note(planned, outcomes)})
            failed = sum(outcome.state == "failed" for outcome in outcomes)
            suite.end(
                "FAILED" if failed else "FINISHED",
                f"{failed} runs failed" if failed else None,
                echo=progress.say,
            )
        _describe(planned, experiment, outcomes, progress)
    settled = settle(store, outcomes, progress.say)
    if problem := log_models_without_weights(store, settled):
        progress.say(problem)
    return settled


def _describe(
    planned: ResolvedRun, experiment: str, outcomes: Sequence[RunOutcome], progress: Progress
) -> None:
    """Write the table and the views on the experiment's page; a store that refuses loses no run."""
    records = [outcome.record for outcome in outcomes if outcome.record]
    if not records:
        return
    prefix = "pearson_"
    parts = {
        name.removeprefix(prefix) for r in records for name in r.dev if name.startswith(prefix)
    }
    try:
        problem = describe_experiment(
            planned.store,
            experiment,
            results_table(planned, records),
            sorted(parts - {"seen", "unseen"}),
            list(dict.fromkeys(row_name(outcome.key) for outcome in outcomes)),
        )
    except Exception as error:  # whatever the store raises, the runs are tracked
        problem = f"the experiment's page was not described: {first_line(error)}"
    if problem:
        progress.say(problem)


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into KeyboardInterrupt, so that runs are ended as KILLED.

    The same happens when the `mlflow run` that started this process ends: this process would go on
    alone. Outside of the main thread nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with signals_as_interrupt():
        if (parent := mlflow_run_process()) is not None:
            terminate_with(parent)
        yield


def _experiment(planned: ResolvedRun) -> str:
    """Return the id of the experiment that `mlflow run` chose, or of the requested one."""
    request, store = planned.request, planned.store
    return adopted_experiment(request, store) or experiment_id(
        store, request.experiment or DEFAULT_EXPERIMENT
    )


def _epochs(run: PlannedRun) -> int:
    return 0 if run.config is None else run.config.optimisation.epochs


def _open_suite(planned: ResolvedRun, experiment: str, tags: Mapping[str, object]) -> TrackedRun:
    """Open the suite's run: the one that `mlflow run` opened, or a new one."""
    request, store, corpus = planned.request, planned.store, planned.corpus
    variants = ",".join(Path(name).name for name in request.variants)
    name = f"{corpus.name}: {variants} ({request.profile})"
    tags = {names.KIND: names.SUITE, names.NOTE: suite_questions(planned), **tags}
    if planned.table.text:
        tags[names.VARIANTS_FROM] = f"{planned.table.title}"
    adopts = adopted_experiment(request, store) is not None
    opened = opened_run(store)
    # Removed: a child process must not adopt this run.
    os.environ.pop(names.MLFLOW_RUN_ID, None)
    if adopts and opened:
        suite = adopt_run(store, opened, name, tags)
    else:
        suite = start_run(store, experiment, name, tags)
    with fail_on_error(suite):
        if not adopts:
            suite.log_params(_params(request))
            if opened:
                where = f"run {suite.run_id} of experiment {request.experiment!r}"
                describe_run(store, opened, f"The ablation is {where}.")
        suite.log_dataset(corpus)
        suite.log_json(names.ENVIRONMENT_FILE, provenance.environment())
        diff = provenance.source().diff
        if diff:
            suite.log_text(names.DIFF_FILE, diff)
        if planned.table.text:
            suite.log_text(names.VARIANTS_FILE, planned.table.text)
        for file, source in _own_sources(planned).items():
            suite.log_text(f"{names.CODE_FOLDER}/{file}", source)
        if planned.tuning:
            suite.log_json(names.TUNING_FILE, planned.tuning.model_dump())
        suite.log_json(names.CORPUS_LAYOUT, corpus.layout.model_dump(mode="json"))
        suite.log_table(names.TRAIN_CORPUS, corpus.train.reset_index(names="row"))
        if corpus.test is not None:
            suite.log_table(names.TEST_CORPUS, corpus.test.reset_index(names="row"))
    return suite


def _own_sources(planned: ResolvedRun) -> dict[str, str]:
    """Return the sources of the functions of one's own that runs of the plan name, by file."""
    configs = [run.config.flat() for run in planned.runs if run.config is not None]
    named = [config[field] for config in configs for field in FIELDS]
    functions = [own for name in named if (own := parse_own(name)) is not None]
    return {own.file: source for own in functions if (source := source_of(own)) is not None}


def _params(request: RunRequest) -> dict[str, object]:
    """Return the request in the words of the command line, as `mlflow run` records it too."""
    return {
        "data": request.data,
        "profile": request.profile,
        "variants": ",".join(map(str, request.variants)),
        "splits": ",".join(request.splits),
        "seeds": ",".join(map(str, request.seeds)),
        "target": request.target,
        "encoder": request.encoder or "",
        "fresh": str(request.fresh).lower(),
    }


def _run_all(context: RunContext, planned: ResolvedRun) -> list[RunOutcome]:
    """Return every run's outcome, in the plan's order.

    Runs that another process is training are tried again later, and ensembles come after their
    members.
    """
    prune(checkpoints_root())
    outcomes: dict[RunKey, RunOutcome] = {}
    waiting = planned.runs
    while waiting:
        left: list[PlannedRun] = []
        for run in waiting:
            raise_if_interrupted()
            outcome = None
            if run.config is not None or not _lacks_members(run, left):
                outcome = _run_or_reuse(context, planned, run, outcomes)
            if outcome is None:
                left.append(run)
            else:
                outcomes[run.key] = outcome
                _use_weights(context, planned, outcome, outcomes)
        if left and len(left) == len(waiting):
            time.sleep(POLL_S)
        waiting = left
    return [outcomes[run.key] for run in planned.runs]


def _use_weights(
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


def _lacks_members(ensemble: PlannedRun, left: Sequence[PlannedRun]) -> bool:
    key = ensemble.key
    return any((run.key.split, run.key.seed) == (key.split, key.seed) for run in left)


def _run_or_reuse(
    context: RunContext,
    planned: ResolvedRun,
    run: PlannedRun,
    outcomes: Mapping[RunKey, RunOutcome],
) -> RunOutcome | None:
    """Return the run's outcome; None if another process is training it."""
    members: list[RunOutcome] = []
    expected = run.identity.digest
    if run.config is None:  # an ensemble's members are known only now
        members = _members(run.key, outcomes)
        records = [member.record for member in members if member.record]
        identity = ensemble_identity(run.key, [record.identity for record in records])
        run = replace(run, identity=identity)
    damaged = None
    if run.is_reused and run.run_id and run.identity.digest == expected:
        try:
            return reuse(context, run.key, run.run_id)
        except DamagedRunError as error:
            context.progress.say(f"{run.key}: {error}; this one is trained again")
            damaged = run.run_id
    with try_lock(_slot(context, run)) as acquired:
        if not acquired:
            context.progress.waits(run.key)
            return None
        run_id = finished_meanwhile(context, run.identity.digest, damaged=damaged)
        if run_id is not None:
            return reuse(context, run.key, run_id)
        return run_one(context, planned, run, members)


def run_one(
    context: RunContext, planned: ResolvedRun, run: PlannedRun, members: Sequence[RunOutcome]
) -> RunOutcome:
    """Train the run, or combine its members if it is an ensemble; an error fails this run only."""
    question = question_of(run.key, planned.table)
    tags = {names.NOTE: question}
    if run.config is not None and planned.tuning and planned.tuning.each_its_own:
        tags[names.OWN_FIELDS] = json.dumps(planned.tuning.fields)
    checkpoints = checkpoints_root() / _slot(context, run)
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


def _slot(context: RunContext, run: PlannedRun) -> str:
    return run_slot(context.store.uri, context.experiment, run.identity.digest)


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
    split_seed = next(r.config.data.split_seed for r in planned.runs if r.config is not None)
    split = make_split(corpus, key.split, split_seed)
    result = run_ensemble(corpus, key, run.identity.digest, split, dev, test)
    chosen = result.record.members or {}
    member_runs = {name: run_id for name, run_id in run_ids.items() if name in chosen}
    tracked.set_tags({names.MEMBER_RUNS: json.dumps(member_runs)})
    return result
