"""Write a file or a folder whole or not at all, also when the process is killed."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

import psutil

from ablation.core.errors import RunError

#: A draft of FOLDER is `.FOLDER.PID-8HEX.part` beside it, and the folder before it ends in `.old`.
_DRAFT: Final = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)-[0-9a-f]{8}\.(?:part|old)")


def write_atomically(file: Path, content: bytes | str, *, durable: bool = True) -> None:
    """Write `content` beside `file` and rename it into place; the file's folder must exist.

    Args:
        file: The file to create or replace.
        content: Bytes, or text that is written as UTF-8.
        durable: Flush to the disk before renaming, so that the file also survives a power cut.

    Raises:
        OSError: The file can't be written; nothing is left beside it.
    """
    draft = file.with_name(f".{file.name}.{os.getpid()}-{uuid4().hex[:8]}.part")
    try:
        with draft.open("wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        draft.replace(file)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    if durable:
        flush_to_disk(file.parent)


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder` that takes its place if the block ends well.

    Until then `folder` stays as it is. Drafts that killed processes left beside it are removed.

    Raises:
        RunError: The folder can't be written; the message names it.
    """
    mark = f".{folder.name}.{os.getpid()}-{uuid4().hex[:8]}"
    draft, before = folder.with_name(f"{mark}.part"), folder.with_name(f"{mark}.old")
    try:
        remove_drafts(folder.parent, folder.name)
        draft.mkdir(parents=True)
        yield draft
        with suppress(FileNotFoundError):
            folder.rename(before)
        try:
            draft.rename(folder)
        except OSError:
            with suppress(OSError):
                before.rename(folder)
            raise
    except OSError as error:
        named = Path(str(error.filename or draft))
        if not named.is_relative_to(folder.parent):
            raise
        raise RunError(
            f"{folder}: can't be written: {error.strerror or error};"
            " free the space or give another folder"
        ) from error
    finally:
        for rest in (draft, before):
            shutil.rmtree(rest, ignore_errors=True)


def remove_drafts(parent: Path, name: str = "") -> list[Path]:
    """Remove what killed processes left in `parent` of the folder `name`, or of any folder.

    Returns:
        The folders that were removed.
    """
    removed = []
    for entry in parent.glob(".*"):
        match = _DRAFT.fullmatch(entry.name)
        if match is None or name not in ("", match["name"]) or not entry.is_dir():
            continue
        if entry.is_symlink() or psutil.pid_exists(int(match["pid"])):
            continue
        final = parent / match["name"]
        if entry.suffix == ".old" and not final.exists():
            entry.rename(final)  # killed between the two renames
            continue
        shutil.rmtree(entry, ignore_errors=True)
        removed.append(entry)
    return removed


def flush_to_disk(path: Path) -> None:
    """Flush a file or a folder to the disk: a rename survives a power cut only after that."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
