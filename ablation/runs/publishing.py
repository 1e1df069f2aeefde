"""Find the exported folder of a model by what a user calls it, to publish it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ablation.runs.model_source import find_model, run_id_of, unknown_model
from ablation.tracking import names
from ablation.tracking.reading import read_json
from ablation.tracking.store import open_store


@contextmanager
def exported_folder(source: str, tracking_uri: str | None = None) -> Iterator[Path]:
    """Yield the folder of a model with its card: a run's is exported for the block.

    Args:
        source: A folder, the id of a finished run whose weights were kept, "runs:/ID", or
            "models:/...".
        tracking_uri: The MLflow store of a run or a registered model.

    Raises:
        UsageError: There is no such model, or its weights were not kept.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        yield folder
    elif source.startswith("models:/"):
        from ablation.tracking.models import registered_folder

        with registered_folder(open_store(tracking_uri), source) as found:
            yield found
    elif run := run_id_of(source):
        from ablation.runs.exporting import write_export
        from ablation.training.records import RunRecord

        store = open_store(tracking_uri)
        model = find_model(store, run)
        record = RunRecord.model_validate(read_json(store, run, names.RECORD_FILE))
        with tempfile.TemporaryDirectory() as scratch:
            target = Path(scratch) / "model"
            write_export(target, model, record, store, run)
            yield target
    else:
        raise unknown_model(source)
