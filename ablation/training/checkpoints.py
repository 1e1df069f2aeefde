"""Checkpoints of a run that is being trained: written whole or not at all, checked when read.

A checkpoint is a safetensors file and a JSON file beside it that holds the first's SHA-256 and its own.
Both are written under another name, flushed to the disk and renamed; the JSON comes last, so that what
it names is there. A run keeps its last two: if the newer one is damaged, the older one serves.
"""

import hashlib
import json
import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ablation.core.errors import RunError

#: Checkpoints that a run keeps.
KEPT: Final = 2
#: Unfinished runs whose checkpoints are kept; those that were written longest ago give way.
MOST_RUNS: Final = 20


@dataclass(frozen=True)
class Checkpoint:
    """`tensors` by name, on the CPU; `state` is what JSON holds. `epoch` is the last that was completed."""

    epoch: int
    tensors: dict[str, torch.Tensor]
    state: dict[str, Any]


class Saver:
    """Writes a run's checkpoints while it trains on; one at a time. Close it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def save(self, checkpoint: Checkpoint) -> None:
        """Begin to write; the tensors must not change any more. Raises RunError if the one before could not be written."""
        self.wait()
        self._pending = self._pool.submit(save, self._folder, checkpoint)

    def wait(self) -> None:
        """Until what was begun is on the disk. Raises RunError if it could not be written."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def close(self) -> None:
        """End without waiting for trouble: what was begun is still written."""
        self._pool.shutdown(wait=True)


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to `folder` and remove all but the last `KEPT`. Raises RunError, naming the folder."""
    name = _name(checkpoint.epoch)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        weights = folder / f"{name}.safetensors"
        part = weights.with_suffix(".part")
        save_file({key: value.contiguous() for key, value in checkpoint.tensors.items()}, part)
        digest = _digest(part)
        _flush(part)
        part.replace(weights)
        body = {"epoch": checkpoint.epoch, "tensors_sha256": digest, "state": checkpoint.state}
        text = json.dumps({**body, "sha256": _digest_of(body)})
        file = folder / f"{name}.json"
        part = folder / f"{name}.json.part"
        part.write_text(text, "utf-8")
        _flush(part)
        part.replace(file)
        _flush(folder)
        for old in sorted(folder.glob("epoch-*.json"))[:-KEPT]:
            old.unlink()
            old.with_suffix(".safetensors").unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        told = getattr(error, "strerror", None) or str(error)
        raise RunError(
            f"checkpoint in {folder}: can't be written: {told}; set ABLATION_STATE to another folder"
        ) from error


def load(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint in `folder`; None where there is none. Damaged ones are passed over."""
    for file in sorted(folder.glob("epoch-*.json"), reverse=True):
        if (checkpoint := read(file)) is not None:
            return checkpoint
    return None


def read(file: Path) -> Checkpoint | None:
    """The checkpoint whose JSON is `file`; None if one of its two files is missing or damaged."""
    try:
        body = json.loads(file.read_text("utf-8"))
        own = body.pop("sha256")
        weights = file.with_suffix(".safetensors")
        if own != _digest_of(body) or body["tensors_sha256"] != _digest(weights):
            return None
        return Checkpoint(int(body["epoch"]), load_file(weights), body["state"])
    except (OSError, ValueError, KeyError, AttributeError, TypeError, SafetensorError):
        return None


def remove_corrupt(folder: Path) -> list[str]:
    """Remove what is damaged or half written in a run's folder; returns the names of what went.

    Only for who has claimed the run: half-written files may be another process's.
    """
    whole = {file.stem for file in folder.glob("epoch-*.json") if read(file) is not None}
    gone = [
        file
        for file in sorted(folder.glob("*"))
        if file.suffix == ".part" or file.stem not in whole
    ]
    for file in gone:
        file.unlink(missing_ok=True)
    return [file.name for file in gone]


def clear(folder: Path) -> None:
    """Remove a run's checkpoints: it has finished."""
    shutil.rmtree(folder, ignore_errors=True)


def prune(root: Path, most: int = MOST_RUNS) -> list[Path]:
    """Remove the checkpoints of all but the `most` runs below `root` that were written last; returns what went."""
    folders = sorted(
        (f for f in root.glob("*") if f.is_dir()), key=lambda f: f.stat().st_mtime, reverse=True
    )
    for folder in folders[most:]:
        clear(folder)
    return folders[most:]


def _name(epoch: int) -> str:
    return f"epoch-{epoch:06d}"


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest_of(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _flush(path: Path) -> None:
    """To the disk itself: a rename that survives a power cut must not name a file that does not."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
