"""Identify a process so that a later command can tell whether it still runs."""

import platform

import psutil

#: Two readings of one process's start can differ by the rounding to seconds.
_START_TOLERANCE_S = 2


def this_process(pid: int | None = None) -> str:
    """Return host:pid:start of this process, or of `pid`; the start is in seconds since 1970.

    Raises:
        psutil.NoSuchProcess: `pid` does not run.
    """
    process = psutil.Process(pid)
    return f"{platform.node()}:{process.pid}:{process.create_time():.0f}"


def is_dead(process: str) -> bool:
    """Return whether `process` ran on this host and has ended.

    False for processes of other hosts, about which nothing is known here. A number that the system
    gave to another process in the meantime is recognised by its start.
    """
    host, pid, start = process.rsplit(":", 2)
    if host != platform.node():
        return False
    try:
        started = psutil.Process(int(pid)).create_time()
    except psutil.NoSuchProcess:
        return True
    return bool(abs(started - float(start)) > _START_TOLERANCE_S)


def is_alive_here(process: str) -> bool:
    """Return whether `process` runs on this host; "" does not."""
    return process.split(":")[0] == platform.node() and not is_dead(process)
