"""Identify a process so that a later command can tell whether it still runs.

A process is host:pid:start. Where the kernel tells, the start is counted from the boot of the
machine ("b", the boot's id, "t", clock ticks), which no change of the clock moves. Elsewhere, and
in runs of version 0.1.0, it is in seconds since 1970.
"""

import platform
import re
from pathlib import Path
from typing import Final

import psutil

#: Two readings of one process's start can differ by the rounding to seconds.
_START_TOLERANCE_S: Final = 2
_PROC: Final = Path("/proc")


def this_process(pid: int | None = None) -> str:
    """Return host:pid:start of this process, or of `pid`.

    Raises:
        psutil.NoSuchProcess: `pid` does not run.
    """
    process = psutil.Process(pid)
    start = _ticks(process.pid) or f"{process.create_time():.0f}"
    return f"{platform.node()}:{process.pid}:{start}"


def is_dead(process: str) -> bool:
    """Return whether `process` ran on this host and has ended.

    False for processes of other hosts, about which nothing is known here, and for what is no
    process. A number that the system gave to another process in the meantime is recognised by its
    start.
    """
    match = re.fullmatch(r"(?P<host>.*):(?P<pid>\d+):(?P<start>\d+|b[0-9a-f]+t\d+)", process)
    if match is None or match["host"] != platform.node():
        return False
    try:
        running = psutil.Process(int(match["pid"]))
        if match["start"].startswith("b"):
            now = _ticks(running.pid)
            return now != "" and now != match["start"]
        started = running.create_time()
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:  # where processes of others are hidden
        return False
    return bool(abs(started - float(match["start"])) > _START_TOLERANCE_S)


def is_alive_here(process: str) -> bool:
    """Return whether `process` runs on this host; "" does not."""
    return process.split(":")[0] == platform.node() and not is_dead(process)


def _ticks(pid: int) -> str:
    """Return the boot's id and a process's start in clock ticks since; empty if unknown."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text("ascii").replace("-", "")[:8]
        # The name before the last bracket may hold anything; the start is field 22 of the line.
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        return f"b{boot}t{int(fields[19])}"
    except (OSError, ValueError, IndexError):
        return ""
