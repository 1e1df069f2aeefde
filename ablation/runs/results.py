"""How results are written down: a run's finals, predictions and record, and a suite's table."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ablation.core.identity import RunKey
from ablation.data.corpus import Corpus
from ablation.runs import comparison
from ablation.tracking import names
from ablation.tracking.runs import TrackedRun, now
from ablation.training.records import RunRecord

if TYPE_CHECKING:
    from ablation.training.train_run import Result


@dataclass(frozen=True)
class RunOutcome:
    """How a planned run ended. `record` is None for a failed one, `reason` then says why.

    `kept` says where its results wait for a tracking server that was away, and how to send them.
    """

    key: RunKey
    state: Literal["finished", "reused", "failed"]
    record: RunRecord | None = None
    run_id: str | None = None
    reason: str = ""
    kept: str = ""


def log_result(tracked: TrackedRun, result: "Result") -> None:
    """A run's finals: figures as metrics of their own names, predictions and the record as artifacts."""
    record = result.record
    finals = {f"best/dev_{name}": value for name, value in record.dev.items()}
    finals |= {f"test/{name}": value for name, value in (record.test or {}).items()}
    costs = (
        "best_epoch",
        "seconds",
        "tokens_per_second",
        "peak_memory_bytes",
        "parameters_total",
        "parameters_trainable",
    )
    counts = {
        "best/epoch" if name == "best_epoch" else f"cost/{name}": getattr(record, name)
        for name in costs
    }
    finals |= {name: float(value) for name, value in counts.items() if value is not None}
    tracked.log_metrics(
        finals | {"train/skipped_contrastive_batches": record.skipped_contrastive_batches}
    )
    tracked.log_json(names.RECORD_FILE, record.model_dump(mode="json"))
    tracked.log_table(names.DEV_PREDICTIONS, result.dev)
    if result.distances is not None:
        tracked.log_table(names.DISTANCES, result.distances)
    tags: dict[str, object] = {names.COLLAPSED: str(record.collapsed).lower()}
    if result.test is not None:
        tracked.log_table(names.TEST_PREDICTIONS, result.test)
        tags[names.TEST_READ] = (
            now() if record.test is not None else "predicted only: no labels were given"
        )
    if record.members:
        tags[names.MEMBERS] = json.dumps(record.members)
    tracked.set_tags(tags)


def conclude(suite: TrackedRun, corpus: Corpus, outcomes: Sequence[RunOutcome]) -> None:
    """The comparison table among the suite's artifacts, and its means as the suite's own metrics."""
    records = [o.record for o in outcomes if o.record]
    table = comparison.compare(records)
    synthetic = corpus.synthetic
    caption = comparison.caption(records, synthetic=synthetic)
    suite.log_text(
        f"{names.COMPARISON}.md",
        f"{caption}\n\n{comparison.as_markdown(table, with_paper=not synthetic)}",
    )
    suite.log_text(f"{names.COMPARISON}.csv", table.to_csv(index=False))
    runs = [
        {"run": str(o.key), "state": o.state, "run_id": o.run_id, "reason": o.reason}
        for o in outcomes
    ]
    suite.log_json(names.OUTCOMES_FILE, runs)
    suite.set_tags({names.REUSED: json.dumps([o.run_id for o in outcomes if o.state == "reused"])})
    for variant, column, mean in zip(table["variant"], table["column"], table["mean"], strict=True):
        suite.log_metrics({_metric_name(f"{column}/{variant}"): mean})


def _metric_name(text: str) -> str:
    """`text` with the characters that MLflow's metric names may have."""
    return "".join(c if c.isalnum() or c in "_-./ " else "-" for c in text).strip("-")
