"""Open a tracking store: find it, check that it is usable, and choose the experiment in it."""

import logging
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from ablation.core.errors import UsageError
from ablation.core.locks import require_locks
from ablation.core.slugs import slug
from ablation.tracking.retry import describe_unusable, redacted_line, retry_until_available
from ablation.tracking.uris import (
    SCHEMES,
    SQLITE,
    absolute_uri,
    address_problem,
    is_folder,
    is_remote,
    redact_uri,
    sqlite_file,
    strip_credentials,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Experiment, Metric, Param, RunTag

    from ablation.tracking.delivery import Delivery


#: The folder beside a SQLite store with one folder of artifacts for each experiment.
ARTIFACTS: Final = "mlruns"


class Writer(Protocol):
    """The methods of MlflowClient that runs are written with."""

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
    """A tracking store.

    A store behind a server is written through a `delivery`, because a server can become
    unreachable. `client` reads, and writes what must be there at once. A new SQLite store gets its
    client and its tables when they are first needed: a plan does without both, and MLflow takes
    seconds for them.
    """

    def __init__(
        self, uri: str, client: "MlflowClient | None" = None, delivery: "Delivery | None" = None
    ) -> None:
        """Use the store at `uri`, which must mean the same from every folder."""
        self.uri = uri
        self.delivery = delivery
        #: Where the artifacts of the runs are that were read so far, by run id.
        self.artifact_uris: dict[str, str] = {}
        #: Digests of their artifacts by path, by run id.
        self.digests: dict[str, Mapping[str, str]] = {}
        #: When the newest run started that was read, in ms since 1970, by experiment.
        self.newest_start: dict[str, int] = {}
        #: Texts of their records, by run id.
        self.records: dict[str, str] = {}
        self._client = client

    @cached_property
    def client(self) -> "MlflowClient":
        """Return the client. Raises UsageError if a SQLite store's tables can't be created."""
        return self._client or _sqlite_client(self.uri)

    @property
    def writer(self) -> Writer:
        return self.delivery or self.client

    @property
    def is_new(self) -> bool:
        """Return whether this is a SQLite store whose file does not exist yet or is empty."""
        file = sqlite_file(self.uri)
        return file is not None and not (file.is_file() and file.stat().st_size)

    def run_id(self, run: str) -> str:
        """Return the store's id of a run that may have been created while the server was down."""
        return self.delivery.run_id(run) if self.delivery else run

    def unsynced_note(self, run: str) -> str:
        """Say where a run's unsent writes are and how to send them; empty if there are none."""
        return self.delivery.unsynced_note(run) if self.delivery else ""


def open_store(uri: str | None = None) -> Store:
    """Open the store at `uri`, else `$MLFLOW_TRACKING_URI`, else `mlflow.db` in this folder.

    Raises:
        UsageError: The store can't be used.
    """
    given = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}mlflow.db"
    uri = given
    try:
        uri = absolute_uri(given)
        refuse_foreign_sqlite("experiments", uri)
        if uri.startswith("sqlite:") and sqlite_file(uri) is None:
            _refuse_form(given)
            raise UsageError(
                f"tracking store {uri}: is in memory, where nothing is kept: give a file, such as"
                " sqlite:///mlflow.db"
            )
        if uri.startswith(SQLITE):
            _lock_file(uri)
            store = Store(uri)
            return store if store.is_new else Store(uri, _sqlite_client(uri))
        client = _checked_client(uri)
    except UsageError:
        raise
    except Exception as error:  # MLflow, SQLAlchemy and a missing driver raise a dozen types
        # Only now: MLflow's plug-ins may know further kinds.
        _refuse_form(given)
        if is_folder(uri):
            raise UsageError(
                f"tracking store {uri}: MLflow no longer writes to a folder of files: give a"
                " database, such as sqlite:///mlflow.db; `mlflow migrate-filestore` copies into one"
            ) from error
        raise _unusable(uri, error) from error
    if not is_remote(uri):
        return Store(uri, client)
    from ablation.tracking.delivery import Delivery
    from ablation.tracking.spool import Spool

    return Store(uri, client, Delivery(client, Spool(strip_credentials(uri))))


def _refuse_form(uri: str) -> None:
    if problem := address_problem(uri, SCHEMES):
        raise UsageError(f"tracking store {redact_uri(uri)}: {problem}")


