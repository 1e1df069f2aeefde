"""Write a file whole or not at all, also when the process is killed or the power is cut."""

import os
from pathlib import Path
from uuid import uuid4


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


def flush_to_disk(path: Path) -> None:
    """Flush a file or a folder to the disk: a rename survives a power cut only after that."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
