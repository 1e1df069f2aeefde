"""Where this suite keeps what must outlive a process: checkpoints and claims of unfinished runs."""

import hashlib
import os
from pathlib import Path
from typing import Final

from platformdirs import user_state_path

STATE: Final = "ABLATION_STATE"


def state_folder() -> Path:
    """`$ABLATION_STATE`, else the user's folder for such things (`~/.local/state/ablation-suite` on Linux)."""
    given = os.environ.get(STATE)
    return (
        Path(given).expanduser().resolve()
        if given
        else user_state_path("ablation-suite", appauthor=False)
    )


def checkpoints_root() -> Path:
    """The folder that holds one folder of checkpoints for each unfinished run, named by its `run_slot`."""
    return state_folder() / "checkpoints"


def run_slot(store: str, experiment: str, identity: str) -> str:
    """A name for one run's files in the state folder: the same run in the same experiment of the same store, wherever started."""
    return hashlib.sha256("\x1f".join((store, experiment, identity)).encode()).hexdigest()[:32]
