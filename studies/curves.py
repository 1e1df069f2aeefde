"""The training-curve study of Figures 4 and 5: losses, signs of Eq. 9 and temperatures.

For a seed, every condition has the same development split, initial weights and order of batches,
so that curves are compared in pairs. The gradients of the loss terms are measured at each logging
point. Test rows are not tokenised. `reports.sections.curve_study` judges the curves.

Rows of a table of variants can be studied instead of the figures, of which nothing is claimed.
"""

import pickle
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from ablation.config.overrides import load_profile, merge_overrides, resolve_config
from ablation.config.schema import RunConfig
from ablation.config.variant_table import VariantTable
from ablation.config.variants import TABLE_3, VARIANTS, read_selection
from ablation.core.counting import counted
from ablation.core.errors import UsageError
from ablation.core.identity import RunKey
from ablation.core.state import checkpoints_root
from ablation.core.suggest import did_you_mean
from ablation.data.corpus import Corpus, load_corpus
from ablation.executors.choose import Placement, parse_on
from ablation.executors.protocol import Executor, Resources
from ablation.runs.checkpoint_copies import check_copies_url
from ablation.runs.context import Preparations, RunContext, origin_tags
from ablation.runs.dispatch import Dispatch, Shipment
from ablation.runs.execution import TrainingJob, open_run, run_and_record, train_tracked
from ablation.runs.one_run import make_once, slot_of, take_turns
from ablation.runs.placement import (
    choose_resources,
    executor_on,
    refuse_local_tracking,
    threads_of,
)
from ablation.runs.plan import History, PlannedRun, RunGrid, make_plan
from ablation.runs.precision import resolve_precision
from ablation.runs.progress import Progress
from ablation.runs.remote import Message, SentContext, SentRun, make_sent
from ablation.runs.request import DEFAULT_EXPERIMENT, check_seeds
from ablation.runs.results import RunOutcome, as_json, settle
from ablation.runs.runner import sigterm_as_interrupt
from ablation.tracking import names, provenance
from ablation.tracking.history import PastRuns, past_runs
from ablation.tracking.leases import open_leases, settle_leases
from ablation.tracking.orphans import end_orphans, end_runs_on_interrupt
from ablation.tracking.reading import may_be_reused
from ablation.tracking.runs import TrackedRun, fail_on_error, start_run
from ablation.tracking.store import Store, experiment_id, find_experiment, open_store
from ablation.tracking.sync import send_waiting
from ablation.training.checkpoints import prune
from ablation.training.train_run import RunResult
from studies.gradients import measure_gradients

#: The figures and the two losses that each compares.
FIGURES: Final[dict[str, tuple[str, str]]] = {"4": ("mse", "epm"), "5": ("mse+cl", "epm+cl")}
#: Both readings of Eq. 9, by the value of `loss.contrastive`, and the suffix of a variant's name.
SIGNS: Final[dict[str, str]] = {"as_printed": "", "attract": "(attract)"}
#: The function that executors call.
FUNCTION: Final = "studies.curves:train_sent"


@dataclass(frozen=True)
class CurvesRequest:
    """A request to train the curves of the figures.

    Attributes:
        figures: Of "4" and "5".
        signs: Readings of Eq. 9.
        variants: Rows to study instead of the figures, or a file of them, as a `RunRequest` has.
        taus: Temperatures of Eq. 9, above 0.
        seeds: Seeds of the training.
        data: A corpus: "demo" or a folder.
        profile: A shipped profile or a TOML file.
        split: The split whose training rows are trained on.
        experiment: The MLflow experiment, "ablation" if empty.
        overrides: Values by field that replace the profile's.
        fresh: Train again what had finished.
        tracking_uri: The MLflow store; the default one if None.
        target: The label column to predict, if the corpus has several.
        on: The place where runs are trained, as a `RunRequest` has it.
        cpus_per_run: Cores and threads of a run; None for this machine's, or its share of them.
        gpus_per_run: GPUs of a run; None for one if this machine has any.
        checkpoints: The URL that checkpoints are copied to, as a `RunRequest` has it.
    """

    figures: Sequence[str] = tuple(FIGURES)
    signs: Sequence[str] = tuple(SIGNS)
    variants: Sequence[str | Path] = ()
    taus: Sequence[float] = (0.02, 0.2, 2.0)
    seeds: Sequence[int] = (0, 1, 2)
    data: str | Path = "demo"
    profile: str | Path = "demo"
    split: str = "dev1"
    experiment: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    fresh: bool = False
    tracking_uri: str | None = None
    target: str = ""
    on: str = "local"
    cpus_per_run: int | None = None
    gpus_per_run: float | None = None
    checkpoints: str = ""


@dataclass(frozen=True)
class Curve:
    """A run of the study; `tau` is None for a variant without a temperature."""

    planned: PlannedRun
    tau: float | None

    @property
    def label(self) -> RunKey:
        """The run's key with its temperature: runs may differ in nothing else."""
        key = self.planned.key
        return key if self.tau is None else replace(key, variant=f"{key.variant} tau={self.tau:g}")

    @property
    def config(self) -> RunConfig:
        """The settings to train with."""
        assert self.planned.config is not None, "every variant of a figure is trained"
        return self.planned.config


