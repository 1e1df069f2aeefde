"""The state folder, which holds what must outlive a process: checkpoints, locks, unsent points."""

import hashlib
import os
import stat
from pathlib import Path
from typing import Final

from platformdirs import user_state_path

from ablation.core.errors import RunError

STATE: Final = "ABLATION_STATE"
#: The file of kept weights that is written last.
KEPT_ABOUT: Final = "model.json"


def state_folder() -> Path:
    """Return `$ABLATION_STATE`, or the platform's folder for the state of programs."""
    folder = os.environ.get(STATE)
    if folder:
        return Path(folder).expanduser().resolve()
    return user_state_path("ablation-suite", appauthor=False)


def weights_root() -> Path:
    """Return the folder with one folder of kept weights for each run, named by its identity."""
    return state_folder() / "weights"


def has_kept_weights(identity: str) -> bool:
    """Tell if the state folder has weights of a run with this identity; they are not read."""
    return (kept_folder(identity) / KEPT_ABOUT).is_file()


def kept_folder(identity: str) -> Path:
    """Return the folder of a run's kept weights, which need not exist."""
    return weights_root() / identity[:32]


def require_private(folder: Path) -> None:
    """Raise RunError if other users could replace what is in `folder`, or make links there."""
    if hasattr(os, "getuid") and folder.is_dir() and folder.stat().st_mode & stat.S_IWOTH:
        raise RunError(
            f"state folder {folder}: every user of this machine can write to it;"
            f" run: chmod o-w {folder}"
        )


def checkpoints_root() -> Path:
    """Return the folder with one folder of checkpoints for each unfinished run (`run_slot`)."""
    return state_folder() / "checkpoints"


def run_slot(store: str, experiment: str, identity: str) -> str:
    """Return the name of one run's files in the state folder.

    Args:
        store: The tracking store's URI.
        experiment: The MLflow experiment's id.
        identity: The run's identity digest.
    """
    return hashlib.sha256("\x1f".join((store, experiment, identity)).encode()).hexdigest()[:32]
