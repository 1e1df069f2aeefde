"""One trial: a sampler's settings trained on development splits, and tracked in MLflow."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from ablation.config.schema import RunConfig
from ablation.core.errors import RunError
from ablation.core.identity import RunKey, code_digest, identify, libraries
from ablation.core.interrupts import raise_if_interrupted
from ablation.core.state import checkpoints_root, run_slot
from ablation.runs.checkpoint_copies import copied_checkpoints
from ablation.runs.execution import warn_corrupt
from ablation.runs.reproducer import save_reproducer_on_error
from ablation.runs.results import log_result
from ablation.tracking import names
from ablation.tracking.provenance import environment
from ablation.tracking.runs import TrackedRun, start_run
from ablation.tracking.store import Store
from ablation.tracking.uris import redact_uri
from ablation.training.loop import Hooks
from ablation.training.records import RunRecord
from ablation.training.train_run import Prepared, check_trainable, train_run
from studies.storage import storage_failure
from studies.study import ResolvedSweep
from studies.study_run import RUN_ID, study_tags

#: Print one line for the user.
Echo = Callable[[str], None]


@dataclass(frozen=True)
class TrialContext:
    """Shared by the trials of a study.

    Attributes:
        store: The MLflow store.
        experiment: The id of the MLflow experiment.
        study_run: The id of the MLflow run that trials are nested under.
        tags: Tags of every trial's run.
        parts: Digests of what all trials are made from, and the study itself (`identify`).
        encoders: Digests of the encoders by name.
        checkpoints: The URL that checkpoints are copied to; empty for none.
    """

    store: Store
    experiment: str
    study_run: str
    tags: Mapping[str, object]
    parts: Mapping[str, str]
    encoders: Mapping[str, str]
    checkpoints: str = ""


@dataclass(frozen=True)
class TrialJobs:
    """The runs of a trial: the settings with `params`, one for each split's key."""

    params: Mapping[str, Any]
    config: RunConfig
    keys: Sequence[RunKey]


def trial_context(
    resolved: ResolvedSweep,
    experiment: str,
    study_run: str,
    encoders: Mapping[str, str],
    tags: Mapping[str, object] | None = None,
) -> TrialContext:
    """Return what a study's trials share.

    Args:
        resolved: The sweep.
        experiment: The id of the MLflow experiment.
        study_run: The id of the study's MLflow run.
        encoders: Digests of the encoders by name.
        tags: Further tags of every trial's run.
    """
    parts = {
        "data": resolved.corpus.digest,
        "code": code_digest(),
        "libraries": libraries(),
        "study": f"{resolved.study_name} in {redact_uri(resolved.storage_url)}",
    }
    all_tags = {**study_tags(resolved), **(tags or {})}
    return TrialContext(
        resolved.store,
        experiment,
        study_run,
        all_tags,
        parts,
        encoders,
        resolved.request.checkpoints,
    )


def slots(jobs: TrialJobs, context: TrialContext) -> list[str]:
    """Return the names of the jobs' files in the state folder, in the order of their keys.

    They depend on what is trained and not on the trial's number: a killed trial is queued again
    under a new number, and continues from the checkpoints of the first.
    """
    config = jobs.config
    parts = {
        **context.parts,
        "config": config.digest(),
        "encoder": context.encoders[config.model.encoder],
    }
    return [
        run_slot(context.store.uri, context.experiment, identify(key, parts).digest)
        for key in jobs.keys
    ]


