"""Where results come from: the commit and what was not committed, versions, and the machine."""

import os
import platform
import subprocess
from importlib.metadata import distributions
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import psutil


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
    if commit is None or _git(folder, "ls-files", "--error-unmatch", "ablation/__init__.py") is None:
        return Source(None, False, "")
    diff = _git(folder, "diff", "HEAD") or ""
    return Source(commit, bool(_git(folder, "status", "--porcelain")), diff)


def environment() -> dict[str, Any]:
    """Versions of all installed packages, the machine, and what decides the order of sums on it."""
    import torch  # seconds, and only a run's beginning needs it

    packages = {d.metadata["Name"]: d.version for d in distributions() if d.metadata["Name"]}
    return {
        "python": platform.python_version(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
        "host": platform.node(),
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "torch_threads": torch.get_num_threads(),
        "blas": "mkl" if torch.backends.mkl.is_available() else "other",
        "cuda_device": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def processor() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace").strip()
