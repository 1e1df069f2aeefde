"""The folder in which converted encoders are kept, and how a folder gets there whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

ENVIRONMENT_VARIABLE = "ABLATION_CACHE"


def cache_folder() -> Path:
    """`$ABLATION_CACHE`, or the platform's cache folder for this suite."""
    return (
        Path(os.environ.get(ENVIRONMENT_VARIABLE) or user_cache_path("ablation-suite"))
        .expanduser()
        .resolve()
    )


def built_once(name: str, build: Callable[[Path], None]) -> Path:
    """The cached folder `name`; `build` fills it the first time, in one process at a time."""
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
