"""Which process trains a run, where several were asked for the same: exactly one, the others wait or take other runs.

A claim is a lock of the operating system on a file in the state folder: it ends with its process,
however that dies. It holds between the processes of one machine (and of machines that share the
state folder, where the file system has locks).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from ablation.core.errors import RunError
from ablation.core.state import state_folder

#: Seconds between two looks at a run that another process has.
POLL_S: Final = 0.5


@contextmanager
def try_lock(slot: str) -> Iterator[bool]:
    """True if this process has the run `slot` (`ablation.core.state.run_slot`) to itself until the block ends, else False.

    Raises RunError if the state folder can't be written.
    """
    lock = FileLock(_file(slot), mode=0o600)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        # The empty file stays: removing it would let a third process claim beside one that had opened it.
        lock.release()


@contextmanager
def lock(slot: str) -> Iterator[None]:
    """The same, but waits until the run is free."""
    with FileLock(_file(slot), mode=0o600).acquire(poll_interval=POLL_S):
        yield


def _file(slot: str) -> Path:
    folder = state_folder() / "claims"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"state folder {folder}: can't be written: {error.strerror}; set ABLATION_STATE to another"
        ) from error
    return folder / f"{slot}.lock"
