"""Log models to MLflow and its registry, without pickles, and find the files of a logged one."""

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ablation.core.errors import UsageError
from ablation.tracking import names
from ablation.tracking.reading import local_artifacts, read_runs
from ablation.tracking.retry import redacted_line
from ablation.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

#: The alias of the version that is to be used.
CHAMPION: Final = "champion"
#: The variable in which MLflow keeps the store of the moment.
_TRACKING_URI: Final = "MLFLOW_TRACKING_URI"
_MODEL_TYPE: Final = "text regression"
#: The libraries that a served model needs, with the versions that logged it.
_REQUIREMENTS: Final = ("mlflow", "numpy", "pandas", "safetensors", "torch", "transformers")
#: The metric that chooses, and how many runs it chooses from at most.
_DEV: Final = "best/dev_pearson"
_MOST_RUNS: Final = 1000
#: Suites that were interrupted, the newest, whose runs are looked at for missing models.
_INTERRUPTED_SUITES: Final = 10
_EXAMPLES: Final = ("good night my love", "the buses leave at nine")
#: MLflow's name for the exported folder among a model's files.
_ARTIFACT: Final = "model"


@dataclass(frozen=True)
class RegisteredVersion:
    """A version in the model registry, and the logged model that it is."""

    name: str
    version: str
    model_id: str

    @property
    def uri(self) -> str:
        """The address by which MLflow loads the champion."""
        return f"models:/{self.name}@{CHAMPION}"


def log_model(
    store: Store,
    run_id: str,
    name: str,
    folder: Path,
    params: Mapping[str, str],
    *,
    is_pair: bool = False,
) -> str:
    """Log an exported model, or an ensemble, with its weights, as a model of MLflow's pyfunc.

    Args:
        store: A store that has the run.
        run_id: The run that it comes from.
        name: The model's name.
        folder: The exported folder.
        params: What the model's page shows.
        is_pair: Whether it scores pairs of texts.

    Returns:
        The model's id.
    """
    import mlflow
    import pandas as pd
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    run = store.client.get_run(run_id)
    model = store.client.create_logged_model(
        run.info.experiment_id,
        name=_model_name(name),
        source_run_id=run_id,
        params=dict(params),
        model_type=_MODEL_TYPE,
    )
    inputs: list[Any] = [ColSpec("string", "text")]
    examples = {"text": list(_EXAMPLES)}
    if is_pair:
        inputs.append(ColSpec("string", "second_text"))
        examples["second_text"] = list(reversed(_EXAMPLES))
    outputs: list[Any] = [ColSpec("double", "prediction")]
    if (folder / "ensemble.json").is_file():
        outputs.append(ColSpec("double", "spread", required=False))
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "logged"
        with as_file(files("ablation.tracking") / "served_model.py") as code:
            mlflow.pyfunc.save_model(
                target,
                python_model=str(code),
                artifacts={_ARTIFACT: str(folder)},
                signature=ModelSignature(Schema(inputs), Schema(outputs)),
                input_example=pd.DataFrame(examples),
                pip_requirements=[f"{library}=={version(library)}" for library in _REQUIREMENTS],
                mlflow_model=Model(model_id=model.model_id, run_id=run_id),
            )
        _remove_paths(target / "MLmodel")
        store.client.log_model_artifacts(model.model_id, str(target))
    store.client.finalize_logged_model(model.model_id, "READY")
    _link(store, run, model.model_id)
    return str(model.model_id)


