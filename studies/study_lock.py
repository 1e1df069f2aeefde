"""The lock under which the workers of a study take trials, on one machine or on several.

On this machine it is a lock on a file. Where the study is in a database that machines share, it is
a lock of the database's as well, which ends with its connection, however the process dies.
"""

import time
from types import TracebackType
from typing import Final

from filelock import FileLock
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from ablation.core.interrupts import raise_if_interrupted
from ablation.core.locks import POLL_S
from studies.storage import JOURNAL, lock_file

#: By database: take its lock if it is free. Another program's locks have other names.
_TAKE: Final = {
    "postgresql": "select pg_try_advisory_lock(7106329124501)",
    "mysql": "select get_lock('ablation-suite studies', 0)",
    "mariadb": "select get_lock('ablation-suite studies', 0)",
}


class StudyLock:
    """Hold the lock of a storage's studies in a `with` block, or until `release`."""

    def __init__(self, url: str) -> None:
        """Take nothing yet; `url` is that of the storage."""
        self._file = FileLock(lock_file(url))
        self._url = url
        self._connection: Connection | None = None

    def __enter__(self) -> "StudyLock":
        """Wait until the lock is free, and take it."""
        self._file.acquire()
        try:
            self._lock_database()
        except BaseException:
            self.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def release(self) -> None:
        """Let others have the lock; do nothing if it is not held."""
        connection, self._connection = self._connection, None
        try:
            if connection is not None:
                connection.close()
        finally:
            self._file.release()

    def _lock_database(self) -> None:
        take = _TAKE.get(_database(self._url))
        if take is None:
            return
        engine = create_engine(self._url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        self._connection = engine.connect()
        while not self._connection.execute(text(take)).scalar():
            raise_if_interrupted()
            time.sleep(POLL_S)


def _database(url: str) -> str:
    """Return the kind of a storage's database; empty for a journal file."""
    if url.startswith(JOURNAL):
        return ""
    try:
        return make_url(url).get_backend_name()
    except ArgumentError:  # `open_storage` says it better
        return ""
