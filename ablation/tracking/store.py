"""Opening a tracking store: where it is, that it exists whole, and which experiment is used."""

import os
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from filelock import FileLock

from ablation.core.errors import UsageError
from ablation.tracking import tables
from ablation.tracking.retry import is_remote, retry_until_available, without_credentials
from ablation.tracking.retry import without_password as without_password
from ablation.tracking.tables import SQLITE as _SQLITE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Metric, Param, RunTag

    from ablation.tracking.delivery import Delivery

_IMPATIENT: Final = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


class Writer(Protocol):
    """What runs are written with, as MlflowClient has it."""

    def log_batch(
        self,
        run_id: str,
        metrics: "Sequence[Metric]" = (),
        params: "Sequence[Param]" = (),
        tags: "Sequence[RunTag]" = (),
    ) -> Any: ...

    def log_inputs(self, run_id: str, datasets: "Sequence[DatasetInput]") -> None: ...

    def log_artifact(
        self, run_id: str, local_path: str, artifact_path: str | None = None
    ) -> None: ...

    def set_terminated(self, run_id: str, status: str) -> None: ...


class Store:
    """A tracking store that answers. `uri` is absolute, so it means the same from every folder.

    What is behind a server is written through a `delivery`, since a server can go away; `client` is
    for reading, and for what has to be there at once. A SQLite file gets its client, and a new one its
    tables, when they are first needed: MLflow takes seconds for both, and a plan does without.
    """

    def __init__(
        self, uri: str, client: "MlflowClient | None" = None, delivery: "Delivery | None" = None
    ) -> None:
        self.uri = uri
        self.delivery = delivery
        #: Where the artifacts of runs are that were read from a SQLite file's tables, by run id.
        self.artifact_uris: dict[str, str] = {}
        self._client = client

    @cached_property
    def client(self) -> "MlflowClient":
        """Raises UsageError if a SQLite store's tables can't be made."""
        return self._client or _client_of_sqlite(self.uri)

    @property
    def writer(self) -> Writer:
        return self.delivery or self.client

    def run_id(self, run: str) -> str:
        """The store's id of a run that may have been made while the server was away."""
        return self.delivery.run_id(run) if self.delivery else run


