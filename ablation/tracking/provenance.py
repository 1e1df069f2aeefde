"""Where results come from: the commit and what was not committed, versions, and the machine."""

import functools
import os
import platform
import subprocess
from importlib.metadata import distributions
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from threadpoolctl import threadpool_info


class Source(NamedTuple):
    """The checkout that the package runs from; `commit` is None outside of one."""

    commit: str | None
    dirty: bool
    diff: str


def source() -> Source:
    """Commit and uncommitted changes of this suite's own sources."""
    folder = Path(str(files("ablation"))).parent
    commit = _git(folder, "rev-parse", "HEAD")
    # An installed copy may lie inside somebody else's repository: then that commit says nothing.
    if (
        commit is None
        or _git(folder, "ls-files", "--error-unmatch", "ablation/__init__.py") is None
    ):
        return Source(None, False, "")
    diff = _git(folder, "diff", "HEAD") or ""
    return Source(commit, bool(_git(folder, "status", "--porcelain")), diff)


def environment() -> dict[str, Any]:
    """Versions of all installed packages, the machine, and what decides the order of sums on it, as things stand now.

    Each run keeps its own. The number of threads is asked for each time, the rest once for a process.
    """
    import torch  # seconds, and only a run's beginning needs it

    pools = [
        {
            "library": pool["prefix"],
            "version": pool["version"],
            "kernels": pool.get("architecture"),
            "threads": pool["num_threads"],
        }
        for pool in threadpool_info()
    ]
    return {
        **_unchanging(),
        "torch_threads": torch.get_num_threads(),
        "torch_interop_threads": torch.get_num_interop_threads(),
        # OpenMP and the BLAS of NumPy and SciPy; torch's own is `blas`, and has torch's threads.
        "thread_pools": sorted(pools, key=lambda pool: (pool["library"], str(pool["version"]))),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
    }


@functools.cache
def _unchanging() -> dict[str, Any]:
    """What stays as it is while the process lives: reading all packages' metadata takes a while."""
    import torch

    packages = {d.metadata["Name"]: d.version for d in distributions() if d.metadata["Name"]}
    return {
        "python": platform.python_version(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
        "host": platform.node(),
        "platform": platform.platform(),
        "processor": processor(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "blas": _torch_blas(),
        "cuda_device": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _torch_blas() -> str:
    """The library that multiplies torch's matrices on the CPU, with its version where torch says it."""
    import torch

    if not torch.backends.mkl.is_available():
        return "other"
    lines = torch.__config__.show().splitlines()
    return next((line.strip(" -") for line in lines if "Math Kernel Library" in line), "mkl")


def processor() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, check=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace").strip()
