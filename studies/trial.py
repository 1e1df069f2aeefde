"""One trial: the settings that a sampler chose, trained on development splits and tracked below the study's run."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from ablation.config.schema import RunConfig
from ablation.core.errors import RunError
from ablation.core.identity import RunKey, identify
from ablation.core.state import checkpoints_root, run_slot
from ablation.encoders.sources import encoder_digest
from ablation.runs.execution import warn_corrupt
from ablation.runs.reproducer import save_reproducer_on_error
from ablation.runs.results import log_result
from ablation.tracking import names
from ablation.tracking.provenance import environment
from ablation.tracking.runs import TrackedRun, start_run
from ablation.tracking.store import Store
from ablation.training.loop import Hooks
from ablation.training.records import RunRecord
from ablation.training.train_run import Prepared, check_trainable, train_run

Echo = Callable[[str], None]


@dataclass(frozen=True)
class TrialContext:
    """Where trials are tracked: below `study_run` in `experiment`; `tags` are common to all of them.

    `parts` are digests of what all of them are made from, the study among it (see `ablation.core.identity`).
    """

    store: Store
    experiment: str
    study_run: str
    tags: Mapping[str, object]
    parts: Mapping[str, str]


@dataclass(frozen=True)
class TrialJobs:
    """What a trial trains: the settings that came of `params`, once for each key (one for each split)."""

    params: Mapping[str, Any]
    config: RunConfig
    keys: Sequence[RunKey]


def slots(trainings: TrialJobs, place: TrialContext) -> list[str]:
    """The names of the trainings' files in the state folder, in the order of their keys.

    They come from what is trained and not from the trial's number: a trial that was killed is queued
    again under a new one, and goes on from what the first left.
    """
    config = trainings.config
    parts = {
        **place.parts,
        "config": config.digest(),
        "encoder": _encoder_digest(config.model.encoder),
    }
    return [
        run_slot(place.store.uri, place.experiment, identify(key, parts).digest)
        for key in trainings.keys
    ]


@functools.cache
def _encoder_digest(name: str) -> str:
    """Once for a process: it reads the encoder's files."""
    return encoder_digest(name)


def run_trial(
    trial: optuna.Trial,
    trainings: TrialJobs,
    prepared: Prepared,
    place: TrialContext,
    tell: Echo,
    *,
    prune: bool,
) -> tuple[float, float]:
    """Mean development Pearson over the splits, and the seconds of training, those of killed processes among them.

    Goes on after the last epoch that a killed process completed; its slots must be claimed. Test rows
    are not even tokenised for it. Raises TrialPruned if the pruner says so, which it may after each
    epoch of the first split; RunError where training breaks or collapses. The MLflow run ends with
    the state that is true: FINISHED, FAILED, or KILLED for a pruned one.
    """
    config, first = trainings.config, trainings.keys[0]
    tags = {
        **place.tags,
        names.KIND: names.TRIAL,
        names.VARIANT: first.variant,
        names.SEED: first.seed,
        names.TRIAL_NUMBER: trial.number,
        names.ENCODER: config.model.encoder,
        names.PARENT: place.study_run,
    }
    tracked = start_run(place.store, place.experiment, f"trial {trial.number}", tags)
    trial.set_user_attr("mlflow_run_id", tracked.run_id)
    try:
        tracked.log_params(
            {
                **config.flat(),
                **{f"trial.{name}": value for name, value in trainings.params.items()},
            }
        )
        tracked.log_json(names.CONFIG_FILE, config.model_dump(mode="json"))
        tracked.log_json(names.ENVIRONMENT_FILE, environment())
        check_trainable(config, prepared)
        records = []
        for key, slot in zip(trainings.keys, slots(trainings, place), strict=True):
            warn_corrupt(f"trial {trial.number}", checkpoints_root() / slot, tell)
            hooks = _hooks(
                trial,
                tracked,
                key.split if len(trainings.keys) > 1 else "",
                tell,
                prune=prune and key == first,
            )
            with save_reproducer_on_error(tracked, config, prepared):
                result = train_run(
                    replace(prepared, test=None),
                    config,
                    key,
                    "",
                    hooks,
                    checkpoints=checkpoints_root() / slot,
                )
            if key == first:
                log_result(tracked, result)
            records.append(result.record)
        pearson, seconds = (
            sum(map(_pearson, records)) / len(records),
            sum(record.seconds or 0.0 for record in records),
        )
        tracked.log_metrics({"objective/pearson": pearson, "objective/seconds": seconds})
    except optuna.TrialPruned as pruned:
        tracked.set_tags({names.TRIAL_STATE: "PRUNED"})
        tracked.end("KILLED", str(pruned))
        raise
    except KeyboardInterrupt as interrupt:
        tracked.fail(interrupt)
        raise
    except Exception as error:
        tracked.set_tags({names.TRIAL_STATE: "FAIL"})
        tracked.fail(error)
        raise
    tracked.set_tags({names.TRIAL_STATE: "COMPLETE"})
    tracked.end("FINISHED")
    return pearson, seconds


