"""Describe the origin of results: commit, uncommitted changes, versions and machine."""

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
    """The checkout that the package runs from; `commit` is None outside of a checkout."""

    commit: str | None
    dirty: bool
    diff: str


def source() -> Source:
    """Return commit and uncommitted changes of the suite's own sources."""
    folder = Path(str(files("ablation"))).parent
    commit = _git(folder, "rev-parse", "HEAD")
    # An installed copy may lie inside another repository, whose commit says nothing about it.
    if (
        commit is None
        or _git(folder, "ls-files", "--error-unmatch", "ablation/__init__.py") is None
    ):
        return Source(None, False, "")
    diff = _git(folder, "diff", "HEAD") or ""
    return Source(commit, bool(_git(folder, "status", "--porcelain")), diff)


def environment() -> dict[str, Any]:
    """Return package versions, the machine, and what decides the order of its sums.

    Numbers of threads are read at each call, the rest once per process. JSON-serialisable.
    """
    import torch  # takes seconds, and is only needed when a run begins

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
        **_fixed_environment(),
        "torch_threads": torch.get_num_threads(),
        "torch_interop_threads": torch.get_num_interop_threads(),
        # OpenMP and the BLAS of NumPy and SciPy. Torch's own BLAS uses torch's threads.
        "thread_pools": sorted(pools, key=lambda pool: (pool["library"], str(pool["version"]))),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
    }


@functools.cache
def _fixed_environment() -> dict[str, Any]:
    """Return what can't change while the process lives; reading all metadata takes a while."""
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
    """Return torch's matrix library on the CPU, with its version if torch states it."""
    import torch

    if not torch.backends.mkl.is_available():
        return "other"
    lines = torch.__config__.show().splitlines()
    return next((line.strip(" -") for line in lines if "Math Kernel Library" in line), "mkl")


def processor() -> str:
    """Return the processor's model name."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )


def _git(folder: Path, *arguments: str) -> str | None:
    """Return the output of a git command in `folder`; None if git is missing or fails."""
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, check=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.decode("utf-8", "replace").strip()
