"""Write results to MLflow: a run's figures, predictions and record, and a suite's table."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from ablation.config.variant_table import VariantTable
from ablation.core.identity import RunKey
from ablation.data.corpus import Corpus
from ablation.runs import comparison
from ablation.tracking import names
from ablation.tracking.long_tags import TAG_LENGTH
from ablation.tracking.names import metric_name
from ablation.tracking.reused import reused_tags
from ablation.tracking.runs import TrackedRun, now
from ablation.tracking.store import Store
from ablation.training.records import RunRecord

if TYPE_CHECKING:
    from ablation.training.train_run import RunResult

#: Longer records are read from their artifacts, with a request for each.
_LONGEST_RECORD: Final = 4 * TAG_LENGTH
#: Metrics of a finished run by the record's field.
_COSTS: Final = {
    "best_epoch": "best/epoch",
    "seconds": "cost/seconds",
    "tokens_per_second": "cost/tokens_per_second",
    "peak_memory_bytes": "cost/peak_memory_bytes",
    "parameters_total": "cost/parameters_total",
    "parameters_trainable": "cost/parameters_trainable",
}


@dataclass(frozen=True)
class RunOutcome:
    """The end of a planned run.

    Attributes:
        key: The run.
        state: "reused" if it had finished before.
        record: Its result; None if it failed.
        run_id: Its MLflow run.
        reason: Why it failed, in one line.
        kept: Where its results wait for an unreachable tracking server, and how to send them.
    """

    key: RunKey
    state: Literal["finished", "reused", "failed"]
    record: RunRecord | None = None
    run_id: str | None = None
    reason: str = ""
    kept: str = ""


def result_metrics(record: RunRecord) -> dict[str, float]:
    """Return the final metrics of a run by name: its scores and its costs."""
    metrics = {metric_name(f"best/dev_{name}"): value for name, value in record.dev.items()}
    metrics |= {metric_name(f"test/{name}"): value for name, value in (record.test or {}).items()}
    costs = {metric: getattr(record, field) for field, metric in _COSTS.items()}
    metrics |= {name: float(value) for name, value in costs.items() if value is not None}
    metrics["train/skipped_contrastive_batches"] = float(record.skipped_contrastive_batches)
    return metrics


def log_result(tracked: TrackedRun, result: "RunResult") -> None:
    """Log figures as metrics of their own names, predictions and the record as artifacts."""
    record = result.record
    tracked.log_metrics(result_metrics(record))
    text = tracked.log_json(names.RECORD_FILE, record.model_dump(mode="json"))
    tracked.log_table(names.DEV_PREDICTIONS, result.dev)
    if result.epochs is not None:
        tracked.log_table(names.EPOCH_PREDICTIONS, result.epochs)
    if result.distances is not None:
        tracked.log_table(names.DISTANCES, result.distances)
    tags: dict[str, object] = {names.COLLAPSED: str(record.collapsed).lower()}
    if len(text) <= _LONGEST_RECORD:
        tags[names.RECORD] = text
    if result.test is not None:
        tracked.log_table(names.TEST_PREDICTIONS, result.test)
        tags[names.TEST_READ] = (
            now() if record.test is not None else "predicted only: no labels were given"
        )
    if record.members:
        tags[names.MEMBERS] = json.dumps(record.members)
    tracked.set_tags(tags)


def settle(
    store: Store, outcomes: Sequence[RunOutcome], say: Callable[[str], None]
) -> list[RunOutcome]:
    """Return the outcomes as the store has them: with its run ids, and with what it has not got.

    Args:
        store: The runs' store, once their suite has ended.
        outcomes: The outcomes as they came.
        say: Called with a line on where unsent results are.
    """
    settled = [
        replace(
            outcome, run_id=store.run_id(outcome.run_id), kept=store.unsynced_note(outcome.run_id)
        )
        if outcome.run_id
        else outcome
        for outcome in outcomes
    ]
    for note in dict.fromkeys(outcome.kept for outcome in settled if outcome.kept):
        say(f"results that the server has not received are {note}")
    return settled


def log_comparison(
    suite: TrackedRun, corpus: Corpus, outcomes: Sequence[RunOutcome], rows: VariantTable
) -> None:
    """Log the comparison table and the list of outcomes, and the table's means as metrics."""
    records = [outcome.record for outcome in outcomes if outcome.record]
    table = comparison.compare(records, rows=rows)
    caption = comparison.caption(records, corpus, rows)
    markdown = comparison.as_markdown(table, with_paper=comparison.prints_for(rows, corpus))
    suite.log_text(f"{names.COMPARISON}.md", f"{caption}\n\n{markdown}")
    suite.log_text(f"{names.COMPARISON}.csv", table.to_csv(index=False))
    suite.log_json(names.OUTCOMES_FILE, as_json(outcomes))
    reused = [outcome.run_id for outcome in outcomes if outcome.state == "reused"]
    suite.set_tags(reused_tags(reused))
    for variant, column, mean in zip(table["variant"], table["column"], table["mean"], strict=True):
        # On the scale of the runs' own metrics, not times 100 as in the table.
        suite.log_metrics({metric_name(f"{column}/{variant}"): mean / 100})


def as_json(outcomes: Sequence[RunOutcome]) -> list[dict[str, str | None]]:
    """Return the outcomes as they are stored: run, state, run_id and reason of each."""
    return [
        {
            "run": str(outcome.key),
            "state": outcome.state,
            "run_id": outcome.run_id,
            "reason": outcome.reason,
        }
        for outcome in outcomes
    ]