def log_external_model(store: Store, run_id: str, name: str, params: Mapping[str, str]) -> str:
    """Log a model whose weights are not kept: a page with its run, its data and its metrics.

    Args:
        store: A store that has the run.
        run_id: The run that it comes from.
        name: The model's name.
        params: What the model's page shows.

    Returns:
        The model's id.
    """
    from mlflow.models.utils import get_external_mlflow_model_spec
    from mlflow.utils.mlflow_tags import MLFLOW_MODEL_IS_EXTERNAL

    run = store.client.get_run(run_id)
    model = store.client.create_logged_model(
        run.info.experiment_id,
        name=_model_name(name),
        source_run_id=run_id,
        tags={MLFLOW_MODEL_IS_EXTERNAL: "true"},
        params=dict(params),
        model_type=_MODEL_TYPE,
    )
    with tempfile.TemporaryDirectory() as scratch:
        get_external_mlflow_model_spec(model).save(str(Path(scratch) / "MLmodel"))
        store.client.log_model_artifacts(model.model_id, scratch)
    store.client.finalize_logged_model(model.model_id, "READY")
    _link(store, run, model.model_id)
    return str(model.model_id)


def interrupted_without_model(store: Store, experiment: str, runs: Set[str]) -> set[str]:
    """Return those of `runs` that a suite trained which was interrupted, and that have no model.

    Takes a request for the suites, and some more only if one of them was interrupted.
    """
    suites = [
        row.run_id
        for row in read_runs(store, experiment, [names.SUITE])
        if row.status in ("KILLED", "FAILED")
    ][-_INTERRUPTED_SUITES:]
    found: set[str] = set()
    for suite in suites:
        condition = f"tags.`{names.PARENT}` = '{suite}' and attributes.status = 'FINISHED'"
        children = store.client.search_runs([experiment], condition, max_results=1000)
        found |= {child.info.run_id for child in children} & runs
    token = None
    while found:
        page = store.client.search_logged_models([experiment], max_results=100, page_token=token)
        found -= {str(model.source_run_id) for model in page}
        token = page.token
        if not token:
            break
    return found


def champion_of(store: Store, name: str) -> tuple[RegisteredVersion, str] | None:
    """Return the champion of a registered model and its run's id; None if there is none."""
    from mlflow.exceptions import MlflowException

    try:
        found = store.client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException:
        return None
    model = str(found.model_id or str(found.source).rpartition("/")[2])
    return RegisteredVersion(name, str(found.version), model), str(found.run_id)


def register_model(store: Store, model_id: str, name: str, description: str) -> RegisteredVersion:
    """Register a logged model as a new version, and give it the alias `champion`.

    Args:
        store: The store of the model.
        model_id: The logged model.
        name: The registered model's name; created if there is none.
        description: Why this model was chosen.

    Raises:
        UsageError: The name can't be used.
    """
    from mlflow.exceptions import MlflowException

    client = store.client
    try:
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        model = client.get_logged_model(model_id)
        with _default_store(store):
            made = client.create_model_version(
                name,
                source=f"models:/{model_id}",
                run_id=model.source_run_id,
                description=description,
                model_id=model_id,
            )
        client.set_registered_model_alias(name, CHAMPION, made.version)
    except MlflowException as error:
        raise UsageError(f"registered model {name!r}: {redacted_line(error)}") from error
    return RegisteredVersion(name, str(made.version), model_id)


