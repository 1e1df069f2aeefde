"""One run as it is carried out: trained, its points tracked, and ended with what is true of it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ablation.config.schema import RunConfig
from ablation.core.identity import RunKey
from ablation.data.corpus import Corpus
from ablation.runs.progress import Progress
from ablation.runs.results import RunOutcome, log_result
from ablation.tracking import names
from ablation.tracking.provenance import environment
from ablation.tracking.runs import TrackedRun, read_json
from ablation.tracking.store import Store
from ablation.training.checkpoints import clear, remove_corrupt
from ablation.training.records import RunRecord

if TYPE_CHECKING:
    from ablation.training.loop import OnTerms
    from ablation.training.train_run import Prepared, Result


def run_and_record(
    tracked: TrackedRun,
    key: RunKey,
    corpus: Corpus,
    progress: Progress,
    checkpoints: Path,
    make: "Callable[[], Result]",
) -> RunOutcome:
    """Make the result of a run that was opened, keep it, and end the run; whatever goes wrong is this run's failure.

    `corpus` is what it is made from; `checkpoints` are the run's own: damaged ones are named and removed,
    and of a run that finished none is left. Ctrl-C and SIGTERM end the run as KILLED and are raised.
    """
    try:
        progress.started(key)
        warn_corrupt(key, checkpoints, progress.say)
        tracked.log_dataset(corpus)
        tracked.log_json(names.ENVIRONMENT_FILE, environment())
        result = make()
        log_result(tracked, result)
    except KeyboardInterrupt as interrupt:
        tracked.fail(interrupt)
        raise
    except Exception as error:  # this run's failure, whatever it is; the others go on
        reason = tracked.fail(error)
        progress.ended(
            key,
            "failed",
            None,
            None,
            note=" · ".join(filter(None, (reason, tracked.unsynced_note))),
        )
        return RunOutcome(key, "failed", None, tracked.run_id, reason, tracked.unsynced_note)
    tracked.end("FINISHED")
    clear(checkpoints)
    note = "collapsed: constant predictions have no Pearson" if result.record.collapsed else ""
    progress.ended(
        key,
        "finished",
        *_headline(result.record),
        note=" · ".join(filter(None, (note, tracked.unsynced_note))),
    )
    return RunOutcome(key, "finished", result.record, tracked.run_id, kept=tracked.unsynced_note)


def train_tracked(
    tracked: TrackedRun,
    config: RunConfig,
    prepared: "Prepared",
    key: RunKey,
    identity: str,
    progress: Progress,
    *,
    on_terms: "OnTerms | None" = None,
    export_to: Path | None = None,
    checkpoints: Path | None = None,
) -> "Result":
    """Train with `config`; its settings and points go to `tracked`, the points as a table of their own too.

    Raises what `train_run` does.
    """
    # Here: with transformers they take seconds, which a plan that has all its runs does without.
    from ablation.runs.reproducer import save_reproducer_on_error
    from ablation.training.loop import Hooks
    from ablation.training.train_run import train_run

    tracked.log_params(config.flat())
    tracked.log_json(names.CONFIG_FILE, config.model_dump(mode="json"))
    curves: list[tuple[int, str, float]] = []

    def on_point(values: Mapping[str, float], step: int) -> None:
        tracked.log_metrics(values, step)
        curves.extend((step, name, value) for name, value in values.items())

    def on_resume(epoch: int) -> None:
        tracked.set_tags({names.RESUMED: epoch})
        progress.resumed(key, epoch)

    hooks = Hooks(
        on_point=on_point,
        on_step=lambda done, total: progress.step(key, done, total),
        on_epoch=lambda epoch, figures: progress.epoch(key, epoch, figures),
        on_terms=on_terms,
        on_resume=on_resume,
    )
    with save_reproducer_on_error(tracked, config, prepared):
        result = train_run(prepared, config, key, identity, hooks, export_to, checkpoints)
    tracked.log_table(names.CURVES, pd.DataFrame(curves, columns=["step", "name", "value"]))
    return result


def warn_corrupt(what: object, checkpoints: Path, say: Callable[[str], None]) -> None:
    """Remove what is damaged or half written of a run's checkpoints, and name it. Only for who has claimed the run."""
    if damaged := remove_corrupt(checkpoints):
        say(f"{what}: damaged or half written, and removed: {', '.join(damaged)}")


def reuse(store: Store, key: RunKey, run_id: str, progress: Progress) -> RunOutcome:
    """The outcome of a run that had finished before."""
    record = RunRecord.model_validate(read_json(store, run_id, names.RECORD_FILE))
    progress.ended(key, "reused", *_headline(record), note=f"run {run_id}")
    return RunOutcome(key, "reused", record, run_id)


def _headline(record: RunRecord) -> tuple[float | None, float | None]:
    """The Pearson on development and on test rows, as far as there are any."""
    return record.dev.get("pearson"), (record.test or {}).get("pearson")
