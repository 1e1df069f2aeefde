"""Carrying out a plan: every run trained or reused, tracked from start to end, failures contained."""

import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pandas as pd

from ablation import provenance
from ablation.config import RunConfig, load_profile, override, parse_overrides, parse_seeds
from ablation.data.corpus import Corpus, load_corpus
from ablation.ensemble import run_ensemble
from ablation.experiment import Prepared, Result, check_depth, preparation_key, prepare, run_experiment
from ablation.identity import RunKey
from ablation.plan import PlannedRun, ensemble_identity, make_plan
from ablation.progress import Progress
from ablation.records import RunRecord
from ablation.results import Outcome, conclude, keep
from ablation.splits import make_split
from ablation.tracking import names
from ablation.tracking.history import past_runs
from ablation.tracking.processes import end_orphans
from ablation.tracking.runs import TrackedRun, adopt_run, describe_run, is_whole, read_frame, read_json, start_run
from ablation.tracking.store import Store, experiment_id, find_experiment, open_store
from ablation.training import Hooks, OnTerms
from ablation.tuning import Tuning, load_tuning
from ablation.variants import parse_variants

DEFAULT_EXPERIMENT: Final = "ablation"
MLFLOW_RUN_ID: Final = "MLFLOW_RUN_ID"


@dataclass(frozen=True)
class Request:
    """What the user asked for, as it was typed."""

    data: str = "demo"
    profile: str = "demo"
    variants: str = "table3"
    splits: str = "dev1,dev2"
    seeds: str = "0"
    encoder: str = ""
    experiment: str = ""
    overrides: tuple[str, ...] = ()
    fresh: bool = False
    tracking_uri: str | None = None
    export: Path | None = None

    def differences(self) -> dict[str, Any]:
        """The profile's fields, then the command line's. Raises UsageError."""
        encoder = {"model.encoder": self.encoder} if self.encoder else {}
        return override(load_profile(self.profile), encoder | parse_overrides(self.overrides))


@dataclass(frozen=True)
class Planned:
    """A request checked and laid out: nothing has been trained or written."""

    request: Request
    corpus: Corpus
    store: Store
    runs: list[PlannedRun]
    tuning: Tuning | None = None


@dataclass
class Preparations:
    """Tokenised corpora and loaded encoders, each made once for all the runs that share it."""

    corpus: Corpus
    made: dict[tuple[object, ...], Prepared] = field(default_factory=dict)

    def get(self, config: RunConfig) -> Prepared:
        key = preparation_key(config)
        if key not in self.made:
            self.made[key] = prepare(self.corpus, config)
        return self.made[key]


def lay_out(request: Request) -> Planned:
    """Check everything that can be checked without training. Raises UsageError."""
    corpus = load_corpus(request.data)
    differences = request.differences()
    variants, seeds = parse_variants(request.variants), parse_seeds(request.seeds)
    store = open_store(request.tracking_uri)
    experiment = _adopted_experiment(request, store) or find_experiment(store, request.experiment or DEFAULT_EXPERIMENT)
    past = past_runs(store, experiment) if experiment else []
    tuning = load_tuning(request.profile)
    runs = make_plan(
        corpus,
        differences,
        variants,
        request.splits,
        seeds,
        past,
        intact=lambda run: is_whole(store, run.run_id, run.manifest),
        fresh=request.fresh,
        tuning=tuning.digest if tuning else "",
    )
    return Planned(request, corpus, store, runs, tuning)


def prepare_all(planned: Planned) -> Preparations:
    """Load what the runs still to do need. Raises UsageError for an encoder that can't serve."""
    preparations = Preparations(planned.corpus)
    for run in planned.runs:
        if run.config is not None and not run.is_reused:
            check_depth(run.config.model, preparations.get(run.config))
    return preparations


