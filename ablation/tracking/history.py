"""Read what a plan needs to know of the runs that an experiment already holds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ablation.core.identity import RunKey
from ablation.tracking import names
from ablation.tracking.damage import tag_problem
from ablation.tracking.reading import has_all_artifacts, read_run, read_runs
from ablation.tracking.rows import RunRow
from ablation.tracking.store import Store


@dataclass(frozen=True)
class PastRun:
    """A run of an experiment.

    `parts` are the digests that its identity was computed from; `train_data` is that of the rows it
    was trained and selected on, "" if it is not known.
    """

    run_id: str
    key: RunKey
    status: str
    identity: str
    parts: dict[str, str]
    params: dict[str, str]
    reason: str | None
    manifest: str | None
    profile: str | None
    train_data: str = ""


@dataclass(frozen=True)
class PastRuns:
    """The runs of an experiment that a plan knows of.

    Attributes:
        runs: Those that can be read, newest first.
        unreadable: A line for each whose tags were edited so that they can't be read.
    """

    runs: Sequence[PastRun] = ()
    unreadable: Sequence[str] = ()


def past_runs(store: Store, experiment: str, kind: str = names.RUN) -> PastRuns:
    """Return all runs of this kind in the experiment."""
    rows = read_runs(store, experiment, [kind])
    rows.reverse()
    problems = {row.run_id: tag_problem(row.tags) for row in rows}
    return PastRuns(
        [_past_run(row) for row in rows if not problems[row.run_id]],
        [
            f"run {run_id}: {problem}; it is left out: set the tag right in the MLflow UI, or"
            " delete the run"
            for run_id, problem in problems.items()
            if problem
        ],
    )


def finished_run(
    store: Store, experiment: str, identity: str, kind: str = names.RUN
) -> PastRun | None:
    """Return the newest finished run with this identity.

    Returns None if there is none, and if the store does not answer: training again is safe.
    """
    from mlflow.exceptions import MlflowException

    condition = (
        f"tags.`{names.KIND}` = '{kind}' and tags.`{names.IDENTITY}` = '{identity}'"
        " and attributes.status = 'FINISHED'"
    )
    try:
        runs = store.client.search_runs(
            [experiment], condition, max_results=1, order_by=["attributes.start_time DESC"]
        )
    except MlflowException:
        return None
    row = read_run(store, runs[0]) if runs else None
    return None if row is None or tag_problem(row.tags) else _past_run(row)


def incomplete_runs(store: Store, past: PastRuns) -> Iterator[tuple[str, RunKey]]:
    """Yield ids and keys of the finished runs that miss an artifact of their manifest."""
    for run in past.runs:
        if run.status == "FINISHED" and not has_all_artifacts(store, run.run_id, run.manifest):
            yield run.run_id, run.key


def _past_run(run: RunRow) -> PastRun:
    tags, prefix = run.tags, names.IDENTITY_PART
    return PastRun(
        run_id=run.run_id,
        key=RunKey(tags[names.VARIANT], tags[names.SPLIT], int(tags[names.SEED])),
        status=run.status,
        identity=tags.get(names.IDENTITY, ""),
        parts={
            name.removeprefix(prefix): digest
            for name, digest in tags.items()
            if name.startswith(prefix)
        },
        params=dict(run.params),
        reason=tags.get(names.REASON),
        manifest=tags.get(names.MANIFEST),
        profile=tags.get(names.PROFILE),
        train_data=tags.get(names.TRAIN_DATA, ""),
    )
