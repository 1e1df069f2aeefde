"""Train one run, log it, and set its final MLflow status."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from pydantic import ValidationError

from ablation.config.schema import RunConfig
from ablation.core.identity import RunKey
from ablation.core.interrupts import raise_if_interrupted
from ablation.runs.checkpoint_copies import copied_checkpoints, remove_copies
from ablation.runs.context import RunContext
from ablation.runs.plan import PlannedRun
from ablation.runs.results import RunOutcome, log_result
from ablation.tracking import names
from ablation.tracking.damage import DamagedRunError
from ablation.tracking.history import finished_run
from ablation.tracking.provenance import environment
from ablation.tracking.reading import may_be_reused, read_record
from ablation.tracking.runs import TrackedRun, start_run
from ablation.training.checkpoints import clear, remove_corrupt
from ablation.training.records import RunRecord

if TYPE_CHECKING:
    from ablation.runs.energy import EnergyMeter
    from ablation.training.step import OnTerms
    from ablation.training.train_run import RunResult


@dataclass(frozen=True)
class TrainingJob:
    """A run to be trained.

    Attributes:
        key: Names the run in what is printed and recorded.
        config: Its settings.
        identity: The digest of its identity.
        checkpoints: The folder of its checkpoints.
    """

    key: RunKey
    config: RunConfig
    identity: str
    checkpoints: Path


def open_run(
    context: RunContext,
    run: PlannedRun,
    name: str,
    *,
    kind: str = names.RUN,
    tags: Mapping[str, object] | None = None,
) -> TrackedRun:
    """Create the MLflow run of a planned one, nested under the context's suite.

    Args:
        context: The suite.
        run: The planned run.
        name: The name that MLflow shows.
        kind: Its `ablation.kind`, see `ablation.tracking.names`.
        tags: Further tags.
    """
    all_tags: dict[str, object] = {
        names.KIND: kind,
        names.VARIANT: run.key.variant,
        names.SPLIT: run.key.split,
        names.SEED: run.key.seed,
        names.ROW: row_name(run.key),
        names.IDENTITY: run.identity.digest,
        **context.tags,
        **{f"{names.IDENTITY_PART}{part}": digest for part, digest in run.identity.parts.items()},
    }
    if run.config is not None:
        all_tags[names.ENCODER] = run.config.model.encoder
        all_tags[names.REPLACED] = json.dumps(run.replaced, sort_keys=True)
    all_tags |= {names.PARENT: context.suite, **(tags or {})}
    return start_run(context.store, context.experiment, name, all_tags)


def row_name(key: RunKey) -> str:
    """Return the name of a run's row in the table of results, such as "mse · dev1"."""
    return f"{key.variant} · {key.split}"


def run_and_record(
    context: RunContext,
    tracked: TrackedRun,
    key: RunKey,
    checkpoints: Path,
    make: "Callable[[], RunResult]",
) -> RunOutcome:
    """Make the result of an opened run, log it, and end the run; an error fails this run only.

    Corrupt checkpoints are named and removed, and those of a finished run are deleted. Ctrl-C,
    SIGTERM and a scheduler that ends the process end the run as KILLED and are raised.

    Args:
        context: What the run shares with others.
        tracked: The MLflow run.
        key: Names the run in what is printed.
        checkpoints: The run's own folder of checkpoints.
        make: Trains the run, or combines its members.
    """
    progress = context.progress
    try:
        progress.started(key)
        with copied_checkpoints(context.checkpoints, checkpoints, progress.say):
            warn_corrupt(key, checkpoints, progress.say)
            # As parameters too: MLflow's box plots take no tags.
            tracked.log_params({"variant": key.variant, "split": key.split, "seed": key.seed})
            tracked.log_dataset(context.corpus)
            tracked.log_json(names.ENVIRONMENT_FILE, environment())
            result = make()
        log_result(tracked, result)
    except (KeyboardInterrupt, SystemExit) as interrupt:
        tracked.fail(interrupt)
        raise
    except Exception as error:  # whatever it is, the other runs go on
        reason = tracked.fail(error)
        progress.ended(key, "failed", note=_note(reason, tracked.lag))
        return RunOutcome(key, "failed", None, tracked.run_id, reason)
    tracked.end("FINISHED")
    clear(checkpoints)
    remove_copies(context.checkpoints, checkpoints, progress.say)
    collapsed = "collapsed: constant predictions have no Pearson"
    note = _note(collapsed if result.record.collapsed else "", tracked.lag)
    progress.ended(key, "finished", *_headline(result.record), note=note)
    return RunOutcome(key, "finished", result.record, tracked.run_id)