@dataclass(frozen=True)
class ResolvedCurves:
    """A checked request: nothing has been trained or written."""

    request: CurvesRequest
    corpus: Corpus
    store: Store
    curves: list[Curve]
    table: VariantTable = TABLE_3
    place: Placement = field(default_factory=Placement)
    resources: Resources = field(default_factory=Resources)


def resolve_curves(request: CurvesRequest) -> ResolvedCurves:
    """Check everything that can be checked without training. Raises UsageError."""
    corpus = load_corpus(str(request.data), request.target)
    settings = resolve_precision(
        merge_overrides(load_profile(str(request.profile)), request.overrides)
    )
    taus = _checked_taus(request.taus)
    check_copies_url(request.checkpoints)
    place = parse_on(request.on)
    resources, parts = choose_resources(place, request.cpus_per_run, request.gpus_per_run)
    table, rows = _rows(request)
    grid = RunGrid(rows, (request.split,), check_seeds(request.seeds), table)
    if "," in request.split:
        raise UsageError(f"--split {request.split!r}: a curve study trains on one split")
    if resolve_config(settings).optimisation.micro_batch is not None:
        raise UsageError(
            "optimisation.micro_batch: a curve study measures the gradients of whole batches; "
            "leave it out"
        )
    store = open_store(request.tracking_uri)
    send_waiting(store)
    experiment = find_experiment(store, request.experiment or DEFAULT_EXPERIMENT)
    past = past_runs(store, experiment, names.CURVE) if experiment else PastRuns()
    history = History(
        past.runs,
        lambda run: may_be_reused(store, run.run_id, run.manifest),
    )
    curves: dict[str, Curve] = {}
    for tau in taus:
        plan = make_plan(
            corpus,
            merge_overrides(settings, {"loss.tau": tau}),
            grid,
            history,
            fresh=request.fresh,
            more_parts=parts,
        )
        for run in plan:
            assert run.config is not None, "ensembles are left out"
            if run.config.loss.contrastive != "none":  # a row may have a temperature of its own
                curves[run.identity.digest] = Curve(run, run.config.loss.tau)
            elif tau == taus[0]:  # without such a term there is no temperature: once is enough
                curves[run.identity.digest] = Curve(run, None)
    return ResolvedCurves(request, corpus, store, list(curves.values()), table, place, resources)


def run_curves(resolved: ResolvedCurves, progress: Progress) -> list[RunOutcome]:
    """Train the curves that have not finished yet, and return the outcomes of all.

    A run that fails does not end the others.

    Args:
        resolved: The checked request.
        progress: Shows what is trained.

    Raises:
        UsageError: An encoder can't be loaded; nothing was written then.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the runs are ended as KILLED.
    """
    preparations = Preparations(replace(resolved.corpus, test=None))
    for curve in resolved.curves:
        if not curve.planned.is_reused:
            preparations.get(curve.config)
    request, store = resolved.request, resolved.store
    with sigterm_as_interrupt():
        experiment = experiment_id(store, request.experiment or DEFAULT_EXPERIMENT)
        end_orphans(store, experiment)
        prune(checkpoints_root())
        with (
            threads_of(resolved.resources, resolved.place, request.cpus_per_run),
            _executor_of(resolved, experiment) as executor,
            end_runs_on_interrupt(store, experiment),
        ):
            open_leases(store, experiment)
            tags = origin_tags(resolved.corpus, str(request.profile))
            study = _open_study(resolved, experiment, tags)
            context = RunContext(
                store,
                experiment,
                study.run_id,
                tags,
                preparations,
                progress,
                request.fresh,
                checkpoints=request.checkpoints,
            )
            runs = {curve.label: curve.planned for curve in resolved.curves}
            with fail_on_error(study):
                progress.plan([(c.label, c.config.optimisation.epochs) for c in resolved.curves])
                with progress:
                    if executor is None:
                        outcomes = _train_in_turn(context, runs)
                    else:
                        shared = pickle.dumps(SentContext.of(context))
                        shipment = Shipment(FUNCTION, shared, resolved.resources, names.CURVE)
                        outcomes = Dispatch(executor, context, shipment, progress).run_all(runs)
                study.log_json(names.OUTCOMES_FILE, as_json(outcomes))
            failed = sum(outcome.state == "failed" for outcome in outcomes)
            study.end(
                "FAILED" if failed else "FINISHED",
                f"{counted(failed, 'run')} failed" if failed else None,
                echo=progress.say,
            )
    settle_leases()
    return settle(store, outcomes, progress.say)


def train_sent(
    shared: SentContext, sent: SentRun, send: Callable[[Message], object]
) -> RunOutcome | None:
    """Train or reuse a curve that was sent to this process; None if another is training it.

    Raises as `ablation.runs.remote.make_sent` does.
    """
    return make_sent(shared, sent, send, lambda context: _train_once(context, sent.key, sent.run))


