"""Identify a process so that a later command can tell whether it still runs.

A process is host:pid:start. Where the kernel tells, the start is counted from the boot of the
machine ("b", the boot's id, "t", clock ticks), which no change of the clock moves, and names the
pid namespace ("n") and the machine or container ("p"): two machines, or two containers of one, may
have the same host name, and number their processes alike. Elsewhere the start is in seconds since
1970, as in runs of version 0.1.0; later ones without "n" and "p" are read as well.
"""

import functools
import hashlib
import os
import platform
import re
import time
from pathlib import Path
from typing import Final, Literal

import psutil

#: Two readings of one process's start can differ by the rounding to seconds.
_START_TOLERANCE_S: Final = 2
_FIRST_SEEN: Final = time.time()
_PROC: Final = Path("/proc")
_MACHINE_ID: Final = Path("/etc/machine-id")
#: The number that the kernel gives to the pid namespace that no container has.
_INITIAL_NAMESPACE: Final = "4026531836"
#: The id of a container of Docker or Podman, in the path of a file that it mounts.
_CONTAINER: Final = re.compile(r"containers/([0-9a-f]{64})/")
_PROCESS: Final = re.compile(
    r"(?P<host>.*):(?P<pid>\d+):(?P<start>\d+|b(?P<boot>[0-9a-f]+)t(?P<ticks>\d+)"
    r"(?:n(?P<namespace>\d+)p(?P<place>[0-9a-f]*))?)"
)

#: "unknown" where this process can't see the other one: on another machine or in a container.
Life = Literal["alive", "dead", "unknown"]


def this_process(pid: int | None = None) -> str:
    """Return host:pid:start of this process, or of `pid`.

    Raises:
        psutil.NoSuchProcess: `pid` does not run.
    """
    number = os.getpid() if pid is None else pid
    start = _ticks(number)
    if not start:
        try:
            start = f"{psutil.Process(number).create_time():.0f}"
        except psutil.NoSuchProcess:
            if _sees_processes() or number != os.getpid():
                raise
            start = f"{_FIRST_SEEN:.0f}"  # where /proc is hidden
    return f"{platform.node()}:{number}:{start}"


def life_of(process: str) -> Life:
    """Say whether `process` runs, has ended, or can't be seen from here.

    A number that the system gave to another process in the meantime is recognised by its start.
    """
    match = _PROCESS.fullmatch(process)
    if match is None or match["host"] != platform.node():
        return "unknown"
    if not _sees_processes():
        return "unknown"
    if match["namespace"] and (life := _life_elsewhere(match)):
        return life
    try:
        running = psutil.Process(int(match["pid"]))
        if match["boot"]:
            now = _ticks(running.pid)
            if not now:
                return "unknown"
            return "alive" if _without_place(now) == _without_place(match["start"]) else "dead"
        started = running.create_time()
    except psutil.NoSuchProcess:
        return "dead"
    except psutil.AccessDenied:  # where processes of others are hidden
        return "unknown"
    return "dead" if abs(started - float(match["start"])) > _START_TOLERANCE_S else "alive"


def _sees_processes() -> bool:
    """Return whether the system tells of processes: where /proc is hidden, not even of this one."""
    return psutil.pid_exists(os.getpid())


def is_dead(process: str) -> bool:
    """Return whether `process` is known to have ended, see `life_of`."""
    return life_of(process) == "dead"


def is_alive_here(process: str) -> bool:
    """Return whether `process` is known to run, see `life_of`; "" does not."""
    return life_of(process) == "alive"


def _life_elsewhere(match: re.Match[str]) -> Life | None:
    """Judge a process of another boot or namespace; None if it is of this one's.

    Another boot of the same machine or container has ended all that ran before. Of all others
    nothing is known here, whatever their host's name.
    """
    here = _PROCESS.fullmatch(f":0:{_ticks(None)}")
    if here is None:
        return "unknown"
    same_boot = here["boot"] == match["boot"]
    if same_boot and here["namespace"] == match["namespace"]:
        return None
    is_same_place = here["place"] != "" and here["place"] == match["place"]
    return "dead" if is_same_place and not same_boot else "unknown"


def _ticks(pid: int | None) -> str:
    """Return a process's start and its machine, see the module; empty if unknown.

    Args:
        pid: The process, of this one's namespace; None for this one.
    """
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text("ascii").replace("-", "")[:8]
        # The name before the last bracket may hold anything; the start is field 22 of the line.
        name = "self" if pid is None else str(pid)
        fields = (_PROC / name / "stat").read_bytes().rpartition(b")")[2].split()
        return f"b{boot}t{int(fields[19])}n{_namespace()}p{_place()}"
    except (OSError, ValueError, IndexError):
        return ""


def _without_place(start: str) -> str:
    return start.partition("n")[0]


def _namespace() -> str:
    return re.sub(r"\D", "", str((_PROC / "self/ns/pid").readlink()))


@functools.cache
def _place() -> str:
    """Return a digest of the container's id, or of the machine's outside of any; empty if unknown.

    A container's own machine-id is that of its image, which others have too.
    """
    mounts = (_PROC / "self/mountinfo").read_text("utf-8", "replace")
    if container := _CONTAINER.search(mounts):
        place = container[1]
    elif _namespace() == _INITIAL_NAMESPACE and _MACHINE_ID.is_file():
        place = _MACHINE_ID.read_text("ascii").strip()
    else:
        return ""
    return hashlib.sha256(place.encode()).hexdigest()[:8] if place else ""