def open_store(uri: str | None = None) -> Store:
    """The store at `uri`, else at `$MLFLOW_TRACKING_URI`, else `mlflow.db` in the current folder.

    Raises UsageError if the store can't be used.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}mlflow.db"
    try:
        uri = absolute_uri(uri)
        require_sqlite_of("experiments", uri)
        if uri.startswith(_SQLITE):
            _lock_of(uri)
            with tables.opened(uri) as connection:
                usable = connection is not None or not _has_content(uri)
            return Store(uri, None if usable else _client_of_sqlite(uri))
        client = _answering_client(uri)
    except UsageError:
        raise
    except Exception as error:  # MLflow, SQLAlchemy and a missing driver raise a dozen kinds
        raise _unusable(uri, error) from error
    if not is_remote(uri):
        return Store(uri, client)
    from ablation.tracking.delivery import Delivery
    from ablation.tracking.spool import Spool

    return Store(uri, client, Delivery(client, Spool(without_credentials(uri))))


def absolute_uri(uri: str) -> str:
    """`uri` with a relative SQLite path or folder made absolute."""
    if uri.startswith(_SQLITE):
        path = uri.removeprefix(_SQLITE)
        return (
            _SQLITE + str(Path(path).expanduser().resolve())
            if path not in ("", ":memory:")
            else uri
        )
    return (
        uri
        if "://" in uri or uri.startswith("databricks")
        else str(Path(uri).expanduser().resolve())
    )


def require_sqlite_of(table: str, url: str) -> None:
    """Raise ValueError for an SQLite file that holds something else: MLflow and Optuna would put their tables beside it."""
    file = Path(url.removeprefix(_SQLITE).partition("?")[0])
    if not url.startswith(_SQLITE) or not file.is_file() or not file.stat().st_size:
        return
    try:
        with closing(tables.connected(file)) as connection:
            found = sorted(
                str(name)
                for (name,) in connection.execute(
                    "select name from sqlite_master where type = 'table'"
                )
            )
    except sqlite3.DatabaseError as error:
        raise ValueError(f"{error}; give another file") from error
    if found and table not in found:
        raise ValueError(
            f"it is a database of something else (tables {', '.join(found)[:60]}); give another file"
        )


def experiment_id(store: Store, name: str) -> str:
    """The experiment called `name`, made if it is not there; artifacts beside a local store.

    Raises UsageError for a deleted experiment or one that can't be made.
    """
    from mlflow.exceptions import MlflowException

    try:
        found = retry_until_available(lambda: store.client.get_experiment_by_name(name), store.uri)
        if found is None:
            return store.client.create_experiment(
                name, artifact_location=_artifact_location(store, name)
            )
    except MlflowException as error:
        again = store.client.get_experiment_by_name(
            name
        )  # another process may have made it meanwhile
        if again is None:
            raise UsageError(f"experiment {name!r}: {_first_line(error)}") from error
        found = again
    if found.lifecycle_stage != "active":
        raise UsageError(
            f"experiment {name!r} was deleted: restore it in the MLflow UI or take another --experiment"
        )
    return str(found.experiment_id)


def find_experiment(store: Store, name: str) -> str | None:
    """The id of the experiment called `name`, None where there is none."""
    if store.uri.startswith(_SQLITE) and not _has_content(store.uri):
        return None
    with tables.opened(store.uri) as connection:
        if connection is not None:
            return tables.experiment_named(connection, name)
    found = store.client.get_experiment_by_name(name)
    return None if found is None else str(found.experiment_id)


def experiment_name(store: Store, experiment: str) -> str | None:
    """What the experiment of this id is called; None where there is none."""
    with tables.opened(store.uri) as connection:
        if connection is not None:
            return tables.name_of(connection, experiment)
    from mlflow.exceptions import MlflowException

    try:
        return str(store.client.get_experiment(experiment).name)
    except MlflowException:
        return None


def _artifact_location(store: Store, name: str) -> str | None:
    if not store.uri.startswith(_SQLITE):
        return None  # the server decides
    slug = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40] or "experiment"
    return (Path(store.uri.removeprefix(_SQLITE)).parent / "mlruns" / slug).as_uri()


def _client_of_sqlite(uri: str) -> "MlflowClient":
    """The client of a SQLite store. A new one's tables are made by one process at a time: several at once break it."""
    try:
        with FileLock(
            _lock_of(uri)
        ):  # the handle is made under the lock too: it upgrades the tables of a new store
            return _answering_client(uri)
    except Exception as error:  # MLflow, SQLAlchemy and alembic raise a dozen kinds
        raise _unusable(uri, error) from error


def _lock_of(uri: str) -> Path:
    file = Path(uri.removeprefix(_SQLITE))
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = file.with_name(f".{file.name}.lock")
    lock.touch()  # raises where nobody may write; FileLock would wait for ever
    return lock


def _has_content(uri: str) -> bool:
    file = tables.file_of(uri)
    return file is None or (file.is_file() and file.stat().st_size > 0)


def _unusable(uri: str, error: Exception) -> UsageError:
    return UsageError(
        f"tracking store {without_password(uri)}: can't be used: {_first_line(error)}"
    )


def _answering_client(uri: str) -> "MlflowClient":
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    # A server that is not there is said at once; MLflow's own patience (minutes) is for one that goes away meanwhile.
    unset = {name: value for name, value in _IMPATIENT.items() if name not in os.environ}
    os.environ.update(unset)
    try:
        client.search_experiments(max_results=1)
    finally:
        for name in unset:
            del os.environ[name]
    return client


def _first_line(error: Exception) -> str:
    return (without_password(str(error)).strip().splitlines() or [type(error).__name__])[0][:200]
