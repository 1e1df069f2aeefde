"""Give runs whose weights are not kept a model's page in MLflow, with their metrics and data."""

from collections.abc import Sequence

from ablation.core.errors import first_line
from ablation.core.identity import RunKey
from ablation.runs.keeping import members_of
from ablation.runs.results import RunOutcome
from ablation.tracking.store import Store
from ablation.tracking.uris import redact_uri
from ablation.training.records import RunRecord


def page_params(key: RunKey, record: RunRecord) -> dict[str, str]:
    """Return what a model's page shows of its run."""
    return {
        "variant": key.variant,
        "split": key.split,
        "seed": str(key.seed),
        "identity": record.identity,
    }


def log_models_without_weights(
    store: Store, experiment: str, outcomes: Sequence[RunOutcome]
) -> str:
    """Log an external model for each run that was trained and whose weights were not kept.

    Kept ones are logged with their weights when they are registered. Of reused runs, those are
    logged that an interrupted suite had trained: it ended before it came to this.

    Args:
        store: The runs' store.
        experiment: The experiment's id.
        outcomes: The outcomes of a suite that has ended, with the store's ids.

    Returns:
        "", or why there are none: no run is lost by it.
    """
    trained = [o for o in outcomes if o.state == "finished" and o.run_id and not o.kept]
    reused = {o.run_id: o for o in outcomes if o.state == "reused" and o.run_id and not o.kept}
    if not trained and not reused:
        return ""
    from ablation.tracking.models import interrupted_without_model, log_external_model

    records = {outcome.key: outcome.record for outcome in outcomes if outcome.record}
    try:
        left = interrupted_without_model(store, experiment, set(reused)) if reused else set()
        for outcome in [*trained, *(reused[run] for run in sorted(left))]:
            record = outcome.record
            if record and outcome.run_id and not _has_weights(outcome.key, record, records):
                params = page_params(outcome.key, record)
                log_external_model(store, outcome.run_id, str(outcome.key), params)
    except Exception as error:  # whatever the store raises, the runs are tracked
        return f"models without weights were not logged: {redact_uri(first_line(error))}"
    return ""


def _has_weights(key: RunKey, record: RunRecord, records: dict[RunKey, RunRecord]) -> bool:
    """Return whether a run's weights are kept; those of an ensemble are its members'."""
    from ablation.models.kept_weights import find_kept

    keys = members_of(key, record.members) if record.members else [key]
    return all(other in records and find_kept(records[other].identity) for other in keys)
