"""The training-curve study behind Figures 4 and 5: losses, signs of Eq. 9 and temperatures, trained on the same batches.

Every condition sees the same development split, the same initial weights and the same batches in
the same order for a seed, so that curves are compared in pairs. The gradients of the loss terms
are measured at each logging point. Test rows are not even tokenised. What the curves say is judged
where they are reported (`reports.sections.curve_study`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ablation.config.schema import RunConfig, load_profile, override, resolve_config
from ablation.config.variants import VARIANTS
from ablation.core.errors import UsageError
from ablation.core.identity import RunKey
from ablation.core.locks import lock
from ablation.core.state import checkpoints_root, run_slot
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
from ablation.runs.progress import Progress
from ablation.runs.request import check_seeds
from ablation.runs.results import RunOutcome, as_json
from ablation.runs.runner import sigterm_as_interrupt
from ablation.tracking import names, provenance
from ablation.tracking.history import past_runs
from ablation.tracking.orphans import end_orphans, end_runs_on_interrupt
from ablation.tracking.reading import has_all_artifacts
from ablation.tracking.runs import TrackedRun, fail_on_error, start_run
from ablation.tracking.store import Store, experiment_id, find_experiment, open_store
from ablation.training.checkpoints import prune
from ablation.training.train_run import Result
from studies.gradients import measure_gradients

#: The figures and the two losses that each sets against each other.
FIGURES: Final[dict[str, tuple[str, str]]] = {"4": ("mse", "epm"), "5": ("mse+cl", "epm+cl")}
#: Both readings of Eq. 9, by the name of `loss.contrastive`, and how a variant's name says so.
SIGNS: Final[dict[str, str]] = {"as_printed": "", "attract": "(attract)"}


@dataclass(frozen=True)
class CurvesRequest:
    """The curves that are wanted: figures of the paper, readings and temperatures of Eq. 9, seeds."""

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


@dataclass(frozen=True)
class Curve:
    """A run of the study: a variant at a temperature (None where the variant has none), and its plan."""

    planned: PlannedRun
    tau: float | None

    @property
    def shown(self) -> RunKey:
        """Its name on the screen: runs that differ in nothing but the temperature need one each."""
        key = self.planned.key
        return key if self.tau is None else replace(key, variant=f"{key.variant} tau={self.tau:g}")


@dataclass(frozen=True)
class ResolvedCurves:
    """A request that was checked: nothing has been trained or written."""

    request: CurvesRequest
    corpus: Corpus
    store: Store
    curves: list[Curve]


def resolve_curves(request: CurvesRequest) -> ResolvedCurves:
    """Check everything that can be checked without training. Raises UsageError."""
    corpus = load_corpus(str(request.data))
    settings = override(load_profile(str(request.profile)), request.overrides)
    taus = _checked_taus(request.taus)
    grid = RunGrid(_variants(request), (request.split,), check_seeds(request.seeds))
    if "," in request.split:
        raise UsageError(f"--split {request.split!r}: a curve study trains on one split")
    if resolve_config(settings).optimisation.micro_batch is not None:
        raise UsageError(
            "optimisation.micro_batch: a curve study measures the gradients of whole batches; leave it out"
        )
    store = open_store(request.tracking_uri)
    experiment = find_experiment(store, request.experiment or "ablation")
    history = History(
        past_runs(store, experiment, names.CURVE) if experiment else [],
        lambda run: has_all_artifacts(store, run.run_id, run.manifest),
    )
    curves: dict[str, Curve] = {}
    for tau in taus:
        plan = make_plan(
            corpus, override(settings, {"loss.tau": tau}), grid, history, fresh=request.fresh
        )
        for run in plan:
            if VARIANTS[run.key.variant].changes["loss.contrastive"] != "none":
                curves[run.identity.digest] = Curve(run, tau)
            elif tau == taus[0]:  # without Eq. 9 there is no temperature: once is enough
                curves[run.identity.digest] = Curve(run, None)
    return ResolvedCurves(request, corpus, store, list(curves.values()))


def run_curves(laid: ResolvedCurves, progress: Progress) -> list[RunOutcome]:
    """Train what is not there yet. A run's failure is that run's; Ctrl-C and SIGTERM end all, marked KILLED."""
    preparations = Preparations(replace(laid.corpus, test=None))
    for curve in laid.curves:
        if not curve.planned.is_reused:
            preparations.get(
                _config(curve)
            )  # an encoder that can't serve shows before anything is written
    with sigterm_as_interrupt():
        experiment = experiment_id(laid.store, laid.request.experiment or "ablation")
        end_orphans(laid.store, experiment)
        prune(checkpoints_root())
        with end_runs_on_interrupt(laid.store, experiment):
            tags = origin_tags(laid.corpus, str(laid.request.profile))
            study = _open_study(laid, experiment, tags)
            context = RunContext(
                laid.store, experiment, study, tags, preparations, progress, laid.request.fresh
            )
            with fail_on_error(study):
                progress.plan(
                    [(curve.shown, _config(curve).optimisation.epochs) for curve in laid.curves]
                )
                with progress:
                    outcomes = [_train_or_reuse(context, curve) for curve in laid.curves]
                study.log_json(names.OUTCOMES_FILE, as_json(outcomes))
            failed = sum(outcome.state == "failed" for outcome in outcomes)
            study.end(
                "FAILED" if failed else "FINISHED", f"{failed} runs failed" if failed else None
            )
    return outcomes


def _train_or_reuse(context: RunContext, curve: Curve) -> RunOutcome:
    run = curve.planned
    if run.is_reused and run.run_id:
        return reuse(context, curve.shown, run.run_id)
    slot = run_slot(context.store.uri, context.experiment, run.identity.digest)
    with lock(slot):
        if run_id := finished_meanwhile(context, run.identity.digest, names.CURVE):
            return reuse(context, curve.shown, run_id)
        return _train(context, curve, checkpoints_root() / slot)


def _train(context: RunContext, curve: Curve, checkpoints: Path) -> RunOutcome:
    run, config = curve.planned, _config(curve)
    tracked = open_run(context, run, str(curve.shown), kind=names.CURVE)

    def make() -> Result:
        job = TrainingJob(curve.shown, config, run.identity.digest, checkpoints)
        on_terms = measure_gradients(config.loss.contrastive_weight)
        result = train_tracked(context, tracked, job, on_terms)
        return replace(result, record=result.record.model_copy(update={"variant": run.key.variant}))

    return run_and_record(context, tracked, curve.shown, checkpoints, make)


def _open_study(laid: ResolvedCurves, experiment: str, tags: Mapping[str, object]) -> TrackedRun:
    request = laid.request
    name = f"{laid.corpus.name}: curves ({request.profile})"
    study = start_run(laid.store, experiment, name, {names.KIND: names.CURVE_STUDY, **tags})
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
        study.log_dataset(replace(laid.corpus, test=None))
        study.log_json(names.ENVIRONMENT_FILE, provenance.environment())
    return study


def _config(curve: Curve) -> RunConfig:
    assert curve.planned.config is not None, "every variant of a figure is trained"
    return curve.planned.config


def _variants(request: CurvesRequest) -> Sequence[str]:
    """Return the variants of the figures, those with Eq. 9 once for each sign."""
    figures = _checked("--figures", request.figures, FIGURES)
    signs = _checked("--signs", request.signs, SIGNS)
    variants: dict[str, None] = {}
    for name in (name for figure in figures for name in FIGURES[figure]):
        if VARIANTS[name].changes["loss.contrastive"] == "none":
            variants[name] = None
        else:
            variants |= dict.fromkeys(f"{name}{SIGNS[sign]}" for sign in signs)
    return tuple(variants)


def _checked_taus(taus: Sequence[float]) -> list[float]:
    if not taus or not all(0 < tau < float("inf") for tau in taus):
        text = ",".join(f"{tau:g}" for tau in taus)
        raise UsageError(f"--taus {text!r}: give temperatures above 0, such as 0.02,0.2,2")
    return sorted(set(taus))


def _checked(option: str, values: Sequence[str], known: Mapping[str, Any]) -> list[str]:
    """Return the values, each once. Raises UsageError for an unknown one, or none."""
    unknown = [value for value in values if value not in known]
    if unknown or not values:
        what = ", ".join(unknown) or "(nothing)"
        raise UsageError(f"{option} {what}: known are {', '.join(known)}")
    return list(dict.fromkeys(values))