def train_tracked(
    context: RunContext, tracked: TrackedRun, job: TrainingJob, on_terms: "OnTerms | None" = None
) -> "RunResult":
    """Train a job, and log its settings, its curves as they come, and then as one table.

    Args:
        context: What the run shares with others.
        tracked: The MLflow run.
        job: The run to train.
        on_terms: Called with the terms of the loss, see `ablation.training.loop.Hooks`.

    Raises:
        RunError: Training failed, such as for a loss that is not finite.
        UsageError: The encoder can't be used.
    """
    # Imported here: with transformers they take seconds, and reused runs need neither.
    from ablation.runs.reproducer import save_reproducer_on_error
    from ablation.training.loop import Hooks
    from ablation.training.train_run import train_run

    key, config, progress = job.key, job.config, context.progress
    tracked.log_params(config.flat())
    tracked.log_json(names.CONFIG_FILE, config.model_dump(mode="json"))
    curves: list[tuple[int, str, float]] = []

    def on_point(values: Mapping[str, float], step: int) -> None:
        tracked.log_metrics({names.metric_name(name): v for name, v in values.items()}, step)
        curves.extend((step, name, value) for name, value in values.items())

    def on_step(done: int, total: int) -> None:
        progress.step(key, done, total)
        raise_if_interrupted()

    def on_resume(epoch: int) -> None:
        tracked.set_tags({names.RESUMED: epoch})
        progress.resumed(key, epoch)

    hooks = Hooks(
        on_point=on_point,
        on_step=on_step,
        on_epoch=lambda epoch, figures: progress.epoch(key, epoch, figures),
        on_terms=on_terms,
        on_resume=on_resume,
    )
    prepared = context.preparations.get(config)

    def train() -> "RunResult":
        return train_run(prepared, config, key, job.identity, hooks, job.checkpoints)

    with save_reproducer_on_error(tracked, config, prepared):
        result = train() if context.meter is None else _measured(context.meter, tracked, train)
    tracked.log_table(names.CURVES, pd.DataFrame(curves, columns=["step", "name", "value"]))
    return result


def _measured(
    meter: "EnergyMeter", tracked: TrackedRun, train: "Callable[[], RunResult]"
) -> "RunResult":
    """Train, and log the electricity that it took."""
    result, energy = meter.measure(train)
    if energy is not None:
        tracked.log_metrics({"cost/energy_wh": energy.wh, "cost/co2_g": energy.co2_g})
        tracked.set_tags({names.ENERGY: energy.to_json()})
    return result


def warn_corrupt(name: object, checkpoints: Path, say: Callable[[str], None]) -> None:
    """Remove the corrupt checkpoints of a run whose lock this process holds, and name them."""
    if corrupt := remove_corrupt(checkpoints):
        say(f"{name}: removed corrupt or incomplete checkpoints: {', '.join(corrupt)}")


def finished_meanwhile(
    context: RunContext, identity: str, kind: str = names.RUN, *, damaged: str | None = None
) -> str | None:
    """Return the id of a complete run of `identity` that another process has finished, if any.

    `damaged` is the id of one that can't be used.
    """
    if context.fresh:
        return None
    run = finished_run(context.store, context.experiment, identity, kind)
    if (
        run is not None
        and run.run_id != damaged
        and may_be_reused(context.store, run.run_id, run.manifest)
    ):
        return run.run_id
    return None


def reuse(context: RunContext, key: RunKey, run_id: str) -> RunOutcome:
    """Return the outcome of a run that had finished before.

    Raises DamagedRunError if its record is lost or was changed.
    """
    stored = read_record(context.store, run_id)
    try:
        record = RunRecord.model_validate(stored)
    except ValidationError as error:
        raise DamagedRunError(run_id, f"its {names.RECORD_FILE} is no record of a run") from error
    context.progress.ended(key, "reused", *_headline(record), note=f"run {run_id}")
    return RunOutcome(key, "reused", record, run_id)


def _note(*parts: str) -> str:
    return " · ".join(filter(None, parts))


def _headline(record: RunRecord) -> tuple[float | None, float | None]:
    """Return the pooled Pearson on development and on test rows; None for what is missing."""
    return record.dev.get("pearson"), (record.test or {}).get("pearson")
