"""Time the project's own commands, each in a fresh process."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ablation.core.errors import RunError


def run_command(arguments: Sequence[str], folder: Path, store: str | None = None) -> float:
    """Return the seconds of `ablation ARGUMENTS`.

    Args:
        arguments: The command line.
        folder: The working folder, with the state below it.
        store: The tracking store; by default one in `folder`.

    Raises:
        RunError: The command failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "ABLATION_STATE": str(folder / "state"),
        "MLFLOW_TRACKING_URI": store or f"sqlite:///{folder / 'mlflow.db'}",
    }
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "ablation", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RunError(f"ablation {' '.join(arguments)} failed: {done.stderr.strip()[-300:]}")
    return time.perf_counter() - began
