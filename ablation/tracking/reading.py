"""What a store holds, read back: its runs, and a run's artifacts. Files of a local store are read where they lie."""

import io
import json
import tempfile
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pandas as pd

from ablation.tracking import names, tables
from ablation.tracking.retry import retry_until_available
from ablation.tracking.store import Store
from ablation.tracking.tables import RunRow

if TYPE_CHECKING:
    from mlflow.entities import Run

#: MLflow's servers give at most this many runs at a time.
_A_PAGE = 1000


def read_runs(store: Store, experiment: str, kinds: Collection[str]) -> list[RunRow]:
    """The experiment's runs of these kinds (`names.KIND`), oldest first. Raises RunError if a server is away."""
    with tables.opened(store.uri) as connection:
        if connection is not None:
            rows = tables.runs_of(connection, experiment, (names.KIND, kinds))
            store.artifact_uris |= {row.run_id: row.artifact_uri for row in rows}
            return rows
    found: list[RunRow] = []
    token: str | None = None
    while True:
        wanted = (
            f"tags.`{names.KIND}` = '{next(iter(kinds))}'" if len(kinds) == 1 else ""
        )  # of tags, MLflow knows no "in"
        ask = partial(
            store.client.search_runs,
            [experiment],
            wanted,
            max_results=_A_PAGE,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        page = retry_until_available(ask, store.uri)
        found += [row_of(run) for run in page if run.data.tags.get(names.KIND) in kinds]
        token = page.token
        if not token:
            return found


def local_artifacts(uri: str) -> Path | None:
    """The folder of artifacts at `uri` if it is one of this machine."""
    where = urlsplit(uri)
    return Path(unquote(where.path)) if where.scheme in ("", "file") and where.path else None


def read_frame(store: Store, run_id: str, path: str) -> pd.DataFrame:
    """The Parquet artifact `path` of a run. Raises RunError if a server is away."""
    return pd.read_parquet(io.BytesIO(_read(store, run_id, path)))


def read_json(store: Store, run_id: str, path: str) -> Any:
    """The JSON artifact `path` of a run. Raises RunError if a server is away."""
    return json.loads(_read(store, run_id, path))


def has_all_artifacts(store: Store, run_id: str, manifest: str | None) -> bool:
    """Whether every artifact of the run's manifest is there with its size. Raises RunError if a server is away."""
    if not manifest:
        return False
    expected: dict[str, int] = json.loads(manifest)
    folder = _folder(store, run_id)
    if folder is not None:
        return all(_size(folder / path) == size for path, size in expected.items())
    from mlflow.exceptions import MlflowException

    found: dict[str, int | None] = {}
    try:
        for name in {path.rpartition("/")[0] for path in expected}:
            listed = retry_until_available(
                partial(store.client.list_artifacts, run_id, name or None), store.uri
            )
            found |= {f.path: f.file_size for f in listed if not f.is_dir}
    except (MlflowException, OSError):
        return False
    return all(found.get(path) == size for path, size in expected.items())


def _read(store: Store, run_id: str, path: str) -> bytes:
    """An artifact's bytes, also of one that is still on its way to the server."""
    if store.delivery and (waiting := store.delivery.artifact(run_id, path)) is not None:
        return waiting
    if (folder := _folder(store, run_id)) is not None:
        return (folder / path).read_bytes()
    with tempfile.TemporaryDirectory() as scratch:
        download = store.client.download_artifacts
        return Path(
            retry_until_available(lambda: download(store.run_id(run_id), path, scratch), store.uri)
        ).read_bytes()


def _folder(store: Store, run_id: str) -> Path | None:
    """Where a run's artifacts lie, if the store and they are on this machine."""
    if run_id not in store.artifact_uris:
        with tables.opened(store.uri) as connection:
            uri = None if connection is None else tables.artifact_uri(connection, run_id)
        if uri is None:
            return None
        store.artifact_uris[run_id] = uri
    return local_artifacts(store.artifact_uris[run_id])


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size if file.is_file() else None
    except OSError:
        return None


def row_of(run: "Run") -> RunRow:
    """A run as MLflow's client gives it."""
    info, data = run.info, run.data
    return RunRow(
        info.run_id,
        info.status,
        info.start_time,
        info.artifact_uri,
        dict(data.tags),
        dict(data.params),
    )
