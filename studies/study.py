"""A study: a checked request, its sampler and pruner, and the study of that name in its storage.

A study of the same name with another definition (space, data, encoder, settings) is refused.
"""

import itertools
import json
import random
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, QMCSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from ablation.config.overrides import OF_VARIANT, load_profile, merge_overrides, resolve_config
from ablation.config.schema import RunConfig
from ablation.config.variant_table import VariantTable
from ablation.config.variants import TABLE_3, load_table
from ablation.core.errors import UsageError
from ablation.core.suggest import did_you_mean
from ablation.data.corpus import Corpus, load_corpus
from ablation.data.seeding import seed_for
from ablation.data.splits import select_splits
from ablation.executors.choose import Placement, parse_on
from ablation.executors.protocol import Resources
from ablation.runs.checkpoint_copies import check_copies_url
from ablation.runs.placement import choose_resources
from ablation.runs.plan import check_groups, digest_encoders
from ablation.runs.precision import resolve_precision
from ablation.tracking.store import Store, open_store
from studies.space import Space, configure, for_variant, grid, load_space, variants_of
from studies.storage import default_url, open_storage
from studies.study_lock import StudyLock

Sampler = Literal["tpe", "grid", "qmc"]
Pruner = Literal["hyperband", "median", "none"]
Objective = Literal["pearson", "pearson,seconds"]
#: The directions of each objective; two give a Pareto front.
DIRECTIONS: Final[dict[Objective, tuple[Literal["maximize", "minimize"], ...]]] = {
    "pearson": ("maximize",),
    "pearson,seconds": ("maximize", "minimize"),
}
MAX_TRIALS: Final = 100_000
MAX_WORKERS: Final = 256
#: Optuna's samplers take 32 bits.
SEED_LIMIT: Final = 2**31
_DEFINITION: Final = "definition"
#: A trial's attribute: why it failed. Trials that were killed have none and are run again.
REASON: Final = "reason"


@dataclass(frozen=True)
class SweepRequest:
    """A request to search settings.

    Attributes:
        space: A shipped space or a TOML file.
        variant: The variant to tune, of a space of several; the first if empty.
        variants: A TOML file of variants that the space's are rows of; the paper's table if empty.
        study: The study's name, from space, data and profile if empty; an existing one goes on.
        trials: The number of trials in all, those done before included.
        timeout: Seconds after which no new trial is started; 0 for no limit.
        workers: The number of processes that take trials side by side.
        data: A corpus: "demo" or a folder.
        profile: A shipped profile or a TOML file.
        splits: Splits whose development Pearson is averaged.
        sampler: How values are drawn.
        pruner: How hopeless trials are ended early.
        objective: Development Pearson, or a Pareto front of Pearson and training time.
        seed: The seed of the training and of the sampler.
        experiment: The MLflow experiment, "studies" if empty.
        overrides: Values by field that replace the profile's.
        storage: An SQLAlchemy URL or `journal:FILE`; `studies.db` beside the store if empty.
        tracking_uri: The MLflow store; the default one if None.
        parent: The MLflow run to nest the study's run under.
        target: The label column to predict, if the corpus has several.
        on: The place of the workers, as a `RunRequest` has it; "local:4" are four workers.
        cpus_per_run: Cores and threads of a worker; None for this machine's, or its share of them.
        gpus_per_run: GPUs of a worker; None for one if this machine has any.
        checkpoints: The URL that checkpoints are copied to, as a `RunRequest` has it.
    """

    space: str = "tau"
    variant: str = ""
    variants: str = ""
    study: str = ""
    trials: int = 20
    timeout: float = 0.0
    workers: int = 1
    data: str = "demo"
    profile: str = "demo"
    splits: Sequence[str] = ("dev1",)
    sampler: Sampler = "tpe"
    pruner: Pruner = "hyperband"
    objective: Objective = "pearson"
    seed: int = 0
    experiment: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    storage: str = ""
    tracking_uri: str | None = None
    parent: str = ""
    target: str = ""
    on: str = "local"
    cpus_per_run: int | None = None
    gpus_per_run: float | None = None
    checkpoints: str = ""


@dataclass(frozen=True)
class ResolvedSweep:
    """A checked request: everything that its workers need.

    `overrides` are the profile's and the request's settings that differ from the defaults; `on` is
    the place of its workers, also where only their number was given.
    """

    request: SweepRequest
    space: Space
    corpus: Corpus
    overrides: dict[str, Any]
    splits: list[str]
    store: Store
    storage_url: str
    study_name: str
    table: VariantTable = TABLE_3
    on: str = "local"
    resources: Resources = field(default_factory=Resources)

    @property
    def place(self) -> Placement:
        """The place of its workers."""
        return parse_on(self.on)

    @property
    def workers(self) -> int:
        """The number of its workers."""
        return self.place.processes or self.request.workers

    @property
    def shared_settings(self) -> RunConfig:
        """The settings that no variant replaces."""
        if self.table.is_the_papers:
            return resolve_config(self.overrides)
        shared = {k: v for k, v in self.overrides.items() if not k.startswith(OF_VARIANT)}
        return resolve_config(shared)


