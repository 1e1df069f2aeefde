"""Writes on their way to a tracking server, kept in a folder until the server has acknowledged them.

One folder for each process that writes, below `spool_root()`:

- `spool.json`: the server's address without credentials, which command wrote it, and why it was left;
- `ids.json`: the runs that were made, the id they were named by here to the one that the server gave;
- `00000001.json` and, for an artifact, `00000001.bin`: one write, numbered in the order of writing;
- `lock`: held as long as a process writes or sends.

Each file is written under another name, flushed to the disk and renamed: what is there is whole.
"""

import json
import multiprocessing
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import psutil
from filelock import FileLock, Timeout

from ablation.core.state import state_folder
from ablation.tracking.process_id import this_process

Kind = Literal["create", "batch", "inputs", "artifact", "end"]
_ABOUT: Final = "spool.json"
_IDS: Final = "ids.json"
_LOCK: Final = "lock"


def spool_root() -> Path:
    """The folder of all spools: `spool` in `$ABLATION_STATE`, or in the platform's state folder for this suite."""
    return state_folder() / "spool"


@dataclass(frozen=True)
class Entry:
    """One write. `run` is the id that its run is named by here, `path` an artifact's path in its run."""

    number: int
    run: str
    kind: Kind
    path: str = ""


@dataclass(frozen=True)
class PendingUploads:
    """A spool folder that holds writes: how many, of how many runs, for which server, and why they are still there."""

    folder: Path
    server: str
    writes: int
    runs: int
    reason: str


