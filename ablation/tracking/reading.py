"""Read runs and their artifacts back from a store. Local artifacts are read in place."""

import io
import json
import tempfile
from collections.abc import Collection
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pandas as pd

from ablation.core.errors import UsageError
from ablation.core.garbage import collector_paused
from ablation.tracking import names
from ablation.tracking.damage import (
    DamagedRunError,
    artifact_digest,
    check_artifact,
    digests_of,
    is_manifest,
)
from ablation.tracking.pages import runs_of_kind
from ablation.tracking.retry import retry_until_available
from ablation.tracking.rows import RunRow, to_row
from ablation.tracking.store import ARTIFACTS, Store
from ablation.tracking.uris import is_remote, sqlite_file

if TYPE_CHECKING:
    from mlflow.entities import Run


def read_runs(store: Store, experiment: str, kinds: Collection[str]) -> list[RunRow]:
    """Return the experiment's runs of these kinds (`names.KIND`), oldest first.

    Takes one request per 1,000 runs and kind, and some 20 for 2,000 on a server. Deleted runs are
    left out.

    Raises:
        RunError: The server is unreachable.
    """
    with collector_paused():
        rows = [row for kind in kinds for row in runs_of_kind(store, experiment, kind)]
        for row in rows:
            _remember(store, row)
    rows.sort(key=lambda row: (row.start_time, row.run_id))
    if rows:
        newest = store.newest_start.get(experiment, 0)
        store.newest_start[experiment] = max(newest, rows[-1].start_time)
    return rows


def read_run(store: Store, run: "Run") -> RunRow:
    """Convert a run of MLflow's client, and remember where its artifacts are."""
    row = to_row(run)
    _remember(store, row)
    return row


def _remember(store: Store, row: RunRow) -> None:
    store.artifact_uris[row.run_id] = _where_it_is_now(store, row)
    if record := row.tags.get(names.RECORD):
        store.records[row.run_id] = record
    with suppress(ValueError):  # of a tag that was edited, `tag_problem` tells
        store.digests[row.run_id] = digests_of(row.tags)


def _where_it_is_now(store: Store, row: RunRow) -> str:
    """Return the place of a run's artifacts, also in a store that was moved or copied with them."""
    file, folder = sqlite_file(store.uri), local_artifacts(row.artifact_uri)
    if file is None or folder is None or folder.is_relative_to(file.parent):
        return row.artifact_uri
    here = file.parent.joinpath(ARTIFACTS, *folder.parts[-3:])  # experiment, run, "artifacts"
    return here.as_uri() if here.is_dir() else row.artifact_uri


def find_run(store: Store, run_id: str) -> RunRow:
    """Return the run with this id. Raises UsageError if the store has none."""
    from mlflow.exceptions import MlflowException

    try:
        return to_row(retry_until_available(lambda: store.client.get_run(run_id), store.uri))
    except MlflowException as error:
        raise UsageError(
            f"run {run_id}: not in this tracking store; give another with --tracking-uri"
        ) from error


@cache
def local_artifacts(uri: str) -> Path | None:
    """Return the folder of the artifacts at `uri`; None if they are not on this machine."""
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") and parts.path else None


def read_frame(store: Store, run_id: str, path: str) -> pd.DataFrame:
    """Read the Parquet artifact `path` of a run.

    Raises:
        RunError: The server is unreachable.
        DamagedRunError: The artifact is lost or was changed.
    """
    content = _read(store, run_id, path)
    try:
        return pd.read_parquet(io.BytesIO(content))
    except (ValueError, OSError) as error:  # ArrowInvalid is a ValueError
        raise DamagedRunError(run_id, f"its artifact {path} is no Parquet file") from error


def read_json(store: Store, run_id: str, path: str) -> Any:
    """Read the JSON artifact `path` of a run. Raises as `read_frame` does."""
    content = _read(store, run_id, path)
    try:
        return json.loads(content)
    except ValueError as error:
        raise DamagedRunError(run_id, f"its artifact {path} is no JSON file") from error


def read_record(store: Store, run_id: str) -> Any:
    """Read the record of a run: from its tag, else from its artifact. Raises as `read_frame` does.

    Local artifacts come first: they are read in no time, and they are what reports read.
    """
    record = store.records.get(run_id)
    if record is None or _local_folder(store, run_id) is not None:
        return read_json(store, run_id, names.RECORD_FILE)
    digests = store.digests.get(run_id, {})
    return json.loads(check_artifact(run_id, names.RECORD_FILE, record.encode(), digests))


def may_be_reused(store: Store, run_id: str, manifest: str | None) -> bool:
    """Return whether a finished run can be planned with.

    Local artifacts are looked at. For a server's that would take requests for each run: there a run
    that ended with a manifest counts, and what was lost since is found when it is read.
    """
    if is_remote(store.uri) and _local_folder(store, run_id) is None:
        return bool(manifest) and is_manifest(manifest or "")
    return has_all_artifacts(store, run_id, manifest)


def has_all_artifacts(store: Store, run_id: str, manifest: str | None) -> bool:
    """Return whether every artifact of a run's manifest is there with its size.

    Local ones must also have the bytes that the run wrote. Those behind a server are compared when
    they are read: that takes a request for each.

    Args:
        store: The run's store.
        run_id: The run; local artifacts of one that `read_runs` returned need no request.
        manifest: The run's tag `names.MANIFEST`; without one the run is incomplete.

    Raises:
        RunError: The server is unreachable.
    """
    if not manifest or not is_manifest(manifest):
        return False
    expected: dict[str, int] = json.loads(manifest)
    folder = _local_folder(store, run_id)
    if folder is not None:
        digests = store.digests.get(run_id, {})
        return all(_size(folder / path) == size for path, size in expected.items()) and all(
            artifact_digest((folder / path).read_bytes()) == digest
            for path, digest in digests.items()
        )
    from mlflow.exceptions import MlflowException

    sizes: dict[str, int | None] = {}
    try:
        for name in {path.rpartition("/")[0] for path in expected}:
            files = retry_until_available(
                partial(store.client.list_artifacts, run_id, name or None), store.uri
            )
            sizes |= {file.path: file.file_size for file in files if not file.is_dir}
    except (MlflowException, OSError):
        return False
    return all(sizes.get(path) == size for path, size in expected.items())


def _read(store: Store, run_id: str, path: str) -> bytes:
    """Return an artifact's bytes, including one that has not reached the server yet."""
    content = _stored_bytes(store, run_id, path)
    return check_artifact(run_id, path, content, store.digests.get(run_id, {}))


def _stored_bytes(store: Store, run_id: str, path: str) -> bytes:
    if store.delivery and (queued := store.delivery.artifact(run_id, path)) is not None:
        return queued
    if (folder := _local_folder(store, run_id)) is not None:
        try:
            return (folder / path).read_bytes()
        except OSError as error:
            problem = f"its artifact {path} can't be read: {error.strerror}"
            raise DamagedRunError(run_id, problem) from error
    with tempfile.TemporaryDirectory() as scratch:
        download = partial(store.client.download_artifacts, store.run_id(run_id), path, scratch)
        return Path(retry_until_available(download, store.uri)).read_bytes()


def _local_folder(store: Store, run_id: str) -> Path | None:
    """Return the folder of a run's artifacts, if it was read before and they are local."""
    uri = store.artifact_uris.get(run_id)
    return None if uri is None else local_artifacts(uri)


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size if file.is_file() else None
    except OSError:
        return None