def run_ablation(planned: Planned, progress: Progress) -> list[Outcome]:
    """Carry out the plan. A run's failure is that run's; Ctrl-C and SIGTERM end all, marked KILLED."""
    preparations = prepare_all(planned)
    with sigterm_as_interrupt():
        suite, experiment = _open_suite(planned)
        try:
            progress.plan([(run.key, 0 if run.config is None else run.config.optimisation.epochs) for run in planned.runs])
            outcomes: dict[RunKey, Outcome] = {}
            with progress:
                for run in planned.runs:
                    outcomes[run.key] = _carry_out(planned, run, preparations, suite, experiment, progress, outcomes)
            conclude(suite, planned.corpus, list(outcomes.values()))
        except KeyboardInterrupt:
            suite.end("KILLED", "interrupted")
            raise
        except BaseException as error:
            suite.end("FAILED", f"{type(error).__name__}: {error}", error)
            raise
        failed = [o for o in outcomes.values() if o.state == "failed"]
        suite.end("FAILED" if failed else "FINISHED", f"{len(failed)} runs failed" if failed else None)
    return list(outcomes.values())


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that runs are closed with what is true."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt(f"signal {number}")

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _adopted_experiment(request: Request, store: Store) -> str | None:
    """The experiment of the run that `mlflow run` opened, unless another one is asked for."""
    run_id = os.environ.get(MLFLOW_RUN_ID)
    if not run_id:
        return None
    experiment = store.client.get_experiment(store.client.get_run(run_id).info.experiment_id)
    return str(experiment.experiment_id) if request.experiment in ("", experiment.name) else None


def _open_suite(planned: Planned) -> tuple[TrackedRun, str]:
    """The suite's run and its experiment: the run that `mlflow run` opened, or a new one."""
    request, store = planned.request, planned.store
    adopted = _adopted_experiment(request, store)
    experiment = adopted or experiment_id(store, request.experiment or DEFAULT_EXPERIMENT)
    end_orphans(store, experiment)
    name = f"{planned.corpus.name}: {request.variants} ({request.profile})"
    tags = {names.KIND: names.SUITE, **_common_tags(planned)}
    # A child process must not take this run for its own.
    opened = os.environ.pop(MLFLOW_RUN_ID, None)
    if adopted and opened:
        suite = adopt_run(store, opened, name, tags)
    else:
        suite = start_run(store, experiment, name, tags)
        asked = ("data", "profile", "variants", "splits", "seeds", "encoder", "fresh")
        suite.params({name: getattr(request, name) for name in asked})
        if opened:
            describe_run(store, opened, f"The ablation is run {suite.run_id} of experiment {request.experiment!r}.")
    try:
        suite.corpus(planned.corpus)
        suite.json(names.ENVIRONMENT_FILE, provenance.environment())
        diff = provenance.source().diff
        if diff:
            suite.text(names.DIFF_FILE, diff)
        if planned.tuning:
            suite.json(names.TUNING_FILE, planned.tuning.model_dump())
        suite.frame(names.TRAIN_CORPUS, planned.corpus.train.reset_index(names="row"))
        if planned.corpus.test is not None:
            suite.frame(names.TEST_CORPUS, planned.corpus.test.reset_index(names="row"))
    except BaseException as error:
        suite.end("FAILED", f"{type(error).__name__}: {error}", error)
        raise
    return suite, experiment


def _common_tags(planned: Planned) -> dict[str, object]:
    source = provenance.source()
    return {
        names.PROFILE: planned.request.profile,
        names.CORPUS: planned.corpus.name,
        names.SYNTHETIC: str(planned.corpus.synthetic).lower(),
        f"{names.IDENTITY_PART}data": planned.corpus.digest,
        names.COMMIT: source.commit or "none",
        names.DIRTY: str(source.dirty).lower(),
    }