def refuse_foreign_sqlite(table: str, url: str) -> None:
    """Raise ValueError for a SQLite file that holds other tables but not `table`.

    MLflow and Optuna would add their own tables to it. Every other `url`, and a file that does not
    exist or is empty, is accepted.
    """
    file = sqlite_file(url)
    if file is None or not file.is_file() or not file.stat().st_size:
        return
    try:
        # Not read-only: SQLite must roll back what a killed process left half-written.
        uri = f"{file.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, timeout=60)) as connection:
            rows = connection.execute("select name from sqlite_master where type = 'table'")
            tables = sorted(str(name) for (name,) in rows)
    except sqlite3.DatabaseError as error:
        raise ValueError(f"{error}; give another file") from error
    if tables and table not in tables:
        raise ValueError(
            f"it is a database of something else (tables {', '.join(tables)[:60]}); "
            "give another file"
        )


def experiment_id(store: Store, name: str) -> str:
    """Return the id of the experiment `name`, creating it if needed.

    The artifacts of a local store go into a folder beside it.

    Raises:
        UsageError: The experiment was deleted or can't be created, or its name has outer spaces,
            which would put its files into another one's folder.
    """
    from mlflow.exceptions import MlflowException

    if name != name.strip():
        raise UsageError(f"experiment {name!r}: give its name without spaces around it")

    try:
        experiment = retry_until_available(
            lambda: store.client.get_experiment_by_name(name), store.uri
        )
        if experiment is None:
            location = _artifact_location(store, name)
            return store.client.create_experiment(name, artifact_location=location)
    except MlflowException as error:
        # Another process may have created it in the meantime.
        experiment = store.client.get_experiment_by_name(name)
        if experiment is None:
            raise UsageError(f"experiment {name!r}: {redacted_line(error)}") from error
    _refuse_moved(store, experiment)
    return _active_id(experiment)


def _refuse_moved(store: Store, experiment: "Experiment") -> None:
    """Raise UsageError if the artifacts of new runs would go where the store was before."""
    location = _artifact_location(store, experiment.name)
    stored = str(experiment.artifact_location)
    if location is None or stored == location or not _is_ours(stored, location):
        return
    raise UsageError(
        f"experiment {experiment.name!r}: its store was moved or copied, and new artifacts would go"
        f" to {unquote(urlsplit(stored).path)}; move it back, or give another --experiment"
        " (reports read it as it is)"
    )


def _is_ours(stored: str, location: str) -> bool:
    """Return whether `stored` is a place beside a store, as this suite chooses it."""
    tail = "/".join(location.split("/")[-2:])
    return stored.startswith("file:") and stored.endswith(f"/{tail}")


def find_experiment(store: Store, name: str) -> str | None:
    """Return the id of the experiment `name`; None if there is none.

    Raises UsageError if it was deleted.
    """
    if store.is_new:
        return None
    experiment = retry_until_available(lambda: store.client.get_experiment_by_name(name), store.uri)
    return None if experiment is None else _active_id(experiment)


def _active_id(experiment: "Experiment") -> str:
    if experiment.lifecycle_stage != "active":
        raise UsageError(
            f"experiment {experiment.name!r} was deleted: restore it with `mlflow experiments"
            f" restore -x {experiment.experiment_id}`, or choose another --experiment"
        )
    return str(experiment.experiment_id)


def experiment_name(store: Store, experiment: str) -> str | None:
    """Return the name of the experiment with this id; None if there is none."""
    from mlflow.exceptions import MlflowException

    try:
        return str(store.client.get_experiment(experiment).name)
    except MlflowException:
        return None


def _artifact_location(store: Store, name: str) -> str | None:
    file = sqlite_file(store.uri)
    if file is None:
        return None  # the server decides
    return (file.parent / ARTIFACTS / (slug(name, longest=40) or "experiment")).as_uri()


def _sqlite_client(uri: str) -> "MlflowClient":
    """Return the client of a SQLite store, after creating the tables of a new one."""
    try:
        # Creating the client upgrades the tables; several processes at once would break the store.
        with FileLock(_lock_file(uri)):
            return _checked_client(uri)
    except Exception as error:  # MLflow, SQLAlchemy and alembic raise a dozen types
        raise _unusable(uri, error) from error


def _lock_file(uri: str) -> Path:
    file = sqlite_file(uri) or Path("mlflow.db")
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = file.with_name(f".{file.name}.lock")
    require_locks(file.parent, "keep the store on a file system with locks")
    lock.touch()  # raises in a folder that can't be written, where FileLock would wait for ever
    return lock


def _unusable(uri: str, error: Exception) -> UsageError:
    return UsageError(
        f"tracking store {redact_uri(uri)}: can't be used: {describe_unusable(error)}"
    )


def _checked_client(uri: str) -> "MlflowClient":
    """Return a client whose store answers."""
    from mlflow import MlflowClient

    # It would print a traceback of a hundred lines for every error, which is raised as well.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    client = MlflowClient(tracking_uri=uri)
    client.search_experiments(max_results=1)
    return client
