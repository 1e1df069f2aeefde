"""The cache of converted encoders. A cached folder is complete or does not exist."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from filelock import FileLock
from platformdirs import user_cache_path

ENVIRONMENT_VARIABLE: Final = "ABLATION_CACHE"


def cache_folder() -> Path:
    """Return `$ABLATION_CACHE`, or the platform's cache folder for this suite."""
    folder = os.environ.get(ENVIRONMENT_VARIABLE) or user_cache_path("ablation-suite")
    return Path(folder).expanduser().resolve()


def build_once(name: str, build: Callable[[Path], None]) -> Path:
    """Return the cached folder `name`; let `build` fill it if it does not exist yet.

    Other processes that need the same folder wait meanwhile.
    """
    target = cache_folder() / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not target.is_dir():
            draft = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target.parent))
            try:
                build(draft)
                draft.rename(target)
            except BaseException:
                shutil.rmtree(draft, ignore_errors=True)
                raise
    return target
