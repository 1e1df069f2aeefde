"""Carrying out a plan: every run trained or reused, tracked from start to end, failures contained."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ablation.config.schema import RunConfig
from ablation.core.identity import Identity, RunKey
from ablation.core.locks import POLL_S, try_lock
from ablation.core.state import checkpoints_root, run_slot
from ablation.data.splits import make_split
from ablation.runs.execution import reuse, run_and_record, train_tracked
from ablation.runs.plan import PlannedRun, ensemble_identity
from ablation.runs.progress import Progress
from ablation.runs.request import (
    DEFAULT_EXPERIMENT,
    Preparations,
    ResolvedRun,
    adopted_experiment,
    prepare_all,
)
from ablation.runs.results import RunOutcome, conclude
from ablation.tracking import names, provenance
from ablation.tracking.history import finished_run
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
    has_all_artifacts,
    read_frame,
    start_run,
)
from ablation.tracking.store import experiment_id
from ablation.training.checkpoints import prune

if TYPE_CHECKING:
    from ablation.training.train_run import Result


def run_plan(planned: ResolvedRun, progress: Progress) -> list[RunOutcome]:
    """Carry out the plan. A run's failure is that run's; Ctrl-C and SIGTERM end all, marked KILLED."""
    preparations = prepare_all(planned)
    with sigterm_as_interrupt():
        experiment = _experiment(planned)
        end_orphans(planned.store, experiment)
        with end_runs_on_interrupt(planned.store, experiment):
            suite = _open_suite(planned, experiment)
            with fail_on_error(suite):
                progress.plan(
                    [
                        (run.key, 0 if run.config is None else run.config.optimisation.epochs)
                        for run in planned.runs
                    ]
                )
                with progress:
                    outcomes = _run_all(planned, preparations, suite, experiment, progress)
                conclude(suite, planned.corpus, outcomes)
            failed = [o for o in outcomes if o.state == "failed"]
            suite.end(
                "FAILED" if failed else "FINISHED", f"{len(failed)} runs failed" if failed else None
            )
    return outcomes


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that runs are closed with what is true.

    The end of the `mlflow run` that started this process does the same: it would go on alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt(f"signal {number}")

    before = signal.signal(signal.SIGTERM, interrupt)
    if (parent := mlflow_run_process()) is not None:
        terminate_with(parent)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _experiment(planned: ResolvedRun) -> str:
    """The id of the experiment that `mlflow run` chose, or of the one that was asked for."""
    request, store = planned.request, planned.store
    return adopted_experiment(request, store) or experiment_id(
        store, request.experiment or DEFAULT_EXPERIMENT
    )


def _open_suite(planned: ResolvedRun, experiment: str) -> TrackedRun:
    """The suite's run: the run that `mlflow run` opened, or a new one."""
    request, store = planned.request, planned.store
    name = f"{planned.corpus.name}: {request.variants} ({request.profile})"
    tags = {names.KIND: names.SUITE, **_common_tags(planned)}
    adopts = adopted_experiment(request, store) is not None
    # A child process must not take this run for its own.
    opened = os.environ.pop(names.MLFLOW_RUN_ID, None)
    suite = (
        adopt_run(store, opened, name, tags)
        if adopts and opened
        else start_run(store, experiment, name, tags)
    )
    with fail_on_error(suite):
        if not adopts:
            asked = ("data", "profile", "variants", "splits", "seeds", "encoder", "fresh")
            suite.log_params({name: getattr(request, name) for name in asked})
            if opened:
                describe_run(
                    store,
                    opened,
                    f"The ablation is run {suite.run_id} of experiment {request.experiment!r}.",
                )
        suite.log_dataset(planned.corpus)
        suite.log_json(names.ENVIRONMENT_FILE, provenance.environment())
        diff = provenance.source().diff
        if diff:
            suite.log_text(names.DIFF_FILE, diff)
        if planned.tuning:
            suite.log_json(names.TUNING_FILE, planned.tuning.model_dump())
        suite.log_table(names.TRAIN_CORPUS, planned.corpus.train.reset_index(names="row"))
        if planned.corpus.test is not None:
            suite.log_table(names.TEST_CORPUS, planned.corpus.test.reset_index(names="row"))
    return suite


def _common_tags(planned: ResolvedRun) -> dict[str, object]:
    source = provenance.source()
    return {
        names.PROFILE: planned.request.profile,
        names.CORPUS: planned.corpus.name,
        names.SYNTHETIC: str(planned.corpus.synthetic).lower(),
        f"{names.IDENTITY_PART}data": planned.corpus.digest,
        names.COMMIT: source.commit or "none",
        names.DIRTY: str(source.dirty).lower(),
    }


def _run_all(
    planned: ResolvedRun,
    preparations: Preparations,
    suite: TrackedRun,
    experiment: str,
    progress: Progress,
) -> list[RunOutcome]:
    """Every run's outcome, in the plan's order. Runs that another process has are come back to, ensembles last."""
    prune(checkpoints_root())
    outcomes: dict[RunKey, RunOutcome] = {}
    waiting = planned.runs
    while waiting:
        left: list[PlannedRun] = []
        for run in waiting:
            lacks = run.config is None and any(
                (r.key.split, r.key.seed) == (run.key.split, run.key.seed) for r in left
            )
            outcome = (
                None
                if lacks
                else _run_or_reuse(
                    planned, run, preparations, suite, experiment, progress, outcomes
                )
            )
            if outcome is None:
                left.append(run)
            else:
                outcomes[run.key] = outcome
        if len(left) == len(waiting):
            time.sleep(POLL_S)
        waiting = left
    return [outcomes[run.key] for run in planned.runs]


