"""Hold a run as a store has it, whether it came from MLflow's client or from a server's JSON."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ablation.tracking.long_tags import join_tags

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass(frozen=True)
class RunRow:
    """A run as a store has it. `start_time` is in milliseconds since 1970."""

    run_id: str
    status: str
    start_time: int
    artifact_uri: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float] = field(default_factory=dict)


def to_row(run: "Run") -> RunRow:
    """Convert a run of MLflow's client."""
    info, data = run.info, run.data
    return RunRow(
        run_id=info.run_id,
        status=info.status,
        start_time=info.start_time,
        artifact_uri=info.artifact_uri,
        tags=join_tags(data.tags),
        params=dict(data.params),
        metrics=dict(data.metrics),
    )


def row_of_json(run: Mapping[str, Any]) -> RunRow:
    """Convert a run as MLflow's REST API writes it.

    Numbers may be texts, as JSON knows neither NaN nor integers of 64 bits. Empty lists are left
    out.
    """
    info, data = run["info"], run.get("data", {})
    return RunRow(
        run_id=info["run_id"],
        status=info["status"],
        start_time=int(info["start_time"]),
        artifact_uri=info.get("artifact_uri", ""),
        tags=join_tags(_by_key(data.get("tags", ()))),
        params=_by_key(data.get("params", ())),
        metrics={item["key"]: float(item["value"]) for item in data.get("metrics", ())},
    )


def _by_key(items: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return {item["key"]: item.get("value", "") for item in items}
