"""Checkpoint files of a run in training: written whole or not at all, and verified when read.

A checkpoint is a safetensors file and a JSON file beside it, which holds the SHA-256 of both. The
JSON file is written last, so that the file it describes exists. A run keeps its last two
checkpoints: if the newer one is corrupt, the older one is used.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ablation.core.errors import RunError, first_line
from ablation.core.files import flush_to_disk, write_atomically

#: Checkpoints of a run that are kept.
KEPT_PER_RUN: Final = 2
#: Unfinished runs whose checkpoints are kept; the oldest are removed.
MAX_UNFINISHED_RUNS: Final = 20


@dataclass(frozen=True)
class Checkpoint:
    """The state after `epoch` epochs: tensors by name, on the CPU, and values for JSON."""

    epoch: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


class CheckpointWriter:
    """Writes a run's checkpoints, and makes them durable in the background. Close it after use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def save(self, checkpoint: Checkpoint) -> None:
        """Write the tensors of `checkpoint`, which may change afterwards, and start to complete it.

        Copies that could be written in the background would take as much memory as the model, its
        gradients and its moments; writing takes as long as copying them. Waiting for the disk is
        what takes long, and is done in the background.

        Raises:
            RunError: This checkpoint or the one before could not be written.
        """
        self.wait()
        draft = write_tensors(self._folder, checkpoint)
        without = replace(checkpoint, tensors={})
        self._pending = self._pool.submit(complete, self._folder, without, draft)

    def wait(self) -> None:
        """Wait until the last checkpoint is on the disk.

        Raises:
            RunError: It could not be written.
        """
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def close(self) -> None:
        """Finish the last write and ignore its errors."""
        self._pool.shutdown(wait=True)


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to `folder`, and remove all but the last `KEPT_PER_RUN`.

    Raises:
        RunError: The folder can't be written.
    """
    complete(folder, checkpoint, write_tensors(folder, checkpoint))


def write_tensors(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write the tensors of `checkpoint` to a file that is not yet a checkpoint; return its path.

    Raises:
        RunError: The folder can't be written.
    """
    _refuse_link(folder)
    draft = folder / f"epoch-{checkpoint.epoch:06d}.part"
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        save_file({key: value.contiguous() for key, value in checkpoint.tensors.items()}, draft)
    return draft


def complete(folder: Path, checkpoint: Checkpoint, draft: Path) -> None:
    """Make a checkpoint of the file `draft`, on the disk, and remove all but the last ones.

    Args:
        folder: The run's folder.
        checkpoint: The checkpoint; its tensors are not read.
        draft: What `write_tensors` returned.

    Raises:
        RunError: The folder can't be written.
    """
    with _explained(folder):
        digest = _file_digest(draft)
        flush_to_disk(draft)
        draft.replace(draft.with_suffix(".safetensors"))
        body = {"epoch": checkpoint.epoch, "tensors_sha256": digest, "state": checkpoint.state}
        write_atomically(
            draft.with_suffix(".json"), json.dumps({**body, "sha256": _body_digest(body)})
        )
        for old in sorted(folder.glob("epoch-*.json"))[:-KEPT_PER_RUN]:
            old.unlink()
            old.with_suffix(".safetensors").unlink(missing_ok=True)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn an error of the disk into a RunError that says what to do."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise RunError(
            f"checkpoint in {folder}: can't be written: {reason}; "
            "set ABLATION_STATE to another folder"
        ) from error


def load_latest(folder: Path) -> Checkpoint | None:
    """Return the newest checkpoint in `folder` that is not corrupt, or None if there is none."""
    _refuse_link(folder)
    for file in sorted(folder.glob("epoch-*.json"), reverse=True):
        if (checkpoint := read(file)) is not None:
            return checkpoint
    return None


def read(file: Path) -> Checkpoint | None:
    """Return the checkpoint of the JSON file `file`, or None if one of its files is corrupt."""
    try:
        body = json.loads(file.read_text("utf-8"))
        digest = body.pop("sha256")
        weights = file.with_suffix(".safetensors")
        if digest != _body_digest(body) or body["tensors_sha256"] != _file_digest(weights):
            return None
        return Checkpoint(int(body["epoch"]), load_file(weights), body["state"])
    except (OSError, ValueError, KeyError, AttributeError, TypeError, SafetensorError):
        return None


def remove_corrupt(folder: Path) -> list[str]:
    """Remove corrupt and partly written files from a run's folder, and return their names.

    The caller must hold the lock of the run: another process may be writing the partial files.
    """
    _refuse_link(folder)
    intact = {file.stem for file in folder.glob("epoch-*.json") if read(file) is not None}
    corrupt = [
        file
        for file in sorted(folder.glob("*"))
        if file.suffix == ".part" or file.stem not in intact
    ]
    for file in corrupt:
        file.unlink(missing_ok=True)
    return [file.name for file in corrupt]


def clear(folder: Path) -> None:
    """Remove the checkpoints of a run that has finished."""
    shutil.rmtree(folder, ignore_errors=True)


def prune(root: Path, most: int = MAX_UNFINISHED_RUNS) -> list[Path]:
    """Remove the folders of all but the `most` runs below `root` that were written last.

    Returns:
        The folders that were removed.
    """
    folders = sorted(
        (f for f in root.glob("*") if f.is_dir()), key=lambda f: f.stat().st_mtime, reverse=True
    )
    for folder in folders[most:]:
        clear(folder)
    return folders[most:]


def _refuse_link(folder: Path) -> None:
    """Raise RunError for a symbolic link: files of another folder would be read and removed."""
    if folder.is_symlink():
        raise RunError(f"checkpoints {folder}: is a symbolic link; remove it")


def _file_digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _body_digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
