"""The training-curve study behind Figures 4 and 5: losses, signs of Eq. 9 and temperatures, trained on the same batches.

Every condition sees the same development split, the same initial weights and the same batches in
the same order for a seed, so that curves are compared in pairs. The gradients of the loss terms
are measured at each logging point. Test rows are not even tokenised. What the curves say is judged
where they are reported (`reports.sections.curve_study`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ablation.config.schema import (
    RunConfig,
    load_profile,
    override,
    parse_overrides,
    parse_seeds,
    resolve_config,
)
from ablation.config.variants import VARIANTS
from ablation.core.errors import UsageError
from ablation.core.identity import RunKey
from ablation.core.locks import lock
from ablation.core.state import checkpoints_root, run_slot
from ablation.data.corpus import Corpus, load_corpus
from ablation.runs.execution import reuse, run_and_record, train_tracked
from ablation.runs.plan import PlannedRun, make_plan
from ablation.runs.progress import Progress
from ablation.runs.request import Preparations
from ablation.runs.results import RunOutcome
from ablation.runs.runner import sigterm_as_interrupt
from ablation.tracking import names, provenance
from ablation.tracking.history import finished_run, past_runs
from ablation.tracking.orphans import end_orphans, end_runs_on_interrupt
from ablation.tracking.runs import TrackedRun, fail_on_error, has_all_artifacts, start_run
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
    """What the user asked for, as it was typed."""

    figures: str = "4,5"
    signs: str = "as_printed,attract"
    taus: str = "0.02,0.2,2"
    seeds: str = "0,1,2"
    data: str = "demo"
    profile: str = "demo"
    split: str = "dev1"
    experiment: str = ""
    overrides: tuple[str, ...] = ()
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
    corpus = load_corpus(request.data)
    differences = override(load_profile(request.profile), parse_overrides(request.overrides))
    variants, taus, seeds = _variants(request), _taus(request.taus), parse_seeds(request.seeds)
    if "," in request.split:
        raise UsageError(f"--split {request.split!r}: a curve study trains on one split")
    if resolve_config(differences).optimisation.micro_batch is not None:
        raise UsageError(
            "optimisation.micro_batch: a curve study measures the gradients of whole batches; leave it out"
        )
    store = open_store(request.tracking_uri)
    experiment = find_experiment(store, request.experiment or "ablation")
    past = past_runs(store, experiment, names.CURVE) if experiment else []
    curves: dict[str, Curve] = {}
    for tau in taus:
        plan = make_plan(
            corpus,
            override(differences, {"loss.tau": tau}),
            variants,
            request.split,
            seeds,
            past,
            intact=lambda run: has_all_artifacts(store, run.run_id, run.manifest),
            fresh=request.fresh,
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
            study = _open_study(laid, experiment)
            with fail_on_error(study):
                progress.plan(
                    [(curve.shown, _config(curve).optimisation.epochs) for curve in laid.curves]
                )
                with progress:
                    outcomes = [
                        _carry_out(laid, curve, preparations, study, experiment, progress)
                        for curve in laid.curves
                    ]
                runs = [
                    {"run": str(o.key), "state": o.state, "run_id": o.run_id, "reason": o.reason}
                    for o in outcomes
                ]
                study.log_json(names.OUTCOMES_FILE, runs)
            failed = sum(outcome.state == "failed" for outcome in outcomes)
            study.end(
                "FAILED" if failed else "FINISHED", f"{failed} runs failed" if failed else None
            )
    return outcomes


def _carry_out(
    laid: ResolvedCurves,
    curve: Curve,
    preparations: Preparations,
    study: TrackedRun,
    experiment: str,
    progress: Progress,
) -> RunOutcome:
    run, config = curve.planned, _config(curve)
    if run.is_reused and run.run_id:
        return reuse(laid.store, curve.shown, run.run_id, progress)
    slot = run_slot(laid.store.uri, experiment, run.identity.digest)
    with lock(slot):
        # Another process may have finished it since the plan was made.
        since = (
            None
            if laid.request.fresh
            else finished_run(laid.store, experiment, run.identity.digest, names.CURVE)
        )
        if since is not None and has_all_artifacts(laid.store, since.run_id, since.manifest):
            return reuse(laid.store, curve.shown, since.run_id, progress)
        checkpoints = checkpoints_root() / slot
        return _train(laid, curve, config, preparations, study, experiment, progress, checkpoints)


def _train(
    laid: ResolvedCurves,
    curve: Curve,
    config: RunConfig,
    preparations: Preparations,
    study: TrackedRun,
    experiment: str,
    progress: Progress,
    checkpoints: Path,
) -> RunOutcome:
    run = curve.planned
    tags = {
        names.KIND: names.CURVE,
        names.VARIANT: run.key.variant,
        names.SPLIT: run.key.split,
        names.SEED: run.key.seed,
        names.IDENTITY: run.identity.digest,
        names.ENCODER: config.model.encoder,
        **_tags(laid),
        **{f"{names.IDENTITY_PART}{name}": digest for name, digest in run.identity.parts.items()},
    }
    tracked = start_run(laid.store, experiment, str(curve.shown), tags, parent=study)

    def make() -> Result:
        on_terms, prepared = (
            measure_gradients(config.loss.contrastive_weight),
            preparations.get(config),
        )
        result = train_tracked(
            tracked,
            config,
            prepared,
            curve.shown,
            run.identity.digest,
            progress,
            on_terms=on_terms,
            checkpoints=checkpoints,
        )
        return replace(result, record=result.record.model_copy(update={"variant": run.key.variant}))

    return run_and_record(tracked, curve.shown, preparations.corpus, progress, checkpoints, make)


def _open_study(laid: ResolvedCurves, experiment: str) -> TrackedRun:
    name = f"{laid.corpus.name}: curves ({laid.request.profile})"
    study = start_run(laid.store, experiment, name, {names.KIND: names.CURVE_STUDY, **_tags(laid)})
    with fail_on_error(study):
        study.log_params(
            {
                n: getattr(laid.request, n)
                for n in ("figures", "signs", "taus", "seeds", "data", "profile", "split")
            }
        )
        study.log_dataset(replace(laid.corpus, test=None))
        study.log_json(names.ENVIRONMENT_FILE, provenance.environment())
    return study


def _tags(laid: ResolvedCurves) -> Mapping[str, object]:
    source = provenance.source()
    return {
        names.PROFILE: laid.request.profile,
        names.CORPUS: laid.corpus.name,
        names.SYNTHETIC: str(laid.corpus.synthetic).lower(),
        f"{names.IDENTITY_PART}data": laid.corpus.digest,
        names.COMMIT: source.commit or "none",
        names.DIRTY: str(source.dirty).lower(),
    }


def _config(curve: Curve) -> RunConfig:
    assert curve.planned.config is not None, "every variant of a figure is trained"
    return curve.planned.config


def _variants(request: CurvesRequest) -> Sequence[str]:
    """The variants of the figures, those with Eq. 9 once for each sign."""
    figures = _listed("--figures", request.figures, FIGURES)
    signs = _listed("--signs", request.signs, SIGNS)
    found: dict[str, None] = {}
    for name in (name for figure in figures for name in FIGURES[figure]):
        with_contrast = VARIANTS[name].changes["loss.contrastive"] != "none"
        found |= (
            dict.fromkeys(f"{name}{SIGNS[sign]}" for sign in signs)
            if with_contrast
            else {name: None}
        )
    return tuple(found)


def _taus(text: str) -> list[float]:
    try:
        taus = sorted({float(part) for part in text.split(",") if part.strip()})
    except ValueError:
        taus = []
    if not taus or not all(0 < tau < float("inf") for tau in taus):
        raise UsageError(f"--taus {text!r}: give temperatures above 0, such as 0.02,0.2,2")
    return taus


def _listed(option: str, text: str, known: Mapping[str, Any]) -> list[str]:
    """The entries of a comma-separated list. Raises UsageError for an unknown one, or none."""
    asked = [part.strip() for part in text.split(",") if part.strip()]
    if not asked or (unknown := [part for part in asked if part not in known]):
        raise UsageError(
            f"{option} {', '.join(unknown) if asked else repr(text)}: known are {', '.join(known)}"
        )
    return list(dict.fromkeys(asked))
