"""The MLflow run of a study, which its trials' runs are nested under."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from optuna.study import Study

from ablation.core.errors import UsageError
from ablation.tracking import names, provenance
from ablation.tracking.reading import find_run
from ablation.tracking.runs import fail_on_error, reopen_run, start_run
from studies.study import ResolvedSweep

#: The attribute of a study, and of a trial, that holds the id of its MLflow run.
RUN_ID: Final = "mlflow_run_id"


def open_study_run(resolved: ResolvedSweep, study: Study, experiment: str) -> str:
    """Return the id of the study's MLflow run, created or reopened. Needs the study's lock.

    Args:
        resolved: The checked request.
        study: The study, which stores the run's id.
        experiment: The id of the MLflow experiment.

    Raises:
        UsageError: The study's run is in another tracking store.
    """
    run_id = study.user_attrs.get(RUN_ID)
    if run_id is None:
        run_id = _create(resolved, experiment)
        study.set_user_attr(RUN_ID, run_id)
    try:
        find_run(resolved.store, run_id)
    except UsageError as error:
        raise UsageError(f"study {resolved.study_name!r}: its {error}") from error
    reopen_run(resolved.store, run_id)
    return str(run_id)


def study_tags(resolved: ResolvedSweep) -> Mapping[str, object]:
    """Return the tags of the study's run and of its trials'."""
    source = provenance.source()
    return {
        names.PROFILE: resolved.request.profile,
        names.CORPUS: resolved.corpus.name,
        names.SPLIT: ",".join(resolved.splits),
        names.SYNTHETIC: str(resolved.corpus.synthetic).lower(),
        names.REFERENCE: resolved.corpus.reference or "none",
        names.COMMIT: source.commit or "none",
        names.DIRTY: str(source.dirty).lower(),
        f"{names.IDENTITY_PART}data": resolved.corpus.digest,
        names.STUDY_NAME: resolved.study_name,
        names.VARIANT: resolved.space.variant,
    }


def _create(resolved: ResolvedSweep, experiment: str) -> str:
    parent = {names.PARENT: resolved.request.parent} if resolved.request.parent else {}
    tags = {names.KIND: names.STUDY, **study_tags(resolved), **parent}
    run = start_run(resolved.store, experiment, f"study {resolved.study_name}", tags)
    with fail_on_error(run):
        run.log_dataset(replace(resolved.corpus, test=None))  # a study never reads test rows
        run.log_params(
            {
                "study": resolved.study_name,
                "space": resolved.request.space,
                "splits": ",".join(resolved.splits),
            }
        )
        run.log_json(names.ENVIRONMENT_FILE, provenance.environment())
        run.log_json("space.json", resolved.space.model_dump(mode="json"))
    run.end("FINISHED")
    return run.run_id
