"""Where a study is kept: an SQL database, or a journal file for network folders."""

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

from ablation.core.errors import UsageError
from ablation.core.locks import lock
from ablation.core.state import run_slot
from ablation.tracking.store import refuse_foreign_sqlite
from ablation.tracking.uris import redact_uri

JOURNAL: Final = "journal:"
#: A worker on any machine that has not been heard of for this long is taken for dead, and its trial is run again.
HEARTBEAT_S: Final = 20
GRACE_S: Final = 80


def default_url(tracking_uri: str) -> str:
    """`studies.db` beside a local tracking store, else in the current folder."""
    folder = (
        Path(tracking_uri.removeprefix("sqlite:///")).parent
        if tracking_uri.startswith("sqlite:///")
        else Path.cwd()
    )
    return f"sqlite:///{folder / 'studies.db'}"


def open_storage(url: str) -> BaseStorage:
    """The storage at an SQLAlchemy URL, or at `journal:FILE`. Raises UsageError if it can't be used."""
    try:
        if url.startswith(JOURNAL):
            file = _journal(url)
            file.parent.mkdir(parents=True, exist_ok=True)
            return JournalStorage(JournalFileBackend(str(file)))
        # Several workers on one SQLite file wait for each other instead of failing.
        engine: dict[str, Any] = (
            {"connect_args": {"timeout": 120}} if url.startswith("sqlite") else {}
        )
        # Its tables are made by one process at a time, and only a file with all of them can be told from a foreign one.
        # Not under `lock_file`: nothing may be left beside a file that turns out to be somebody else's.
        with lock(run_slot(redact_uri(url), "", "tables")), warnings.catch_warnings():
            refuse_foreign_sqlite("studies", url)
            warnings.simplefilter(
                "ignore", ExperimentalWarning
            )  # heartbeats are what a killed worker needs
            return RDBStorage(
                url,
                engine_kwargs=engine,
                heartbeat_interval=HEARTBEAT_S,
                grace_period=GRACE_S,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
            )
    except (
        Exception
    ) as error:  # Optuna, SQLAlchemy, alembic and a missing driver raise a dozen kinds
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(f"storage {redact_uri(url)}: can't be used: {first}") from error


def _journal(url: str) -> Path:
    return Path(url.removeprefix(JOURNAL)).expanduser().resolve()


def lock_file(url: str) -> Path:
    """The file that workers of one machine lock while they take a trial."""
    if url.startswith("sqlite:///"):
        return Path(url.removeprefix("sqlite:///") + ".lock")
    if url.startswith(JOURNAL):
        return _journal(url).with_name(f"{_journal(url).name}.take.lock")
    digest = hashlib.sha256(url.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"ablation-study-{digest}.lock"
