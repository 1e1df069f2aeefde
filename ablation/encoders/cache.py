"""The cache of converted encoders. A cached folder is complete or does not exist."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from ablation.core.errors import UsageError
from ablation.core.files import replace_folder

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
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        Path(f"{target}.lock").touch()  # FileLock would wait for ever in a read-only folder
    except OSError as error:
        raise UsageError(
            f"cache folder {target.parent}: can't be written: {error.strerror};"
            f" set {ENVIRONMENT_VARIABLE} to another folder"
        ) from error
    with FileLock(f"{target}.lock"):
        if not target.is_dir():
            with replace_folder(target) as draft:
                build(draft)
    return target


def remove_stale_drafts() -> list[Path]:
    """Remove what killed processes left of the folders that they were filling, and return it.

    A folder that a living process fills is locked, and left alone.
    """
    removed = []
    for lock in cache_folder().glob("*.lock"):
        name = lock.name.removesuffix(".lock")
        drafts = [d for mark in ".-" for d in lock.parent.glob(f".{name}{mark}*") if d.is_dir()]
        if not drafts:
            continue
        try:
            with FileLock(lock, blocking=False):
                for draft in drafts:
                    shutil.rmtree(draft, ignore_errors=True)
                removed += drafts
        except Timeout:
            continue
    return removed