@contextmanager
def registered_folder(store: Store, uri: str) -> Iterator[Path]:
    """Yield the exported folder within a registered model.

    Files that are not on this machine are downloaded, and removed after the block.

    Args:
        store: The store with the registry.
        uri: Such as "models:/intimacy@champion", "models:/intimacy/2" or "models:/MODEL_ID".

    Raises:
        UsageError: There is no such model, or MLflow does not have its files.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as scratch:
        try:
            model = store.client.get_logged_model(_logged_model_id(store, uri))
            folder = local_artifacts(model.artifact_location)
            if folder is None:
                # Its address alone would be looked up in the default store.
                with _default_store(store):
                    folder = Path(
                        mlflow.artifacts.download_artifacts(
                            artifact_uri=f"models:/{model.model_id}",
                            dst_path=scratch,
                            tracking_uri=store.uri,
                        )
                    )
        except MlflowException as error:
            raise UsageError(f"model {uri!r}: {redacted_line(error)}") from error
        found = next((folder / "artifacts").glob("*/"), None)
        if found is None:
            raise UsageError(f"model {uri!r}: MLflow does not have its weights")
        yield found


@dataclass(frozen=True)
class RankedRun:
    """A finished run with its score on development rows."""

    run_id: str
    name: str
    tags: Mapping[str, str]
    dev_pearson: float


def rank_runs(store: Store, experiment: str, split: str) -> list[RankedRun]:
    """Return the finished runs of a split, the best first, by pooled Pearson on development rows.

    Only runs with the data and the profile of the newest one are compared.
    """
    condition = (
        f"tags.`{names.KIND}` = '{names.RUN}' and tags.`{names.SPLIT}` = '{split}'"
        " and attributes.status = 'FINISHED'"
    )
    newest_first = ["attributes.start_time DESC"]
    found = store.client.search_runs(
        [experiment], condition, max_results=_MOST_RUNS, order_by=newest_first
    )
    ranked = [
        RankedRun(run.info.run_id, str(run.info.run_name), run.data.tags, run.data.metrics[_DEV])
        for run in reversed(found)  # of equal scores the older run is the first
        if _DEV in run.data.metrics and _group(run) == _group(found[0])
    ]
    return sorted(ranked, key=lambda run: -run.dev_pearson)


def _group(run: "Run") -> tuple[str | None, ...]:
    return tuple(run.data.tags.get(n) for n in (f"{names.IDENTITY_PART}data", names.PROFILE))


@contextmanager
def _default_store(store: Store) -> Iterator[None]:
    """Make MLflow take `store` for its default, where a client does not pass on its own."""
    import mlflow

    before = os.environ.get(_TRACKING_URI)
    mlflow.set_tracking_uri(store.uri)  # sets the variable as well
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]  # as it is at first
        if before is not None:
            os.environ[_TRACKING_URI] = before


def _logged_model_id(store: Store, uri: str) -> str:
    match = re.fullmatch(r"models:/+([^@/]+)(?:@([^@/]+)|/(\d+))?", uri)
    if match is None:
        raise UsageError(f"model {uri!r}: write models:/NAME@{CHAMPION} or models:/NAME/VERSION")
    name, alias, number = match.groups()
    if alias:
        found = store.client.get_model_version_by_alias(name, alias)
    elif number:
        found = store.client.get_model_version(name, number)
    else:
        return str(name)
    return str(found.model_id or str(found.source).rpartition("/")[2])


def _link(store: Store, run: "Run", model_id: str) -> None:
    """Give a model its run's final metrics, and list it as the run's output."""
    from mlflow.entities import LoggedModelOutput, Metric

    run_id = run.info.run_id
    inputs = {
        tag.value: entry.dataset
        for entry in (run.inputs.dataset_inputs if run.inputs else [])
        for tag in entry.tags
        if tag.key == "mlflow.data.context"
    }
    metrics: list[Any] = []
    for point in run.data._metric_objs:
        kind = point.key.partition("/")[0]
        if kind not in _METRIC_DATA:
            continue
        dataset = inputs.get(_METRIC_DATA[kind])
        metrics.append(
            Metric(
                point.key,
                point.value,
                point.timestamp + 1,  # a point that the run has already is not linked
                point.step,
                model_id=model_id,
                dataset_name=dataset.name if dataset else None,
                dataset_digest=dataset.digest if dataset else None,
                run_id=run_id,
            )
        )
    store.client.log_batch(run_id, metrics=metrics)
    store.client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])


#: The kind of a final metric, and the data set that it was computed on.
_METRIC_DATA: Final = {"best": "training", "test": "test"}


def _remove_paths(file: Path) -> None:
    """Leave the name alone of the code's path, which is all that MLflow reads."""
    text = file.read_text("utf-8")
    file.write_text(re.sub(r"(model_code_path: ).*/", r"\1", text), "utf-8")


def _model_name(text: str) -> str:
    """Replace the characters that MLflow forbids in a model's name."""
    return re.sub(r"""[/:.%"'\s]+""", "-", text).strip("-")