def resolve_sweep(request: SweepRequest) -> ResolvedSweep:
    """Check what can be checked before an encoder is loaded. Raises UsageError."""
    if problems := [*_unknown_names(request), *_out_of_range(request)]:
        raise UsageError(problems)
    table = load_table(request.variants) if request.variants else TABLE_3
    space = load_space(request.space, table)
    corpus = load_corpus(request.data, request.target)
    if variants_of(space):
        space = for_variant(space, request.variant or variants_of(space)[0])
    if tuned := sorted(request.overrides.keys() & space.fields.keys()):
        raise UsageError(
            f"--set {tuned[0]}: the space {request.space} tunes it; leave it out, or use a space"
            " without it"
        )
    overrides = resolve_precision(merge_overrides(load_profile(request.profile), request.overrides))
    config = resolve_config(overrides, space.variant, table)
    data = config.data
    splits = select_splits(request.splits, corpus, data.split_seed, data.equal_texts)
    check_groups(corpus, {space.variant: config}, splits)
    check_copies_url(request.checkpoints)
    on = _place_of_workers(request)
    resources, _ = choose_resources(parse_on(on), request.cpus_per_run, request.gpus_per_run)
    store = open_store(request.tracking_uri)
    return ResolvedSweep(
        request,
        space,
        corpus,
        overrides,
        splits,
        store,
        request.storage or default_url(store.uri),
        study_name(request),
        table,
        on,
        resources,
    )


def _place_of_workers(request: SweepRequest) -> str:
    """Return the words of `--on` with the number of local workers. Raises UsageError."""
    place = parse_on(request.on)
    if place.is_here:
        return request.on if request.workers == 1 else f"local:{request.workers}"
    if place.processes and request.workers not in (1, place.processes):
        raise UsageError(
            f"--on {request.on} and --workers {request.workers}: give one number of workers"
        )
    return request.on


def study_name(request: SweepRequest) -> str:
    """Return the study's name: the given one, or one of space, data and profile."""
    parts = (
        Path(part).name.removesuffix(".toml")
        for part in (
            *(request.space, request.variants),
            *(request.data, request.target, request.profile),
        )
        if part
    )
    return request.study or "-".join(parts)


def folder_name(request: SweepRequest) -> str:
    """Return the default folder for the study's files: a single name, whatever the study's is."""
    return "study-" + re.sub(r"[^\w.+()-]+", "-", study_name(request))[:100]


def encoder_digests(resolved: ResolvedSweep) -> dict[str, str]:
    """Return the digest of each encoder that a trial can have, by its name. Raises UsageError."""
    bounds = resolved.space.fields.get("model.encoder")
    settings = configure(resolved.space, resolved.overrides, {}, resolved.table)
    names = bounds.choices if bounds else (settings.model.encoder,)
    return digest_encoders(map(str, names))


def open_study(resolved: ResolvedSweep, encoders: Mapping[str, str]) -> Study:
    """Open the study of that name, or create it.

    Args:
        resolved: The checked request.
        encoders: Digests of the encoders by name (`encoder_digests`), a part of its definition.

    Raises:
        UsageError: A study of that name has another definition; a line for each difference.
    """
    storage = open_storage(resolved.storage_url)
    with StudyLock(resolved.storage_url):
        study = (
            optuna.create_study(
                study_name=resolved.study_name,
                storage=storage,
                load_if_exists=True,
                directions=DIRECTIONS[resolved.request.objective],
                pruner=make_pruner(resolved),
            )
            if resolved.study_name not in optuna.get_all_study_names(storage)
            else optuna.load_study(
                study_name=resolved.study_name,
                storage=storage,
                pruner=make_pruner(resolved),
            )
        )
        definition = json.loads(json.dumps(_definition(resolved, encoders)))
        stored = study.user_attrs.get(_DEFINITION)
        if stored is None:
            study.set_user_attr(_DEFINITION, definition)
        elif stored != definition:
            differences = [
                f"{name}: {stored.get(name)} there, {value} here"
                for name, value in definition.items()
                if stored.get(name) != value
            ]
            raise UsageError(
                [
                    f"study {resolved.study_name!r} exists and is another one; "
                    "give --study a new name",
                    *differences,
                ]
            )
    return study


def make_sampler(resolved: ResolvedSweep, study: Study) -> BaseSampler:
    """Return the sampler of the next trial. Call it with the study's lock only.

    Its seed depends on the number of trials, so that neither a process that resumes the study nor
    one beside this one draws the same values again.
    """
    # Multivariate TPE and constant liars are experimental.
    warnings.simplefilter("ignore", ExperimentalWarning)
    if resolved.request.sampler == "grid":
        return RandomSampler(seed=resolved.request.seed)  # unused: `queue_grid` queues the points
    if resolved.request.sampler == "qmc":
        return QMCSampler(seed=resolved.request.seed, scramble=True)  # it counts in the storage
    seed = seed_for("sampler", resolved.request.seed, len(study.get_trials(deepcopy=False)))
    return TPESampler(seed=seed % 2**32, multivariate=True, constant_liar=True)


