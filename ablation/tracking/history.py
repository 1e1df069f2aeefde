"""The runs that an experiment already holds, as far as a plan needs to know them."""

from collections.abc import Iterator
from dataclasses import dataclass

from ablation.core.identity import RunKey
from ablation.tracking import names
from ablation.tracking.reading import has_all_artifacts, read_runs, row_of
from ablation.tracking.store import Store
from ablation.tracking.tables import RunRow


@dataclass(frozen=True)
class PastRun:
    """A run of an experiment; `parts` are the digests that its identity was made of."""

    run_id: str
    key: RunKey
    status: str
    identity: str
    parts: dict[str, str]
    params: dict[str, str]
    reason: str | None
    manifest: str | None
    profile: str | None


def past_runs(store: Store, experiment: str, kind: str = names.RUN) -> list[PastRun]:
    """All runs of the experiment that belong to an ablation (or are of another kind), newest first."""
    return [_past_run(run) for run in reversed(read_runs(store, experiment, [kind]))]


def finished_run(
    store: Store, experiment: str, identity: str, kind: str = names.RUN
) -> PastRun | None:
    """The newest finished run of that identity; None where there is none, or where the store does not answer."""
    from mlflow.exceptions import MlflowException

    wanted = f"tags.`{names.KIND}` = '{kind}' and tags.`{names.IDENTITY}` = '{identity}' and attributes.status = 'FINISHED'"
    try:
        found = store.client.search_runs(
            [experiment], wanted, max_results=1, order_by=["attributes.start_time DESC"]
        )
    except MlflowException:
        return None
    return _past_run(row_of(found[0])) if found else None


def unwhole_runs(store: Store, experiment: str) -> Iterator[tuple[str, RunKey]]:
    """Ids and keys of the finished runs whose artifacts are not all there with their sizes."""
    for past in past_runs(store, experiment):
        if past.status == "FINISHED" and not has_all_artifacts(store, past.run_id, past.manifest):
            yield past.run_id, past.key


def _past_run(run: RunRow) -> PastRun:
    tags = run.tags
    return PastRun(
        run_id=run.run_id,
        key=RunKey(tags[names.VARIANT], tags[names.SPLIT], int(tags[names.SEED])),
        status=run.status,
        identity=tags.get(names.IDENTITY, ""),
        parts={
            name.removeprefix(names.IDENTITY_PART): v
            for name, v in tags.items()
            if name.startswith(names.IDENTITY_PART)
        },
        params=dict(run.params),
        reason=tags.get(names.REASON),
        manifest=tags.get(names.MANIFEST),
        profile=tags.get(names.PROFILE),
    )
