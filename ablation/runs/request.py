"""Resolve a request for runs: check it and plan it, without training or writing anything."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import pandas as pd

from ablation.config.model_parts import NOT_EXPORTABLE, has_own_parts
from ablation.config.overrides import load_profile, merge_overrides
from ablation.config.tuning_record import Tuning, load_tuning
from ablation.config.variant_table import VariantTable
from ablation.config.variants import TABLE_3, read_selection
from ablation.core.errors import UsageError
from ablation.core.state import has_kept_weights
from ablation.core.suggest import did_you_mean
from ablation.data.corpus import Corpus, load_corpus
from ablation.data.splits import AUTO
from ablation.executors.choose import AUTO_PLACE, Placement, parse_on
from ablation.executors.protocol import Resources
from ablation.runs.checkpoint_copies import check_copies_url
from ablation.runs.context import Preparations
from ablation.runs.placement import choose_resources
from ablation.runs.plan import History, PlannedRun, RunGrid, make_plan
from ablation.runs.precision import resolve_precision
from ablation.tracking import names
from ablation.tracking.history import PastRuns, past_runs
from ablation.tracking.reading import may_be_reused
from ablation.tracking.store import Store, find_experiment, open_store
from ablation.tracking.sync import send_waiting

if TYPE_CHECKING:
    from ablation.runs.scaling import SideBySide

DEFAULT_EXPERIMENT: Final = "ablation"
#: The runs whose weights are kept, see `ablation.runs.keeping.select_kept`.
Keep = Literal["rows", "best", "all", "none"]


@dataclass(frozen=True)
class RunRequest:
    """The runs that are wanted: every variant on every split with every seed.

    Attributes:
        data: "demo", a folder with a corpus.toml or with train.csv and optionally test.csv, a
            corpus.toml, or a file of rows.
        profile: A profile's name (smoke, demo, small, paper), or a TOML file.
        variants: Names of variants or groups of them. One may be a TOML file of variants: the
            others are then names of its rows, and without others those run that it says.
        splits: Such as "dev1", "dev2:fr+it" or "kfold:5", see `ablation.data.splits`; "auto" for
            those that suit the corpus. "dev1@0-4" are five draws, which are averaged over.
        seeds: Whole numbers from 0 on.
        encoder: "bundled", "tiny", a Hub id or a folder; None for the profile's.
        overrides: Values of single fields, such as {"loss.tau": 0.1}; they win over the profile's.
        experiment: The MLflow experiment; None for "ablation", or the one that `mlflow run` chose.
        tracking_uri: The MLflow store; None for $MLFLOW_TRACKING_URI, or mlflow.db in this folder.
        fresh: Train runs again that have finished before.
        export: Write the best model of each run to a folder below this one.
        target: The label column to predict, if the corpus has several.
        keep: Keep the weights of the best seed of each row ("rows"), of the best run of each split
            ("best"), of all runs, or of none.
        energy: Measure the electricity that training takes, with the CO2 of this country's (ISO
            3166 code of three letters, such as "FRA").
        unseal: Show test scores while runs end, and count that as a reading of the test rows.
        on: Train in this process ("local"), in processes side by side ("local:4"), in as many as
            this machine trains fastest with ("local:auto"), on a Ray cluster ("ray",
            "ray:ADDRESS") or as SLURM jobs ("slurm", "slurm:partition=gpu,time=120").
        cpus_per_run: Cores and threads of a run; None for this machine's, or its share of them.
        gpus_per_run: GPUs of a run, 0.25 for four runs a GPU; None for one if this machine has any.
        checkpoints: A URL that fsspec knows ("s3://bucket/folder"), to which checkpoints are copied
            while runs are trained, so that another machine goes on from them.

    Raises:
        UsageError: A string is given where a list is expected, or `keep` is unknown.
    """

    data: str | Path = "demo"
    profile: str | Path = "demo"
    variants: Sequence[str | Path] = ("table3",)
    splits: Sequence[str] = (AUTO,)
    seeds: Sequence[int] = (0,)
    encoder: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    experiment: str | None = None
    tracking_uri: str | None = None
    fresh: bool = False
    export: Path | None = None
    target: str = ""
    keep: Keep = "rows"
    unseal: bool = False
    energy: str = ""
    on: str = "local"
    cpus_per_run: int | None = None
    gpus_per_run: float | None = None
    checkpoints: str = ""

    def __post_init__(self) -> None:
        if self.keep not in get_args(Keep):
            raise UsageError(f"keep = {self.keep!r}: {did_you_mean(self.keep, get_args(Keep))}")
        for name in ("variants", "splits"):
            if isinstance(text := getattr(self, name), str):
                raise UsageError(f"{name} = {text!r}: give a list of names, such as [{text!r}]")

    @property
    def settings(self) -> dict[str, Any]:
        """The profile's fields with the overrides, and the precision that "auto" means here.

        Raises UsageError for an unusable profile.
        """
        encoder = {"model.encoder": self.encoder} if self.encoder else {}
        profile = load_profile(str(self.profile))
        return resolve_precision(merge_overrides(profile, encoder | dict(self.overrides)))


@dataclass(frozen=True)
class ResolvedRun:
    """A request that was checked and planned: nothing has been trained or written.

    `warnings` name stored runs that can't be read. `scaling` is what was measured to resolve
    "local:auto", by the number of runs side by side.
    """

    request: RunRequest
    corpus: Corpus
    store: Store
    runs: list[PlannedRun]
    tuning: Tuning | None = None
    warnings: Sequence[str] = ()
    table: VariantTable = TABLE_3
    place: Placement = field(default_factory=Placement)
    resources: Resources = field(default_factory=Resources)
    scaling: "Mapping[int, SideBySide]" = field(default_factory=dict)

    def to_frame(self) -> pd.DataFrame:
        """Return one row a run: variant, split, seed, state, reason, run_id of a reused one."""
        rows = [
            (run.key.variant, run.key.split, run.key.seed, run.state, run.reason, run.run_id)
            for run in self.runs
        ]
        columns = ["variant", "split", "seed", "state", "reason", "run_id"]
        return pd.DataFrame(rows, columns=columns)


def resolve_run(request: RunRequest) -> ResolvedRun:
    """Check everything that can be checked without training. Raises UsageError.

    With `on="local:auto"` training steps are measured, unless an earlier plan has.
    """
    if request.on.strip() != AUTO_PLACE:
        return _resolve(request)
    one_by_one = _resolve(replace(request, on="local"))
    to_do = [run for run in one_by_one.runs if run.config is not None and not run.is_reused]
    if not to_do or any(run.is_reused for run in one_by_one.runs):
        return one_by_one  # with other threads, what has finished would be trained again
    # Imported here: torch takes seconds.
    from ablation.runs.scaling import place_that_pays

    on, scaling = place_that_pays(one_by_one.corpus, to_do, request.cpus_per_run)
    return replace(_resolve(replace(request, on=on)), scaling=scaling)


def _resolve(request: RunRequest) -> ResolvedRun:
    corpus = load_corpus(str(request.data), request.target)
    settings = request.settings
    table, variants = read_selection(request.variants)
    grid = RunGrid(variants, tuple(request.splits), check_seeds(request.seeds), table)
    store = open_store(request.tracking_uri)
    send_waiting(store)
    experiment = adopted_experiment(request, store) or find_experiment(
        store, request.experiment or DEFAULT_EXPERIMENT
    )
    past = past_runs(store, experiment) if experiment else PastRuns()
    history = History(
        past.runs,
        lambda run: may_be_reused(store, run.run_id, run.manifest),
        has_kept_weights,
    )
    tuning = load_tuning(str(request.profile))
    check_copies_url(request.checkpoints)
    place = parse_on(request.on)
    if request.energy and not place.is_here:
        raise UsageError(
            f"--energy: measured only where this process trains, not --on {request.on}"
        )
    resources, parts = choose_resources(place, request.cpus_per_run, request.gpus_per_run)
    runs = make_plan(
        corpus,
        settings,
        grid,
        history,
        fresh=request.fresh,
        more_parts=parts | ({"tuning": tuning.digest} if tuning else {}),
    )
    if request.export:
        _require_exportable(runs)
    warnings = [*past.unreadable, *_leftover_run(store)]
    return ResolvedRun(request, corpus, store, runs, tuning, warnings, table, place, resources)


def _require_exportable(runs: Sequence[PlannedRun]) -> None:
    """Raise UsageError for a row whose model can't be exported."""
    models = {run.key.variant: run.config.model for run in runs if run.config is not None}
    own = [name for name, model in models.items() if has_own_parts(model.pooling, model.head)]
    if own:
        raise UsageError(f"--export: {', '.join(own)}: {NOT_EXPORTABLE}")


