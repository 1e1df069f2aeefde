"""The training-curve study of Figures 4 and 5: losses, signs of Eq. 9 and temperatures.

For a seed, every condition has the same development split, initial weights and order of batches,
so that curves are compared in pairs. The gradients of the loss terms are measured at each logging
point. Test rows are not tokenised. `reports.sections.curve_study` judges the curves.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ablation.config.overrides import load_profile, merge_overrides, resolve_config
from ablation.config.schema import RunConfig
from ablation.config.variants import VARIANTS
from ablation.core.errors import UsageError
from ablation.core.identity import RunKey
from ablation.core.locks import lock
from ablation.core.state import checkpoints_root, run_slot
from ablation.core.suggest import did_you_mean
from ablation.data.corpus import Corpus, load_corpus
from ablation.runs.context import Preparations, RunContext, origin_tags
from ablation.runs.execution import (
    TrainingJob,
    finished_meanwhile,
    open_run,
    reuse,
    run_and_record,
    train_tracked,
)
from ablation.runs.plan import History, PlannedRun, RunGrid, make_plan
from ablation.runs.precision import resolve_precision
from ablation.runs.progress import Progress
from ablation.runs.request import DEFAULT_EXPERIMENT, check_seeds
from ablation.runs.results import RunOutcome, as_json, settle
from ablation.runs.runner import sigterm_as_interrupt
from ablation.tracking import names, provenance
from ablation.tracking.damage import DamagedRunError
from ablation.tracking.history import PastRuns, past_runs
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


@dataclass(frozen=True)
class CurvesRequest:
    """A request to train the curves of the figures.

    Attributes:
        figures: Of "4" and "5".
        signs: Readings of Eq. 9.
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
    """

    figures: Sequence[str] = tuple(FIGURES)
    signs: Sequence[str] = tuple(SIGNS)
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


def resolve_curves(request: CurvesRequest) -> ResolvedCurves:
    """Check everything that can be checked without training. Raises UsageError."""
    corpus = load_corpus(str(request.data), request.target)
    settings = resolve_precision(
        merge_overrides(load_profile(str(request.profile)), request.overrides)
    )
    taus = _checked_taus(request.taus)
    grid = RunGrid(_variants(request), (request.split,), check_seeds(request.seeds))
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
            corpus, merge_overrides(settings, {"loss.tau": tau}), grid, history, fresh=request.fresh
        )
        for run in plan:
            if _is_contrastive(run.key.variant):
                curves[run.identity.digest] = Curve(run, tau)
            elif tau == taus[0]:  # without Eq. 9 there is no temperature: once is enough
                curves[run.identity.digest] = Curve(run, None)
    return ResolvedCurves(request, corpus, store, list(curves.values()))


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
    with sigterm_as_interrupt():
        experiment = experiment_id(
            resolved.store, resolved.request.experiment or DEFAULT_EXPERIMENT
        )
        end_orphans(resolved.store, experiment)
        prune(checkpoints_root())
        with end_runs_on_interrupt(resolved.store, experiment):
            tags = origin_tags(resolved.corpus, str(resolved.request.profile))
            study = _open_study(resolved, experiment, tags)
            context = RunContext(
                resolved.store,
                experiment,
                study.run_id,
                tags,
                preparations,
                progress,
                resolved.request.fresh,
            )
            with fail_on_error(study):
                progress.plan([(c.label, c.config.optimisation.epochs) for c in resolved.curves])
                with progress:
                    outcomes = [_run_one(context, curve) for curve in resolved.curves]
                study.log_json(names.OUTCOMES_FILE, as_json(outcomes))
            failed = sum(outcome.state == "failed" for outcome in outcomes)
            study.end(
                "FAILED" if failed else "FINISHED",
                f"{failed} runs failed" if failed else None,
                echo=progress.say,
            )
    return settle(resolved.store, outcomes, progress.say)


def _run_one(context: RunContext, curve: Curve) -> RunOutcome:
    run, damaged = curve.planned, None
    if run.is_reused and run.run_id:
        try:
            return reuse(context, curve.label, run.run_id)
        except DamagedRunError as error:
            context.progress.say(f"{curve.label}: {error}; this one is trained again")
            damaged = run.run_id
    slot = run_slot(context.store.uri, context.experiment, run.identity.digest)
    with lock(slot):
        run_id = finished_meanwhile(context, run.identity.digest, names.CURVE, damaged=damaged)
        if run_id:
            return reuse(context, curve.label, run_id)
        return _train(context, curve, checkpoints_root() / slot)


def _train(context: RunContext, curve: Curve, checkpoints: Path) -> RunOutcome:
    run, config = curve.planned, curve.config
    tracked = open_run(context, run, str(curve.label), kind=names.CURVE)

    def make() -> RunResult:
        job = TrainingJob(curve.label, config, run.identity.digest, checkpoints)
        on_terms = measure_gradients(config.loss.contrastive_weight)
        result = train_tracked(context, tracked, job, on_terms)
        return replace(result, record=result.record.model_copy(update={"variant": run.key.variant}))

    return run_and_record(context, tracked, curve.label, checkpoints, make)


def _open_study(
    resolved: ResolvedCurves, experiment: str, tags: Mapping[str, object]
) -> TrackedRun:
    request = resolved.request
    name = f"{resolved.corpus.name}: curves ({request.profile})"
    study = start_run(resolved.store, experiment, name, {names.KIND: names.CURVE_STUDY, **tags})
    with fail_on_error(study):
        study.log_params(
            {
                "figures": ",".join(request.figures),
                "signs": ",".join(request.signs),
                "taus": ",".join(f"{tau:g}" for tau in request.taus),
                "seeds": ",".join(map(str, request.seeds)),
                "data": request.data,
                "profile": request.profile,
                "split": request.split,
            }
        )
        study.log_dataset(replace(resolved.corpus, test=None))
        study.log_json(names.ENVIRONMENT_FILE, provenance.environment())
    return study


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
