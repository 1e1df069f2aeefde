"""What was asked for: checked, laid out as a plan, and what its runs share made ready."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ablation.config.schema import RunConfig, load_profile, override, parse_overrides, parse_seeds
from ablation.config.tuning_record import Tuning, load_tuning
from ablation.config.variants import parse_variants
from ablation.data.corpus import Corpus, load_corpus
from ablation.runs.plan import PlannedRun, make_plan
from ablation.tracking import names
from ablation.tracking.history import past_runs
from ablation.tracking.reading import has_all_artifacts
from ablation.tracking.store import Store, find_experiment, open_store

if TYPE_CHECKING:
    from ablation.training.train_run import Prepared

DEFAULT_EXPERIMENT: Final = "ablation"


@dataclass(frozen=True)
class RunRequest:
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
class ResolvedRun:
    """A request checked and laid out: nothing has been trained or written."""

    request: RunRequest
    corpus: Corpus
    store: Store
    runs: list[PlannedRun]
    tuning: Tuning | None = None


@dataclass
class Preparations:
    """Tokenised corpora and loaded encoders, each made once for all the runs that share it."""

    corpus: Corpus
    made: "dict[tuple[object, ...], Prepared]" = field(default_factory=dict)

    def get(self, config: RunConfig) -> "Prepared":
        from ablation.training.train_run import (  # with torch and transformers: not where all is reused
            preparation_key,
            prepare,
        )

        key = preparation_key(config)
        if key not in self.made:
            self.made[key] = prepare(self.corpus, config)
        return self.made[key]


def resolve_run(request: RunRequest) -> ResolvedRun:
    """Check everything that can be checked without training. Raises UsageError."""
    corpus = load_corpus(request.data)
    differences = request.differences()
    variants, seeds = parse_variants(request.variants), parse_seeds(request.seeds)
    store = open_store(request.tracking_uri)
    experiment = adopted_experiment(request, store) or find_experiment(
        store, request.experiment or DEFAULT_EXPERIMENT
    )
    past = past_runs(store, experiment) if experiment else []
    tuning = load_tuning(request.profile)
    runs = make_plan(
        corpus,
        differences,
        variants,
        request.splits,
        seeds,
        past,
        intact=lambda run: has_all_artifacts(store, run.run_id, run.manifest),
        fresh=request.fresh,
        tuning=tuning.digest if tuning else "",
    )
    return ResolvedRun(request, corpus, store, runs, tuning)


def prepare_all(planned: ResolvedRun) -> Preparations:
    """Load what the runs still to do need. Raises UsageError for an encoder that can't serve."""
    preparations = Preparations(planned.corpus)
    for run in planned.runs:
        if run.config is not None and not run.is_reused:
            from ablation.training.train_run import check_trainable

            check_trainable(run.config, preparations.get(run.config))
    return preparations


def adopted_experiment(request: RunRequest, store: Store) -> str | None:
    """The experiment of the run that `mlflow run` opened, unless another one is asked for."""
    run_id = os.environ.get(names.MLFLOW_RUN_ID)
    if not run_id:
        return None
    experiment = store.client.get_experiment(store.client.get_run(run_id).info.experiment_id)
    return str(experiment.experiment_id) if request.experiment in ("", experiment.name) else None


def mlflow_experiment(tracking_uri: str | None) -> str:
    """The name of the experiment that `mlflow run` opened; empty outside of it. Raises UsageError for an unusable store."""
    found = os.environ.get("MLFLOW_EXPERIMENT_ID", "")
    return str(open_store(tracking_uri).client.get_experiment(found).name) if found else ""