def check_seeds(seeds: Sequence[int]) -> tuple[int, ...]:
    """Return the seeds, each once. Raises UsageError for none, or for other than whole numbers."""
    if not seeds:
        raise UsageError("no seeds given; e.g. 0, 1, 2")
    for seed in seeds:
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise UsageError(f"seed {seed!r}: give whole numbers from 0 on")
    return tuple(dict.fromkeys(seeds))


def prepare_all(planned: ResolvedRun) -> Preparations:
    """Load what the runs still to do need. Raises UsageError for an encoder that can't be used."""
    preparations = Preparations(planned.corpus)
    for run in planned.runs:
        if run.config is not None and not run.is_reused:
            from ablation.training.train_run import check_trainable

            check_trainable(run.config, preparations.get(run.config))
    return preparations


def opened_run(store: Store) -> str | None:
    """Return the id of the run that `mlflow run` opened for this command.

    A run that a leftover `MLFLOW_RUN_ID` names, such as a finished one, is none.
    """
    run_id = os.environ.get(names.MLFLOW_RUN_ID)
    if not run_id:
        return None
    # Imported here: mlflow takes seconds.
    from ablation.tracking.runs import is_fresh_project_run

    return run_id if is_fresh_project_run(store, run_id) else None


def adopted_experiment(request: RunRequest, store: Store) -> str | None:
    """Return the experiment of the run that `mlflow run` opened, unless another is requested."""
    run_id = opened_run(store)
    if run_id is None:
        return None
    experiment = store.client.get_experiment(store.client.get_run(run_id).info.experiment_id)
    is_wanted = request.experiment in (None, experiment.name)
    return str(experiment.experiment_id) if is_wanted else None


def _leftover_run(store: Store) -> list[str]:
    run_id = os.environ.get(names.MLFLOW_RUN_ID)
    if not run_id or opened_run(store):
        return []
    return [
        f"{names.MLFLOW_RUN_ID}={run_id}: no run that `mlflow run` has just opened; it is left"
        " alone: unset the variable"
    ]


def mlflow_experiment(tracking_uri: str | None) -> str:
    """Return the name of the experiment that `mlflow run` chose, or "" outside of it.

    Raises UsageError for an unusable store.
    """
    experiment = os.environ.get("MLFLOW_EXPERIMENT_ID", "")
    if not experiment:
        return ""
    return str(open_store(tracking_uri).client.get_experiment(experiment).name)