def run_trial(
    trial: optuna.Trial,
    jobs: TrialJobs,
    prepared: Prepared,
    context: TrialContext,
    echo: Echo,
    *,
    prune: bool,
) -> tuple[float, float]:
    """Train a trial and track it; continue after the last epoch that a killed process completed.

    Test rows are not tokenised for it. The MLflow run ends as FINISHED, as FAILED, or as KILLED for
    a pruned trial.

    Args:
        trial: Optuna's trial.
        jobs: What to train; the caller has locked their slots.
        prepared: The tokenised corpus and the encoder.
        context: What the study's trials share.
        echo: Called with lines for the user.
        prune: Ask the pruner after each epoch of the first split.

    Returns:
        The mean development Pearson over the splits, and the seconds of training, those of killed
        processes included.

    Raises:
        TrialPruned: The pruner ended the trial.
        RunError: Training broke or collapsed.
    """
    config, first = jobs.config, jobs.keys[0]
    tags = {
        **context.tags,
        names.KIND: names.TRIAL,
        names.VARIANT: first.variant,
        names.SEED: first.seed,
        names.TRIAL_NUMBER: trial.number,
        names.ENCODER: config.model.encoder,
        names.PARENT: context.study_run,
    }
    tracked = start_run(context.store, context.experiment, f"trial {trial.number}", tags)
    try:
        trial.set_user_attr(RUN_ID, tracked.run_id)
        tracked.log_params({**config.flat(), **_trial_params(jobs.params)})
        tracked.log_json(names.CONFIG_FILE, config.model_dump(mode="json"))
        tracked.log_json(names.ENVIRONMENT_FILE, environment())
        check_trainable(config, prepared)
        records = []
        for key, slot in zip(jobs.keys, slots(jobs, context), strict=True):
            split = key.split if len(jobs.keys) > 1 else ""
            hooks = _hooks(trial, tracked, split, echo, prune=prune and key == first)
            folder = checkpoints_root() / slot
            with (
                copied_checkpoints(context.checkpoints, folder, echo),
                save_reproducer_on_error(tracked, config, prepared),
            ):
                warn_corrupt(f"trial {trial.number}", folder, echo)
                result = train_run(replace(prepared, test=None), config, key, "", hooks, folder)
            if key == first:
                log_result(tracked, result)
            records.append(result.record)
        pearson = sum(map(_dev_pearson, records)) / len(records)
        seconds = sum(record.seconds or 0.0 for record in records)
        tracked.log_metrics({"objective/pearson": pearson, "objective/seconds": seconds})
    except optuna.TrialPruned as pruned:
        tracked.set_tags({names.TRIAL_STATE: "PRUNED"})
        tracked.end("KILLED", str(pruned))
        raise
    except (KeyboardInterrupt, SystemExit) as interrupt:
        tracked.fail(interrupt)
        raise
    except Exception as error:
        tracked.set_tags({names.TRIAL_STATE: "FAIL"})
        reason: Exception = error
        if lost := storage_failure(error):
            reason = RunError(f"the study's storage was lost: {lost}")
            reason.__cause__ = error
        tracked.fail(reason)
        raise
    tracked.set_tags({names.TRIAL_STATE: "COMPLETE"})
    tracked.end("FINISHED")
    return pearson, seconds


def track_repeated(
    context: TrialContext, number: int, earlier: FrozenTrial, params: Mapping[str, Any]
) -> None:
    """Track a trial whose parameters an earlier one had: the earlier one's values and number.

    Args:
        context: What the study's trials share.
        number: The trial's number.
        earlier: The completed trial with the same parameters.
        params: The parameters.
    """
    tags = {
        **context.tags,
        names.KIND: names.TRIAL,
        names.TRIAL_NUMBER: number,
        names.PARENT: context.study_run,
    }
    tracked = start_run(context.store, context.experiment, f"trial {number}", tags)
    tracked.log_json(names.ENVIRONMENT_FILE, environment())
    tracked.log_params(_trial_params(params))
    tracked.log_metrics(
        dict(zip(("objective/pearson", "objective/seconds"), earlier.values, strict=False))
    )
    tracked.set_tags({names.TRIAL_STATE: "COMPLETE", names.SAME_AS: earlier.number})
    tracked.end("FINISHED")


class PruningReporter:
    """Report every epoch to the pruner in order, and end the trial if the pruner says so.

    When a killed trial continues, its earlier epochs are reported again: pruners judge by all
    reports of a trial. The pruner's answer to the last of them may not have been followed yet.
    """

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial
        self._pearson = 0.0
        self._should_prune = False

    def report(self, pearson: float, epoch: int) -> None:
        """Report an epoch's development Pearson."""
        self._trial.report(pearson, epoch)
        self._pearson, self._should_prune = pearson, self._trial.should_prune()

    def raise_if_pruned(self, epoch: int) -> None:
        """Raise TrialPruned if the pruner ended the trial after the last reported epoch."""
        if self._should_prune:
            raise optuna.TrialPruned(
                f"pruned after epoch {epoch} with a development Pearson of {self._pearson:.4f}"
            )


def _hooks(
    trial: optuna.Trial, tracked: TrackedRun, split: str, echo: Echo, *, prune: bool
) -> Hooks:
    prefix = f"{split.replace(':', '-').replace('+', '-')}/" if split else ""
    pruning = PruningReporter(trial) if prune else None

    def on_point(values: Mapping[str, float], step: int) -> None:
        tracked.log_metrics({f"{prefix}{name}": value for name, value in values.items()}, step)
        if pruning and "dev/pearson" in values:
            pruning.report(values["dev/pearson"], step)

    def on_epoch(epoch: int, scores: Mapping[str, float]) -> None:
        if pruning:
            pruning.raise_if_pruned(epoch)

    def on_resume(epoch: int) -> None:
        tracked.set_tags({names.RESUMED: epoch})
        echo(f"trial {trial.number}: goes on after epoch {epoch}")
        if pruning:
            pruning.raise_if_pruned(epoch)

    def on_step(done: int, total: int) -> None:
        raise_if_interrupted()

    return Hooks(on_point=on_point, on_step=on_step, on_epoch=on_epoch, on_resume=on_resume)


def _trial_params(params: Mapping[str, Any]) -> dict[str, Any]:
    return {f"trial.{name}": value for name, value in params.items()}


def _dev_pearson(record: RunRecord) -> float:
    if "pearson" not in record.dev:
        raise RunError(f"collapsed on {record.split}: constant predictions have no Pearson")
    return record.dev["pearson"]
