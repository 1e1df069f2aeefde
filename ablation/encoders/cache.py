"""The cache of converted encoders. A cached folder is complete or does not exist."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from ablation.core.errors import UsageError
from ablation.core.files import replace_folder

ENVIRONMENT_VARIABLE: Final = "ABLATION_CACHE"
#: In a cached folder: the digest of each file as it was made.
_DIGESTS: Final = ".digests.json"


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
                (draft / _DIGESTS).write_text(json.dumps(file_digests(draft)), "utf-8")
    return target


def file_digests(
    folder: Path, is_part: Callable[[Path], bool] = lambda file: True
) -> dict[str, str]:
    """Return the SHA-256 of each file below `folder` by its path there, in order.

    Args:
        folder: The folder.
        is_part: Tells of a path below the folder if it counts.
    """
    digests = {}
    for file in sorted(file for file in folder.rglob("*") if is_part(file.relative_to(folder))):
        if file.is_file() and file.name != _DIGESTS:
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            digests[file.relative_to(folder).as_posix()] = digest
    return digests


def check_cached(folder: Path, digests: Mapping[str, str]) -> None:
    """Check a cached folder's files against those that were made.

    Args:
        folder: A folder of `build_once`.
        digests: The digests of its files as they are now.

    Raises:
        UsageError: A file was changed or cut; the message names it.
    """
    try:
        made = json.loads((folder / _DIGESTS).read_text("utf-8"))
    except (OSError, ValueError):  # made by version 0.1.0
        return
    changed = [path for path, digest in digests.items() if made.get(path, digest) != digest]
    if changed:
        raise UsageError(
            f"{folder / changed[0]}: is not as it was made (a damaged disk, or an edit);"
            f" delete the folder {folder}, and it is made again"
        )


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
