"""Locks between processes, so that exactly one of them trains a run.

A lock is the operating system's lock on a file in the state folder, and ends with its process,
however that dies. It holds between the processes of one machine, and between machines that share
the state folder if its file system supports locks.
"""

import errno
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from ablation.core.errors import RunError
from ablation.core.state import STATE, require_private, state_folder

#: Seconds between two attempts to get a lock that another process holds.
POLL_S: Final = 0.5
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
_REMEDY: Final = f"set {STATE} to a folder on a file system with locks"


@contextmanager
def try_lock(slot: str) -> Iterator[bool]:
    """Yield True while this process holds the lock, or False if another process holds it.

    Args:
        slot: The run's name in the state folder, see `ablation.core.state.run_slot`.

    Raises:
        RunError: The state folder can't be written.
    """
    lock = FileLock(_file(slot), mode=0o600)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    except OSError as error:
        raise _no_lock(slot, error) from error
    try:
        yield True
    finally:
        # The empty file stays: if it were removed, a process that had opened it and one that
        # creates it anew would both hold a lock.
        lock.release()


@contextmanager
def lock(slot: str) -> Iterator[None]:
    """Hold the lock during the block; wait until it is free. Otherwise like `try_lock`."""
    held = FileLock(_file(slot), mode=0o600)
    try:
        held.acquire(poll_interval=POLL_S)
    except OSError as error:
        raise _no_lock(slot, error) from error
    try:
        yield
    finally:
        held.release()


def require_locks(folder: Path, remedy: str) -> None:
    """Raise RunError if the file system of a folder has no locks.

    filelock would take an existing lock file there for the lock itself, and wait for ever for what
    a dead process left. Nothing is raised for a folder that can't be written: writing says it.

    Args:
        folder: The folder of the lock's file, which need not exist yet.
        remedy: What to do, as an order.
    """
    if sys.platform == "win32":
        return
    import fcntl

    existing = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise RunError(
                f"{folder}: its file system has no locks ({error.strerror}); {remedy}"
            ) from error


def require_state_locks() -> None:
    """Raise RunError if the state folder's file system has no locks."""
    require_locks(state_folder(), _REMEDY)


def _no_lock(slot: str, error: OSError) -> RunError:
    """Return the error of a lock that can't be taken, which names no file itself."""
    return RunError(
        f"lock {state_folder() / 'locks' / slot}.lock: can't be taken: {error.strerror or error};"
        f" {_REMEDY}"
    )


def _file(slot: str) -> Path:
    folder = state_folder() / "locks"
    try:
        state_folder().mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise RunError(
            f"state folder {folder}: can't be written: {error.strerror};"
            " set ABLATION_STATE to another folder"
        ) from error
    require_private(state_folder())
    require_locks(folder, _REMEDY)
    return folder / f"{slot}.lock"
