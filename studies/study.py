"""A study: what was asked for, checked; its sampler and pruner; opened by name, refused if it is another one."""

import itertools
import json
import random
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, QMCSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from ablation.config.schema import load_profile, override, parse_overrides, resolve_config
from ablation.core.errors import UsageError
from ablation.data.corpus import Corpus, load_corpus
from ablation.data.seeding import seed_for
from ablation.data.splits import parse_splits
from ablation.tracking.store import Store, open_store
from studies.space import Space, for_variant, grid, load_space, variants_of
from studies.storage import default_url, lock_file, open_storage

SAMPLERS: Final = ("tpe", "grid", "qmc")
PRUNERS: Final = ("hyperband", "median", "none")
OBJECTIVES: Final[dict[str, tuple[Literal["maximize", "minimize"], ...]]] = {
    "pearson": ("maximize",),
    "pearson,seconds": ("maximize", "minimize"),
}
MOST_TRIALS: Final = 100_000
MOST_WORKERS: Final = 256
#: Optuna's samplers take 32 bits.
MOST_SEED: Final = 2**31
_DEFINITION: Final = "definition"
#: A trial's attribute: why it failed. Trials that were killed have none and are run again.
REASON: Final = "reason"


@dataclass(frozen=True)
class SweepRequest:
    """What the user asked for, as it was typed. `timeout` in seconds, 0 for none.

    `variant` is the row to tune, of a space that has several; `parent` the MLflow run to stand below.
    """

    space: str = "tau"
    variant: str = ""
    study: str = ""
    trials: int = 20
    timeout: float = 0.0
    workers: int = 1
    data: str = "demo"
    profile: str = "demo"
    split: str = "dev1"
    sampler: str = "tpe"
    pruner: str = "hyperband"
    objective: str = "pearson"
    seed: int = 0
    experiment: str = ""
    overrides: tuple[str, ...] = ()
    storage: str = ""
    tracking_uri: str | None = None
    parent: str = ""


@dataclass(frozen=True)
class ResolvedSweep:
    """A request that was checked: everything its workers need."""

    request: SweepRequest
    space: Space
    corpus: Corpus
    differences: dict[str, Any]
    splits: list[str]
    store: Store
    storage_url: str
    study_name: str


def resolve_sweep(request: SweepRequest) -> ResolvedSweep:
    """Check what can be checked before an encoder is loaded. Raises UsageError."""
    problems = [
        f"unknown {what} {value!r}: known are {', '.join(known)}"
        for what, value, known in (
            ("sampler", request.sampler, SAMPLERS),
            ("pruner", request.pruner, PRUNERS),
            ("objective", request.objective, OBJECTIVES),
        )
        if value not in known
    ]
    for what, most in (("trials", MOST_TRIALS), ("workers", MOST_WORKERS)):
        asked = getattr(request, what)
        problems += [f"{what} must be at least 1 (--{what} {asked})"] if asked < 1 else []
        problems += [f"{what} must be at most {most} (--{what} {asked})"] if asked > most else []
    if not 0 <= request.seed < MOST_SEED:
        problems.append(f"--seed {request.seed}: give a whole number from 0 to {MOST_SEED - 1}")
    if not 0 <= request.timeout < float("inf"):
        problems.append(f"--timeout {request.timeout:g}: give seconds, or 0 for no limit")
    if not all(c.isprintable() and c not in "'\"`" for c in request.study):
        problems.append(
            f"--study {request.study[:80]!r}: a name has no quotation marks and no control characters"
        )
    if problems:
        raise UsageError(problems)
    space, corpus = load_space(request.space), load_corpus(request.data)
    if variants_of(space):
        space = for_variant(space, request.variant or variants_of(space)[0])
    differences = override(load_profile(request.profile), parse_overrides(request.overrides))
    splits = parse_splits(
        request.split, corpus, resolve_config(differences, space.variant).data.split_seed
    )
    store = open_store(request.tracking_uri)
    return ResolvedSweep(
        request,
        space,
        corpus,
        differences,
        splits,
        store,
        request.storage or default_url(store.uri),
        name_of(request),
    )


def name_of(request: SweepRequest) -> str:
    """The study's name, from space, data and profile where none was given."""
    parts = (
        Path(part).name.removesuffix(".toml")
        for part in (request.space, request.data, request.profile)
    )
    return request.study or "-".join(parts)


def folder_name(request: SweepRequest) -> str:
    """Where the study's files go if no folder is given: one name, whatever the study is called."""
    return "study-" + re.sub(r"[^\w.+()-]+", "-", name_of(request))[:100]