def track_known(
    place: TrialContext, number: int, before: FrozenTrial, params: Mapping[str, Any]
) -> None:
    """The MLflow run of a trial whose parameters an earlier one already had: its values, and which one it was."""
    tags = {
        **place.tags,
        names.KIND: names.TRIAL,
        names.TRIAL_NUMBER: number,
        names.PARENT: place.study_run,
    }
    tracked = start_run(place.store, place.experiment, f"trial {number}", tags)
    tracked.log_json(names.ENVIRONMENT_FILE, environment())
    tracked.log_params({f"trial.{name}": value for name, value in params.items()})
    tracked.log_metrics(
        dict(zip(("objective/pearson", "objective/seconds"), before.values, strict=False))
    )
    tracked.set_tags({names.TRIAL_STATE: "COMPLETE", names.SAME_AS: before.number})
    tracked.end("FINISHED")


def _hooks(
    trial: optuna.Trial, tracked: TrackedRun, split: str, tell: Echo, *, prune: bool
) -> Hooks:
    prefix = f"{split.replace(':', '-').replace('+', '-')}/" if split else ""
    pruning = _Pruning(trial) if prune else None

    def on_point(values: Mapping[str, float], step: int) -> None:
        tracked.log_metrics({f"{prefix}{name}": value for name, value in values.items()}, step)
        if pruning and "dev/pearson" in values:
            pruning.hear(values["dev/pearson"], step)

    def on_epoch(epoch: int, scores: Mapping[str, float]) -> None:
        if pruning:
            pruning.obey(epoch)

    def on_resume(epoch: int) -> None:
        tracked.set_tags({names.RESUMED: epoch})
        tell(f"trial {trial.number}: goes on after epoch {epoch}")
        if pruning:
            pruning.obey(epoch)

    return Hooks(on_point=on_point, on_epoch=on_epoch, on_resume=on_resume)


class _Pruning:
    """Tells the pruner of every epoch in its order, and obeys it.

    When a killed trial goes on, its earlier epochs are told again: pruners judge by all that a trial
    has reported. What was said of those epochs was obeyed then; after the last of them the process
    may have died before it could be.
    """

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial
        self._pearson = 0.0
        self._is_over = False

    def hear(self, pearson: float, epoch: int) -> None:
        self._trial.report(pearson, epoch)
        self._pearson, self._is_over = pearson, self._trial.should_prune()

    def obey(self, epoch: int) -> None:
        """Raises TrialPruned if that was said of the epoch."""
        if self._is_over:
            raise optuna.TrialPruned(
                f"pruned after epoch {epoch} with a development Pearson of {self._pearson:.4f}"
            )


def _pearson(record: RunRecord) -> float:
    if "pearson" not in record.dev:
        raise RunError(f"collapsed on {record.split}: constant predictions have no Pearson")
    return record.dev["pearson"]