def _run_or_reuse(
    planned: ResolvedRun,
    run: PlannedRun,
    preparations: Preparations,
    suite: TrackedRun,
    experiment: str,
    progress: Progress,
    outcomes: Mapping[RunKey, RunOutcome],
) -> RunOutcome | None:
    """None if another process has the run."""
    store, members = planned.store, list[RunOutcome]()
    identity = run.identity
    if run.config is None:  # which runs an ensemble really has is known only now
        members = _members(run.key, outcomes)
        identity = ensemble_identity(run.key, [o.record.identity for o in members if o.record])
    if run.is_reused and run.run_id and identity.digest == run.identity.digest:
        return reuse(store, run.key, run.run_id, progress)
    slot = run_slot(store.uri, experiment, identity.digest)
    with try_lock(slot) as mine:
        if not mine:
            progress.waits(run.key)
            return None
        # Another process may have finished it since the plan was made.
        since = None if planned.request.fresh else finished_run(store, experiment, identity.digest)
        if since is not None and has_all_artifacts(store, since.run_id, since.manifest):
            return reuse(store, run.key, since.run_id, progress)
        return run_one(
            planned,
            run,
            identity,
            members,
            preparations,
            suite,
            experiment,
            progress,
            checkpoints_root() / slot,
        )


def run_one(
    planned: ResolvedRun,
    run: PlannedRun,
    identity: Identity,
    members: Sequence[RunOutcome],
    preparations: Preparations,
    suite: TrackedRun,
    experiment: str,
    progress: Progress,
    checkpoints: Path,
) -> RunOutcome:
    """Train the run, or combine its members; its failure is its own."""
    tags: dict[str, object] = {
        names.KIND: names.RUN,
        names.VARIANT: run.key.variant,
        names.SPLIT: run.key.split,
        names.SEED: run.key.seed,
        names.IDENTITY: identity.digest,
        **_common_tags(planned),
        **{f"{names.IDENTITY_PART}{name}": digest for name, digest in identity.parts.items()},
    }
    if run.config is not None:
        tags[names.ENCODER] = run.config.model.encoder
        if planned.tuning and planned.tuning.each_its_own:
            tags[names.OWN_FIELDS] = json.dumps(planned.tuning.fields)
    tracked = start_run(planned.store, experiment, str(run.key), tags, parent=suite)

    def make() -> "Result":
        if run.config is None:
            return _combine(planned, run.key, identity.digest, members, tracked)
        return _train(planned, run, run.config, preparations, tracked, progress, checkpoints)

    return run_and_record(tracked, run.key, planned.corpus, progress, checkpoints, make)


def _train(
    planned: ResolvedRun,
    run: PlannedRun,
    config: RunConfig,
    preparations: Preparations,
    tracked: TrackedRun,
    progress: Progress,
    checkpoints: Path,
) -> "Result":
    export = planned.request.export
    folder = (
        None
        if export is None
        else export / f"{run.key.variant}-{run.key.split}-seed{run.key.seed}".replace(":", "-")
    )
    return train_tracked(
        tracked,
        config,
        preparations.get(config),
        run.key,
        run.identity.digest,
        progress,
        export_to=folder,
        checkpoints=checkpoints,
    )


def _members(key: RunKey, outcomes: Mapping[RunKey, RunOutcome]) -> list[RunOutcome]:
    """The runs an ensemble may choose from: this suite's, of the same split and seed."""
    return [
        o
        for k, o in outcomes.items()
        if (k.split, k.seed) == (key.split, key.seed) and o.record and not o.record.members
    ]


def _combine(
    planned: ResolvedRun,
    key: RunKey,
    identity: str,
    members: Sequence[RunOutcome],
    tracked: TrackedRun,
) -> "Result":
    """The ensemble over `members`, from their stored predictions; those that it chose are tagged with their runs."""
    from ablation.training.ensemble import (
        run_ensemble,  # with transformers it takes seconds, which a plan that has all its runs saves
    )

    run_ids = {
        o.key.variant: o.run_id for o in members if o.record and not o.record.collapsed and o.run_id
    }
    dev = {
        name: read_frame(planned.store, run_id, names.DEV_PREDICTIONS)
        for name, run_id in run_ids.items()
    }
    test = None
    if planned.corpus.test is not None:
        test = {
            name: read_frame(planned.store, run_id, names.TEST_PREDICTIONS)
            for name, run_id in run_ids.items()
        }
    split_seed = next(run.config.data.split_seed for run in planned.runs if run.config is not None)
    result = run_ensemble(
        planned.corpus, key, identity, make_split(planned.corpus, key.split, split_seed), dev, test
    )
    chosen = {
        name: run_id for name, run_id in run_ids.items() if name in (result.record.members or {})
    }
    tracked.set_tags({names.MEMBER_RUNS: json.dumps(chosen)})
    return result