def open_study(laid: ResolvedSweep) -> Study:
    """The study of that name, made if it is not there. Raises UsageError if it asks something else, with the difference."""
    request = laid.request
    directions = OBJECTIVES[request.objective]
    storage = open_storage(laid.storage_url)
    with FileLock(lock_file(laid.storage_url)):
        study = (
            optuna.create_study(
                study_name=laid.study_name,
                storage=storage,
                load_if_exists=True,
                directions=directions,
                pruner=_pruner(laid),
            )
            if laid.study_name not in optuna.get_all_study_names(storage)
            else optuna.load_study(
                study_name=laid.study_name,
                storage=storage,
                pruner=_pruner(laid),
            )
        )
        definition = json.loads(json.dumps(_definition(laid)))
        known = study.user_attrs.get(_DEFINITION)
        if known is None:
            study.set_user_attr(_DEFINITION, definition)
        elif known != definition:
            differing = [
                f"{k}: {known.get(k)} there, {definition[k]} here"
                for k in definition
                if known.get(k) != definition[k]
            ]
            raise UsageError(
                [
                    f"study {laid.study_name!r} exists and is another one; give --study a new name",
                    *differing,
                ]
            )
    return study


def _definition(laid: ResolvedSweep) -> dict[str, Any]:
    """What makes two sweeps the same study. How it is searched (sampler, pruner, workers) may change."""
    return {
        "space": laid.space.model_dump(mode="json", exclude_defaults=True),
        "objective": laid.request.objective,
        "splits": laid.splits,
        "seed": laid.request.seed,
        "data": laid.corpus.digest,
        "settings": {
            k: v
            for k, v in resolve_config(laid.differences).flat().items()
            if k not in laid.space.fields
        },
    }


def sampler_of(laid: ResolvedSweep, study: Study) -> BaseSampler:
    """What draws the next trial. Only for who has the study's lock.

    Its seed goes by the number of trials, so that neither a process that goes on with the study nor one
    that works beside this one draws what was drawn before.
    """
    warnings.simplefilter(
        "ignore", ExperimentalWarning
    )  # multivariate TPE and constant liars are what is meant
    if laid.request.sampler == "grid":
        return RandomSampler(
            seed=laid.request.seed
        )  # never asked: `queue_grid` says what comes next
    if laid.request.sampler == "qmc":
        return QMCSampler(seed=laid.request.seed, scramble=True)  # it counts in the storage
    seed = seed_for("sampler", laid.request.seed, len(study.get_trials(deepcopy=False)))
    return TPESampler(seed=seed % 2**32, multivariate=True, constant_liar=True)


def _pruner(laid: ResolvedSweep) -> BasePruner:
    epochs = resolve_config(laid.differences).optimisation.epochs
    if laid.request.pruner == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=4)
    return (
        MedianPruner(n_startup_trials=4, n_warmup_steps=1)
        if laid.request.pruner == "median"
        else NopPruner()
    )


def wanted_trials(laid: ResolvedSweep, layers: int) -> int:
    """The number of trials, at most the grid's."""
    if laid.request.sampler != "grid":
        return laid.request.trials
    return min(laid.request.trials, len(_grid_points(laid, layers)))


def params_of(trial: FrozenTrial) -> dict[str, Any]:
    """A trial's parameters, also of one that was queued with them and has not asked for any yet."""
    return trial.params or dict(trial.system_attrs.get("fixed_params", {}))


def queue_grid(study: Study, laid: ResolvedSweep, layers: int) -> None:
    """Queue each of the grid's points that no trial has; nothing for other samplers.

    Optuna's GridSampler counts a point as visited once a trial was given it, so that a worker
    killed before it had written its parameters down would lose that point.
    """
    if laid.request.sampler != "grid":
        return
    taken = [
        params_of(trial)
        for trial in study.get_trials(deepcopy=False)
        if trial.state != TrialState.FAIL or counts(trial)
    ]
    for point in _grid_points(laid, layers)[: laid.request.trials]:
        if point not in taken:
            study.enqueue_trial(point)


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial is one of those asked for: completed, pruned, or failed for a reason of its own."""
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or (
        trial.state == TrialState.FAIL and REASON in trial.user_attrs
    )


def _grid_points(laid: ResolvedSweep, layers: int) -> list[dict[str, Any]]:
    """As many values a field, the same number for each and at least two, as the trials allow; in a seeded order."""
    per_field = int(laid.request.trials ** (1 / len(laid.space.fields)) + 1e-9)
    values = grid(laid.space, layers, max(2, per_field))
    points = [
        dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())
    ]
    random.Random(laid.request.seed).shuffle(
        points
    )  # a study that is stopped early has seen all of the space
    return points
