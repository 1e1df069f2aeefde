"""Name a process so that it can be told later whether it still lives."""

import platform

import psutil


def this_process(pid: int | None = None) -> str:
    """host:pid:start of this process or of `pid`, the start as seconds since 1970."""
    process = psutil.Process(pid)
    return f"{platform.node()}:{process.pid}:{process.create_time():.0f}"


def is_dead(process: str) -> bool:
    """Whether `process` ran on this host and is gone. Other hosts' processes can't be told of."""
    host, pid, start = process.rsplit(":", 2)
    if host != platform.node():
        return False
    try:
        return bool(abs(psutil.Process(int(pid)).create_time() - float(start)) > 2)
    except psutil.NoSuchProcess:
        return True


def is_alive_here(process: str) -> bool:
    """Whether `process` runs on this host; "" does not."""
    return process.split(":")[0] == platform.node() and not is_dead(process)