def _carry_out(
    planned: Planned,
    run: PlannedRun,
    preparations: Preparations,
    suite: TrackedRun,
    experiment: str,
    progress: Progress,
    outcomes: Mapping[RunKey, Outcome],
) -> Outcome:
    store = planned.store
    if run.config is None:  # which runs an ensemble really has is known only now
        members = _members(run.key, outcomes)
        identity = ensemble_identity(run.key, [o.record.identity for o in members if o.record])
    else:
        identity = run.identity
    if run.is_reused and run.run_id and identity.digest == run.identity.digest:
        record = RunRecord.model_validate(read_json(store, run.run_id, names.RECORD_FILE))
        progress.ended(run.key, "reused", *_headline(record), note=f"run {run.run_id}")
        return Outcome(run.key, "reused", record, run.run_id)
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
    tracked = start_run(store, experiment, str(run.key), tags, parent=suite)
    progress.started(run.key)
    try:
        tracked.corpus(planned.corpus)
        if run.config is None:
            result = _combine(planned, run.key, identity.digest, members)
            ids = {o.key.variant: o.run_id for o in members if o.key.variant in (result.record.members or {})}
            tracked.tags({names.MEMBER_RUNS: json.dumps(ids)})
        else:
            result = _train(planned, run, run.config, preparations, tracked, progress)
        keep(tracked, result)
    except KeyboardInterrupt as interrupt:
        tracked.fail(interrupt)
        raise
    except Exception as error:  # this run's failure, whatever it is; the others go on
        reason = tracked.fail(error)
        progress.ended(run.key, "failed", None, None, note=" · ".join(filter(None, (reason, tracked.kept))))
        return Outcome(run.key, "failed", None, tracked.run_id, reason, tracked.kept)
    tracked.end("FINISHED")
    note = "collapsed: constant predictions have no Pearson" if result.record.collapsed else ""
    progress.ended(run.key, "finished", *_headline(result.record), note=" · ".join(filter(None, (note, tracked.kept))))
    return Outcome(run.key, "finished", result.record, tracked.run_id, kept=tracked.kept)


def _train(
    planned: Planned, run: PlannedRun, config: RunConfig, preparations: Preparations, tracked: TrackedRun, progress: Progress
) -> Result:
    export = planned.request.export
    folder = None if export is None else export / f"{run.key.variant}-{run.key.split}-seed{run.key.seed}".replace(":", "-")
    return train_tracked(tracked, config, preparations.get(config), run.key, run.identity.digest, progress, export_to=folder)


def train_tracked(
    tracked: TrackedRun, config: RunConfig, prepared: Prepared, key: RunKey, identity: str, progress: Progress,
    *, on_terms: OnTerms | None = None, export_to: Path | None = None,
) -> Result:  # fmt: skip
    """Train with `config`; its settings and points go to `tracked`, the points as a table of their own too.

    Raises what `run_experiment` does.
    """
    tracked.params(config.flat())
    tracked.json(names.CONFIG_FILE, config.model_dump(mode="json"))
    curves: list[tuple[int, str, float]] = []

    def on_point(values: Mapping[str, float], step: int) -> None:
        tracked.points(values, step)
        curves.extend((step, name, value) for name, value in values.items())

    hooks = Hooks(
        on_point=on_point,
        on_step=lambda done, total: progress.step(key, done, total),
        on_epoch=lambda epoch, figures: progress.epoch(key, epoch, figures),
        on_terms=on_terms,
    )
    result = run_experiment(prepared, config, key, identity, hooks, export_to)
    tracked.frame(names.CURVES, pd.DataFrame(curves, columns=["step", "name", "value"]))
    return result


def _members(key: RunKey, outcomes: Mapping[RunKey, Outcome]) -> list[Outcome]:
    """The runs an ensemble may choose from: this suite's, of the same split and seed."""
    return [o for k, o in outcomes.items() if (k.split, k.seed) == (key.split, key.seed) and o.record and not o.record.members]


def _combine(planned: Planned, key: RunKey, identity: str, members: Sequence[Outcome]) -> Result:
    """The ensemble over `members`, from their stored predictions."""
    run_ids = {o.key.variant: o.run_id for o in members if o.record and not o.record.collapsed and o.run_id}
    dev = {name: read_frame(planned.store, run_id, names.DEV_PREDICTIONS) for name, run_id in run_ids.items()}
    test = None
    if planned.corpus.test is not None:
        test = {name: read_frame(planned.store, run_id, names.TEST_PREDICTIONS) for name, run_id in run_ids.items()}
    split_seed = next(run.config.data.split_seed for run in planned.runs if run.config is not None)
    return run_ensemble(planned.corpus, key, identity, make_split(planned.corpus, key.split, split_seed), dev, test)


def _headline(record: RunRecord) -> tuple[float | None, float | None]:
    return record.dev.get("pearson"), (record.test or {}).get("pearson")
