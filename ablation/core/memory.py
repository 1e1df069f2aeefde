"""Keep the C library from holding on to memory that was freed, where it is glibc.

Elsewhere nothing is done. `docs/benchmarks/notes.md` has what a process took without this.
"""

import ctypes
import functools
import os
import sys
from typing import Final

#: The number that glibc gives to the limit on arenas.
_ARENA_MAX: Final = -8
#: Variables by which a user chooses how glibc keeps memory; then it is left as it is.
_CHOSEN_BY: Final = ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")


def share_one_arena() -> None:
    """Let all threads that start from now on allocate from one arena.

    By default each has one, made of heaps of 64 MB, in which tensors of ever other sizes leave
    holes that fit no other tensor. One arena has no such limits, and serves what any thread freed.
    """
    library = _glibc()
    if library is not None and not any(name in os.environ for name in _CHOSEN_BY):
        library.mallopt(_ARENA_MAX, 1)


def release_freed() -> None:
    """Give back to the system every page that holds nothing any more; takes some milliseconds."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    """Return this process's C library if it has glibc's functions, else None."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