class Spool:
    """The writes of this process to `server`, oldest first. Not for several threads at once: `Delivery` sees to that.

    Its folder is made by the first write, and is gone again after `discard`. OSError means a disk that fails.
    """

    def __init__(self, server: str) -> None:
        self.server = server
        self.folder: Path | None = None
        self.entries: list[Entry] = []
        self.ids: dict[str, str] = {}
        self._last = 0
        self._began = 0.0
        self._lock: FileLock | None = None

    @classmethod
    def take(cls, folder: Path) -> "Spool | None":
        """The spool that another process left in `folder`; None while a process still has it."""
        lock = FileLock(folder / _LOCK, thread_local=False)
        try:
            lock.acquire(timeout=0)
            about = json.loads((folder / _ABOUT).read_text("utf-8"))
        except (
            Timeout,
            FileNotFoundError,
        ):  # not found: its writer has just been able to send all of it
            lock.release()
            return None
        spool = cls(about["server"])
        spool.folder, spool._lock, spool._began = folder, lock, about["began"]
        spool.entries, spool.ids = list(_entries(folder)), _read_ids(folder)
        return spool

    def append(
        self, run: str, kind: Kind, body: Mapping[str, Any], content: bytes | None = None
    ) -> Entry:
        """Keep one write, its artifact first: an entry that is there is whole."""
        folder = self._opened()
        self._last += 1
        entry = Entry(self._last, run, kind, str(body.get("path", "")))
        if content is not None:
            _write(folder / f"{entry.number:08d}.bin", content)
        _write(folder / f"{entry.number:08d}.json", _json({"run": run, "kind": kind, "body": body}))
        self.entries.append(entry)
        return entry

    def body(self, entry: Entry) -> str:
        """What is to be written, JSON."""
        assert self.folder is not None
        return json.dumps(
            json.loads((self.folder / f"{entry.number:08d}.json").read_text("utf-8"))["body"]
        )

    def content(self, entry: Entry) -> bytes:
        """An artifact's bytes."""
        assert self.folder is not None
        return (self.folder / f"{entry.number:08d}.bin").read_bytes()

    def made(self, run: str, run_id: str) -> None:
        """The server made `run` and calls it `run_id`."""
        self.ids[run] = run_id
        _write(self._opened() / _IDS, _json(self.ids))

    def remove(self, entry: Entry) -> None:
        """Forget a write that has arrived."""
        if entry in self.entries and self.folder is not None:
            self.entries.remove(entry)
            for kind in ("json", "bin"):
                (self.folder / f"{entry.number:08d}.{kind}").unlink(missing_ok=True)

    def note(self, reason: str) -> None:
        """Keep why the writes are still there."""
        _write(self._opened() / _ABOUT, self._about(reason))

    def discard(self) -> None:
        """Remove the folder if it holds nothing that still has to be sent."""
        if self.entries or self.folder is None:
            return
        (self.folder / _ABOUT).unlink(
            missing_ok=True
        )  # from here on it is no spool, whatever else is still in it
        self.release()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder = None

    def release(self) -> None:
        """Let other processes have it."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _opened(self) -> Path:
        if self.folder is None:
            root = spool_root()
            # Posts are somebody's words: nobody else on this machine is to read them.
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder = root / uuid.uuid4().hex[:12]
            folder.mkdir(mode=0o700)
            # Taken and let go by different threads.
            self._lock = FileLock(folder / _LOCK, thread_local=False)
            self._lock.acquire()
            self.folder, self._began = folder, time.time()
            if self.ids:
                _write(folder / _IDS, _json(self.ids))
            _write(folder / _ABOUT, self._about())
        return self.folder

    def _about(self, reason: str = "the process ended before it could send them") -> bytes:
        return _json(
            {
                "server": self.server,
                "command": this_command(),
                "began": self._began,
                "reason": reason,
            }
        )


def this_command() -> str:
    """host:pid:start of this process, or of the one that started it as its worker."""
    parent = multiprocessing.parent_process()
    try:
        return this_process(None if parent is None else parent.pid)
    except psutil.NoSuchProcess:  # a worker that has outlived it
        return this_process()


def spool_folders(place: Path | None = None) -> list[Path]:
    """The spools in `place` (or `place` itself, if it is one), oldest first; without it, those below `spool_root()`."""
    root = place or spool_root()
    found = (
        [root]
        if (root / _ABOUT).is_file()
        else [about.parent for about in root.glob(f"*/{_ABOUT}")]
    )
    began = {
        folder: about["began"] for folder in found if (about := _read_about(folder)) is not None
    }
    return sorted(began, key=lambda folder: began[folder])


def left_behind() -> list[PendingUploads]:
    """The spools of this command (its workers' too) that still hold writes."""
    mine = this_command()
    return [left for folder in spool_folders() if (left := left_in(folder, mine)) is not None]


def left_in(folder: Path, command: str | None = None) -> PendingUploads | None:
    """What a spool holds; None for nothing, or where it is of another command than `command`."""
    about, entries = _read_about(folder), list(_entries(folder))
    if about is None or not entries or command not in (None, about["command"]):
        return None
    return PendingUploads(
        folder,
        about["server"],
        len(entries),
        len({entry.run for entry in entries}),
        about["reason"],
    )


def runs_with_an_end() -> set[str]:
    """Ids of the runs whose true status lies in a spool of this machine and has not arrived yet."""
    found = set()
    for folder in spool_folders():
        ids = _read_ids(folder)
        found |= {
            ids.get(entry.run, entry.run) for entry in _entries(folder) if entry.kind == "end"
        }
    return found


def _entries(folder: Path) -> Iterator[Entry]:
    for file in sorted(f for f in folder.glob("*.json") if re.fullmatch(r"\d{8}", f.stem)):
        try:
            kept = json.loads(file.read_text("utf-8"))
        except FileNotFoundError:  # sent in this moment
            continue
        yield Entry(int(file.stem), kept["run"], kept["kind"], str(kept["body"].get("path", "")))


def _read_about(folder: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads((folder / _ABOUT).read_text("utf-8")))
    except FileNotFoundError:
        return None


def _read_ids(folder: Path) -> dict[str, str]:
    try:
        return dict(json.loads((folder / _IDS).read_text("utf-8")))
    except FileNotFoundError:
        return {}


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _write(file: Path, content: bytes) -> None:
    draft = file.with_name(f".{file.name}")
    with draft.open("wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    draft.rename(file)
