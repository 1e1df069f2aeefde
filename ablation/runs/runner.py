"""Execute a plan: train or reuse every run, track it, and keep failures to the run that failed."""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Final

from ablation.config.own_code import FIELDS, parse_own, source_of
from ablation.core.counting import counted
from ablation.core.errors import first_line
from ablation.core.identity import RunKey
from ablation.core.interrupts import signals_as_interrupt
from ablation.core.state import checkpoints_root
from ablation.executors.protocol import Executor
from ablation.runs.context import RunContext, origin_tags
from ablation.runs.dispatch import SuiteDispatch
from ablation.runs.energy import EnergyMeter
from ablation.runs.execution import row_name
from ablation.runs.model_pages import log_models_without_weights
from ablation.runs.notes import results_table, suite_note, suite_questions
from ablation.runs.one_run import lacks_members, run_or_reuse, take_turns, use_weights
from ablation.runs.placement import (
    executor_on,
    refuse_local_tracking,
    threads_of,
)
from ablation.runs.plan import PlannedRun
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
from ablation.tracking.leases import open_leases, settle_leases
from ablation.tracking.orphans import (
    end_orphans,
    end_runs_on_interrupt,
    mlflow_run_process,
    terminate_with,
)
from ablation.tracking.runs import (
    TrackedRun,
    adopt_run,
    describe_run,
    fail_on_error,
    start_run,
)
from ablation.tracking.seal import record_reading
from ablation.tracking.store import experiment_id
from ablation.tracking.views import describe_experiment
from ablation.training.checkpoints import prune

#: The module that local processes are forked with.
MODULE: Final = "ablation.runs.remote"


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
        with (
            threads_of(planned.resources, planned.place, request.cpus_per_run),
            _executor_of(planned, experiment) as executor,
            end_runs_on_interrupt(store, experiment),
        ):
            tags = origin_tags(planned.corpus, str(request.profile))
            open_leases(store, experiment)
            suite = _open_suite(planned, experiment, tags)
            context = RunContext(
                store,
                experiment,
                suite.run_id,
                tags,
                preparations,
                progress,
                request.fresh,
                meter,
                request.checkpoints,
            )
            with fail_on_error(suite):
                if request.unseal and planned.corpus.has_test_labels:
                    record_reading(store, experiment, "run --unseal")
                progress.plan([(run.key, _epochs(run)) for run in planned.runs])
                prune(checkpoints_root())
                with progress:
                    outcomes = (
                        _run_all(context, planned)
                        if executor is None
                        else SuiteDispatch(executor, context, planned, progress).run_plan()
                    )
                log_comparison(suite, planned.corpus, outcomes, planned.table)
                suite.set_tags({names.NOTE: suite_note(planned, outcomes)})
            failed = sum(outcome.state == "failed" for outcome in outcomes)
            suite.end(
                "FAILED" if failed else "FINISHED",
                f"{counted(failed, 'run')} failed" if failed else None,
                echo=progress.say,
            )
        _describe(planned, experiment, outcomes, progress)
    settle_leases()
    settled = settle(store, outcomes, progress.say)
    if problem := log_models_without_weights(store, experiment, settled):
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
        "on": request.on,
    }


def _run_all(context: RunContext, planned: ResolvedRun) -> list[RunOutcome]:
    """Train in this process, and return every run's outcome, in the plan's order.

    Ensembles come after their members.
    """
    outcomes: dict[RunKey, RunOutcome] = {}

    def attempt(run: PlannedRun, left: Sequence[PlannedRun]) -> RunOutcome | None:
        if run.config is None and lacks_members(run, left):
            return None
        outcome = run_or_reuse(context, planned, run, outcomes)
        if outcome is not None:
            outcomes[run.key] = outcome
            use_weights(context, planned, outcome, outcomes)
        return outcome

    take_turns(planned.runs, attempt)
    return [outcomes[run.key] for run in planned.runs]


def _executor_of(planned: ResolvedRun, experiment: str) -> AbstractContextManager[Executor | None]:
    """Open the plan's executor; None if this process trains, or nothing is left to train."""
    if planned.place.is_here or all(run.is_reused for run in planned.runs):
        return nullcontext()
    on = planned.request.on
    refuse_local = partial(refuse_local_tracking, planned.store, experiment, on)
    return executor_on(on, planned.resources, MODULE, refuse_local)
