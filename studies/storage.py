"""Open the storage of a study: an SQL database, or a journal file for network folders."""

import hashlib
import tempfile
import warnings
from pathlib import Path
from typing import Any, Final

from optuna.exceptions import ExperimentalWarning
from optuna.storages import (
    BaseStorage,
    JournalStorage,
    RDBStorage,
    RetryHeartbeatStaleTrialCallback,
)
from optuna.storages.journal import JournalFileBackend

from ablation.core.errors import UsageError, first_line
from ablation.core.locks import lock
from ablation.core.state import run_slot
from ablation.tracking.store import refuse_foreign_sqlite
from ablation.tracking.uris import redact_uri

JOURNAL: Final = "journal:"
#: A worker without a heartbeat for the grace period counts as dead, and its trial is run again.
HEARTBEAT_S: Final = 20
GRACE_S: Final = 80


def default_url(tracking_uri: str) -> str:
    """Return `studies.db` beside a local tracking store, else in the current folder."""
    folder = (
        Path(tracking_uri.removeprefix("sqlite:///")).parent
        if tracking_uri.startswith("sqlite:///")
        else Path.cwd()
    )
    return f"sqlite:///{folder / 'studies.db'}"


def open_storage(url: str) -> BaseStorage:
    """Open the storage at an SQLAlchemy URL, or at `journal:FILE`.

    Raises UsageError if it can't be opened.
    """
    try:
        if url.startswith(JOURNAL):
            file = _journal_file(url)
            file.parent.mkdir(parents=True, exist_ok=True)
            return JournalStorage(JournalFileBackend(str(file)))
        # Several workers on one SQLite file wait for each other instead of failing.
        engine: dict[str, Any] = (
            {"connect_args": {"timeout": 120}} if url.startswith("sqlite") else {}
        )
        # One process at a time creates the tables: only a file with all of them can be told from
        # a foreign one. Not under `lock_file`, which would leave a file beside a foreign database.
        with lock(run_slot(redact_uri(url), "", "tables")), warnings.catch_warnings():
            refuse_foreign_sqlite("studies", url)
            warnings.simplefilter("ignore", ExperimentalWarning)  # heartbeats recover killed trials
            return RDBStorage(
                url,
                engine_kwargs=engine,
                heartbeat_interval=HEARTBEAT_S,
                grace_period=GRACE_S,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
            )
    except Exception as error:  # Optuna, SQLAlchemy, alembic and a missing driver raise many kinds
        raise UsageError(
            f"storage {redact_uri(url)}: can't be used: {first_line(error)}"
        ) from error


def lock_file(url: str) -> Path:
    """Return the file that workers on one machine lock while they take a trial."""
    if url.startswith("sqlite:///"):
        return Path(url.removeprefix("sqlite:///") + ".lock")
    if url.startswith(JOURNAL):
        return _journal_file(url).with_name(f"{_journal_file(url).name}.take.lock")
    digest = hashlib.sha256(url.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"ablation-study-{digest}.lock"


def _journal_file(url: str) -> Path:
    return Path(url.removeprefix(JOURNAL)).expanduser().resolve()