def make_pruner(resolved: ResolvedSweep) -> BasePruner:
    """Return the pruner; Hyperband's rungs are the epochs."""
    epochs = resolved.shared_settings.optimisation.epochs
    if resolved.request.pruner == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=4)
    if resolved.request.pruner == "median":
        return MedianPruner(n_startup_trials=4, n_warmup_steps=1)
    return NopPruner()


def wanted_trials(resolved: ResolvedSweep, layers: int) -> int:
    """Return the number of trials to run in all: the requested one, at most the grid's points."""
    if resolved.request.sampler != "grid":
        return resolved.request.trials
    return min(resolved.request.trials, len(_grid_points(resolved, layers)))


def params_of(trial: FrozenTrial) -> dict[str, Any]:
    """Return a trial's parameters, also of a queued one that has not drawn them yet."""
    return trial.params or dict(trial.system_attrs.get("fixed_params", {}))


def queue_grid(study: Study, resolved: ResolvedSweep, layers: int) -> None:
    """Queue each point of the grid that no trial has; do nothing for other samplers.

    Optuna's GridSampler counts a point as visited once a trial was given it: a worker killed before
    it has stored its parameters would lose that point.
    """
    if resolved.request.sampler != "grid":
        return
    taken = [
        params_of(trial)
        for trial in study.get_trials(deepcopy=False)
        if trial.state != TrialState.FAIL or is_counted(trial)
    ]
    for point in _grid_points(resolved, layers)[: resolved.request.trials]:
        if point not in taken:
            study.enqueue_trial(point)


def is_counted(trial: FrozenTrial) -> bool:
    """Return True for a trial that was completed, pruned, or failed for a reason of its own."""
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or (
        trial.state == TrialState.FAIL and REASON in trial.user_attrs
    )


def _unknown_names(request: SweepRequest) -> list[str]:
    choices: tuple[tuple[str, str, Iterable[str]], ...] = (
        ("sampler", request.sampler, get_args(Sampler)),
        ("pruner", request.pruner, get_args(Pruner)),
        ("objective", request.objective, get_args(Objective)),
    )
    return [
        f"unknown {option} {value!r}: {did_you_mean(value, known)}"
        for option, value, known in choices
        if value not in known
    ]


def _out_of_range(request: SweepRequest) -> list[str]:
    problems = []
    limits = {
        "trials": (request.trials, MAX_TRIALS),
        "workers": (request.workers, MAX_WORKERS),
    }
    for option, (value, most) in limits.items():
        problems += [f"{option} must be at least 1 (--{option} {value})"] if value < 1 else []
        problems += (
            [f"{option} must be at most {most} (--{option} {value})"] if value > most else []
        )
    if not 0 <= request.seed < SEED_LIMIT:
        problems.append(f"--seed {request.seed}: give a whole number from 0 to {SEED_LIMIT - 1}")
    if not 0 <= request.timeout < float("inf"):
        problems.append(f"--timeout {request.timeout:g}: give seconds, or 0 for no limit")
    if not all(c.isprintable() and c not in "'\"`" for c in request.study):
        problems.append(
            f"--study {request.study[:80]!r}: "
            "a name has no quotation marks and no control characters"
        )
    return problems


def _definition(resolved: ResolvedSweep, encoders: Mapping[str, str]) -> dict[str, Any]:
    """Return what two sweeps of one study share; sampler, pruner and workers may change."""
    # The paper's rows are known by their names; those of a file can change.
    row = {} if resolved.table.is_the_papers else resolved.table.get(resolved.space.variant).changes
    return {
        **({"row": dict(row)} if row else {}),
        "space": resolved.space.model_dump(mode="json", exclude_defaults=True),
        "objective": resolved.request.objective,
        "splits": resolved.splits,
        "seed": resolved.request.seed,
        "data": resolved.corpus.digest,
        "encoder": dict(encoders),
        "settings": {
            name: value
            for name, value in resolved.shared_settings.flat().items()
            if name not in resolved.space.fields
        },
    }


def _grid_points(resolved: ResolvedSweep, layers: int) -> list[dict[str, Any]]:
    """Return the grid in a seeded order: a study that is stopped early has seen all of the space.

    Every field has the same number of values: at least two, and as many as the trials allow.
    """
    per_field = int(resolved.request.trials ** (1 / len(resolved.space.fields)) + 1e-9)
    values = grid(resolved.space, layers, max(2, per_field))
    points = [
        dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())
    ]
    random.Random(resolved.request.seed).shuffle(points)
    return points
