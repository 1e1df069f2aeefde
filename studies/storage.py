"""Open the storage of a study: an SQL database, or a journal file for network folders."""

import hashlib
import json
import re
import traceback
import warnings
from json import JSONDecodeError
from pathlib import Path
from typing import Any, Final

from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import (
    BaseStorage,
    JournalStorage,
    RDBStorage,
    RetryHeartbeatStaleTrialCallback,
)
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.storages.journal._file import get_lock_file
from sqlalchemy.exc import SQLAlchemyError

from ablation.core.errors import RunError, UsageError
from ablation.core.files import write_atomically
from ablation.core.locks import lock, require_locks, require_state_locks
from ablation.core.state import run_slot, state_folder
from ablation.tracking.retry import describe_unusable, redacted_line
from ablation.tracking.store import refuse_foreign_sqlite
from ablation.tracking.uris import address_problem, redact_uri, sqlite_file, sqlite_uri

JOURNAL: Final = "journal:"
_SCHEMES: Final = ("sqlite", "postgresql", "mysql", "mariadb", "mssql", "oracle")
#: A worker without a heartbeat for the grace period counts as dead, and its trial is run again.
HEARTBEAT_S: Final = 20
GRACE_S: Final = 80
_REMEDY: Final = "keep the storage on a file system with locks"


def default_url(tracking_uri: str) -> str:
    """Return `studies.db` beside a local tracking store, else in the current folder."""
    store = sqlite_file(tracking_uri)
    return sqlite_uri((store.parent if store else Path.cwd()) / "studies.db")


def open_storage(url: str) -> BaseStorage:
    """Open the storage at an SQLAlchemy URL, or at `journal:FILE`.

    Raises UsageError if it can't be opened.
    """
    if url.startswith("sqlite") and sqlite_file(url) is None:
        reason = address_problem(url, _SCHEMES) or (
            "is in memory, where nothing is kept: give a file, such as sqlite:///studies.db"
        )
        raise UsageError(f"storage {redact_uri(url)}: {reason}")
    try:
        if url.startswith(JOURNAL):
            file = _journal_file(url)
            require_locks(file.parent, _REMEDY)
            file.parent.mkdir(parents=True, exist_ok=True)
            repair_journal(file)
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
        # Only now: SQLAlchemy's plug-ins may know further kinds.
        reason = address_problem(url, _SCHEMES) or describe_unusable(error)
        raise UsageError(f"storage {redact_uri(url)}: can't be used: {reason}") from error


def repair_journal(file: Path) -> None:
    """Remove from a journal what a killed process was in the middle of writing.

    Nothing that was acknowledged is lost: the torn entry is cut off, and an entry that another
    process wrote behind it, on the same line, is kept. The journal as it was stays beside it.

    Raises:
        ValueError: A line can't be read, and is not torn.
    """
    if not file.is_file():
        return
    with get_lock_file(JournalFileSymlinkLock(str(file))):
        content = file.read_bytes()
        whole, _, _ = content.rpartition(b"\n")
        kept = []
        for number, line in enumerate(whole.split(b"\n") if whole else [], start=1):
            entry = _entry_of(line)
            if entry is None:
                raise ValueError(f"line {number} of the journal can't be read; remove that line")
            kept.append(entry + b"\n")
        repaired = b"".join(kept)
        if repaired != content:
            write_atomically(file.with_name(f"{file.name}.torn"), content)
            write_atomically(file, repaired)


def _entry_of(line: bytes) -> bytes | None:
    """Return the last whole entry of a line; None if it has none."""
    starts = [0, *(match.start() for match in re.finditer(rb'\{"op_code"', line))]
    for start in dict.fromkeys(starts):
        try:
            if isinstance(json.loads(line[start:]), dict):
                return line[start:]
        except ValueError:
            continue
    return None


def storage_failure(error: BaseException) -> str:
    """Say in one line which failure of a storage is behind an error; empty if none is.

    Errors of MLflow's database, which are of the same kinds, are not.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, StorageInternalError):
            return redacted_line(cause.__cause__ or cause)
        if isinstance(cause, SQLAlchemyError | JSONDecodeError) and _is_optunas(cause):
            is_journal = isinstance(cause, JSONDecodeError)
            return "its journal was removed or changed" if is_journal else redacted_line(cause)
        cause = cause.__cause__ or cause.__context__
    return ""


def _is_optunas(error: BaseException) -> bool:
    """Return whether Optuna asked for what failed, and not MLflow."""
    modules = [
        str(frame.f_globals.get("__name__", "")).partition(".")[0]
        for frame, _ in traceback.walk_tb(error.__traceback__)
    ]
    asking = [module for module in modules if module in ("optuna", "mlflow")]
    return asking[-1:] == ["optuna"]


def lost_storage(url: str, error: BaseException) -> RunError | None:
    """Return the error of one line that stands for a lost storage; None if `error` is another."""
    lost = "" if isinstance(error, KeyboardInterrupt) else storage_failure(error)
    if not lost:
        return None
    return RunError(
        f"storage {redact_uri(url)}: lost: {lost}; the same command continues the study"
    )


def refuse_local_storage(url: str, on: str) -> None:
    """Raise UsageError for a storage that other machines can't reach; say what serves one."""
    if not (url.startswith((JOURNAL, "sqlite"))):
        return
    raise UsageError(
        [
            f"--on {on}: workers on other machines can't take trials of {redact_uri(url)}; give"
            " --storage postgresql+psycopg://ablation:PASSWORD@THIS-MACHINE/ablation and serve it:",
            "docker run --detach --publish 5432:5432 --env POSTGRES_USER=ablation"
            " --env POSTGRES_PASSWORD=PASSWORD postgres",
        ]
    )


def lock_file(url: str) -> Path:
    """Return the file that workers on one machine lock while they take a trial."""
    if (file := sqlite_file(url)) is not None:
        require_locks(file.parent, _REMEDY)
        return file.with_name(f"{file.name}.lock")
    if url.startswith(JOURNAL):
        return _journal_file(url).with_name(f"{_journal_file(url).name}.take.lock")
    digest = hashlib.sha256(url.encode()).hexdigest()[:16]
    # Not in the temporary folder: there the first user's lock would keep all others out.
    folder = state_folder() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    require_state_locks()
    return folder / f"study-{digest}.lock"


def _journal_file(url: str) -> Path:
    return Path(url.removeprefix(JOURNAL)).expanduser().resolve()
