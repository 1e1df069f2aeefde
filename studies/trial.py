"""One trial: the settings that a sampler chose, trained on development splits and tracked below the study's run."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from ablation.config import RunConfig
from ablation.errors import RunError
from ablation.experiment import Prepared, check_depth, run_experiment
from ablation.identity import RunKey
from ablation.records import RunRecord
from ablation.reproducer import kept_in
from ablation.results import keep
from ablation.tracking import names
from ablation.tracking.runs import TrackedRun, start_run
from ablation.tracking.store import Store
from ablation.training import Hooks


@dataclass(frozen=True)
class Place:
    """Where trials are tracked: below `study_run` in `experiment`; `tags` are common to all of them."""

    store: Store
    experiment: str
    study_run: str
    tags: Mapping[str, object]


def run_trial(
    trial: optuna.Trial,
    params: Mapping[str, Any],
    variant: str,
    config: RunConfig,
    prepared: Prepared,
    splits: Sequence[str],
    seed: int,
    place: Place,
    *,
    prune: bool,
) -> tuple[float, float]:
    """Mean development Pearson over the splits, and the seconds it took.

    Test rows are not even tokenised for it. Raises TrialPruned if the pruner says so, which it may
    after each epoch of the first split; RunError where training breaks or collapses. The MLflow run
    ends with the state that is true: FINISHED, FAILED, or KILLED for a pruned one.
    """
    tags = {
        **place.tags, names.KIND: names.TRIAL, names.VARIANT: variant, names.SEED: seed, names.TRIAL_NUMBER: trial.number,
        names.ENCODER: config.model.encoder, names.PARENT: place.study_run,
    }  # fmt: skip
    tracked = start_run(place.store, place.experiment, f"trial {trial.number}", tags)
    trial.set_user_attr("mlflow_run_id", tracked.run_id)
    began = time.monotonic()
    try:
        tracked.params({**config.flat(), **{f"trial.{name}": value for name, value in params.items()}})
        tracked.json(names.CONFIG_FILE, config.model_dump(mode="json"))
        check_depth(config.model, prepared)
        without_test = replace(prepared, test=None)
        records = []
        for number, split in enumerate(splits):
            hooks = _hooks(trial, tracked, split if len(splits) > 1 else "", prune=prune and number == 0)
            with kept_in(tracked, config, prepared):
                result = run_experiment(without_test, config, RunKey(variant, split, seed), "", hooks)
            if number == 0:
                keep(tracked, result)
            records.append(result.record)
        pearson = sum(_pearson(record) for record in records) / len(records)
        tracked.points({"objective/pearson": pearson, "objective/seconds": time.monotonic() - began})
    except optuna.TrialPruned as pruned:
        tracked.tags({names.TRIAL_STATE: "PRUNED"})
        tracked.end("KILLED", str(pruned))
        raise
    except KeyboardInterrupt as interrupt:
        tracked.fail(interrupt)
        raise
    except Exception as error:
        tracked.tags({names.TRIAL_STATE: "FAIL"})
        tracked.fail(error)
        raise
    tracked.tags({names.TRIAL_STATE: "COMPLETE"})
    tracked.end("FINISHED")
    return pearson, time.monotonic() - began


def track_known(place: Place, number: int, before: FrozenTrial, params: Mapping[str, Any]) -> None:
    """The MLflow run of a trial whose parameters an earlier one already had: its values, and which one it was."""
    tags = {**place.tags, names.KIND: names.TRIAL, names.TRIAL_NUMBER: number, names.PARENT: place.study_run}
    tracked = start_run(place.store, place.experiment, f"trial {number}", tags)
    tracked.params({f"trial.{name}": value for name, value in params.items()})
    tracked.points(dict(zip(("objective/pearson", "objective/seconds"), before.values, strict=False)))
    tracked.tags({names.TRIAL_STATE: "COMPLETE", names.SAME_AS: before.number})
    tracked.end("FINISHED")


def _hooks(trial: optuna.Trial, tracked: TrackedRun, prefix: str, *, prune: bool) -> Hooks:
    def on_point(values: Mapping[str, float], step: int) -> None:
        tracked.points({f"{prefix.replace(':', '-').replace('+', '-')}/{n}" if prefix else n: v for n, v in values.items()}, step)

    def on_epoch(epoch: int, scores: Mapping[str, float]) -> None:
        r = scores.get("pearson")
        if prune and r is not None:
            trial.report(r, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned(f"pruned after epoch {epoch} with a development Pearson of {r:.4f}")

    return Hooks(on_point=on_point, on_epoch=on_epoch)


def _pearson(record: RunRecord) -> float:
    if "pearson" not in record.dev:
        raise RunError(f"collapsed on {record.split}: constant predictions have no Pearson")
    return record.dev["pearson"]