def _executor_of(
    resolved: ResolvedCurves, experiment: str
) -> AbstractContextManager[Executor | None]:
    """Open the study's executor; None if this process trains, or nothing is left to train."""
    if resolved.place.is_here or all(curve.planned.is_reused for curve in resolved.curves):
        return nullcontext()
    on = resolved.request.on
    refuse_local = partial(refuse_local_tracking, resolved.store, experiment, on)
    return executor_on(on, resolved.resources, __name__, refuse_local)


def _train_in_turn(context: RunContext, runs: Mapping[RunKey, PlannedRun]) -> list[RunOutcome]:
    """Train in this process, and return every run's outcome, in their order."""
    outcomes: dict[RunKey, RunOutcome] = {}

    def attempt(label: RunKey, left: Sequence[RunKey]) -> RunOutcome | None:
        outcome = _train_once(context, label, runs[label])
        if outcome is not None:
            outcomes[label] = outcome
        return outcome

    take_turns(list(runs), attempt)
    return [outcomes[label] for label in runs]


def _train_once(context: RunContext, label: RunKey, run: PlannedRun) -> RunOutcome | None:
    """Train or reuse a curve; None if another process is training it."""
    return make_once(context, label, run, names.CURVE, lambda: _train(context, label, run))


def _train(context: RunContext, label: RunKey, run: PlannedRun) -> RunOutcome:
    config, checkpoints = run.config, checkpoints_root() / slot_of(context, run)
    assert config is not None, "ensembles are left out"
    tracked = open_run(context, run, str(label), kind=names.CURVE)

    def make() -> RunResult:
        job = TrainingJob(label, config, run.identity.digest, checkpoints)
        on_terms = measure_gradients(config.loss.contrastive_weight)
        result = train_tracked(context, tracked, job, on_terms)
        return replace(result, record=result.record.model_copy(update={"variant": run.key.variant}))

    return run_and_record(context, tracked, label, checkpoints, make)


def _open_study(
    resolved: ResolvedCurves, experiment: str, tags: Mapping[str, object]
) -> TrackedRun:
    request = resolved.request
    name = f"{resolved.corpus.name}: curves ({request.profile})"
    tags = {names.KIND: names.CURVE_STUDY, **tags}
    if request.variants:
        tags[names.VARIANTS_FROM] = resolved.table.title
    study = start_run(resolved.store, experiment, name, tags)
    with fail_on_error(study):
        study.log_params(
            {
                "figures": ",".join(request.figures),
                "signs": ",".join(request.signs),
                "variants": ",".join(Path(name).name for name in request.variants),
                "taus": ",".join(f"{tau:g}" for tau in request.taus),
                "seeds": ",".join(map(str, request.seeds)),
                "data": request.data,
                "profile": request.profile,
                "split": request.split,
                "on": request.on,
            }
        )
        study.log_dataset(replace(resolved.corpus, test=None))
        study.log_json(names.ENVIRONMENT_FILE, provenance.environment())
        if resolved.table.text:
            study.log_text(names.VARIANTS_FILE, resolved.table.text)
    return study


def _rows(request: CurvesRequest) -> tuple[VariantTable, tuple[str, ...]]:
    """Return the rows to train and their table: those that are named, or those of the figures."""
    if not request.variants:
        return TABLE_3, tuple(_variants(request))
    table, selected = read_selection(request.variants)
    rows = tuple(name for name in selected if not table.variants[name].combines_runs)
    return table, rows


def _variants(request: CurvesRequest) -> Sequence[str]:
    """Return the variants of the figures, those with Eq. 9 once for each sign."""
    _check_names("--figures", request.figures, FIGURES)
    _check_names("--signs", request.signs, SIGNS)
    variants: list[str] = []
    for variant in (variant for figure in request.figures for variant in FIGURES[figure]):
        suffixes = [SIGNS[sign] for sign in request.signs] if _is_contrastive(variant) else [""]
        variants += [f"{variant}{suffix}" for suffix in suffixes]
    return tuple(dict.fromkeys(variants))


def _is_contrastive(variant: str) -> bool:
    return VARIANTS[variant].changes["loss.contrastive"] != "none"


def _checked_taus(taus: Sequence[float]) -> list[float]:
    """Return the temperatures in ascending order. Raises UsageError unless all are above 0."""
    if not taus or not all(0 < tau < float("inf") for tau in taus):
        text = ",".join(f"{tau:g}" for tau in taus)
        raise UsageError(f"--taus {text!r}: give temperatures above 0, such as 0.02,0.2,2")
    return sorted(set(taus))


def _check_names(option: str, given: Collection[str], known: Collection[str]) -> None:
    """Raise UsageError for an unknown name, or for none."""
    if not given:
        raise UsageError(f"{option} (nothing): known are {', '.join(known)}")
    for name in given:
        if name not in known:
            raise UsageError(f"{option} {name}: {did_you_mean(name, known)}")
