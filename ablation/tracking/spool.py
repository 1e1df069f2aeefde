"""Store writes to a tracking server in a folder until the server has acknowledged them.

Each process that writes has one folder below `spool_root()`:

- `spool.json`: the server's address without credentials, the command that wrote, and why the
  writes are still there;
- `ids.json`: the runs that the server created, from the id used here to the server's id;
- `00000001.json` and, for an artifact, `00000001.bin`: one write, numbered in order of writing;
- `lock`: held while a process writes or sends.

Every file is written atomically and flushed to the disk, so a file that exists is complete.
"""

import json
import multiprocessing
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

from ablation.core.files import write_atomically
from ablation.core.locks import require_state_locks
from ablation.core.state import state_folder
from ablation.tracking.process_id import this_process

Kind = Literal["create", "batch", "inputs", "artifact", "end"]
_ABOUT: Final = "spool.json"
_IDS: Final = "ids.json"
_LOCK: Final = "lock"
_DEFAULT_REASON: Final = "the process ended before it could send them"


def spool_root() -> Path:
    """Return the folder of all spools: `spool` in the suite's state folder."""
    return state_folder() / "spool"


@dataclass(frozen=True)
class Entry:
    """One write.

    Attributes:
        number: Its place in the order of writing, from 1.
        run: The id by which its run is known in this process.
        kind: The request that it becomes.
        path: An artifact's path in its run, otherwise empty.
    """

    number: int
    run: str
    kind: Kind
    path: str = ""


@dataclass(frozen=True)
class PendingUploads:
    """A spool folder with writes that its server has not received.

    Attributes:
        folder: The spool.
        server: The server's address, without credentials.
        writes: Number of writes.
        runs: Number of runs that they belong to.
        reason: Why they have not been sent, in one line.
    """

    folder: Path
    server: str
    writes: int
    runs: int
    reason: str


class Spool:
    """The writes of this process to `server`, oldest first.

    Not safe for threads; `Delivery` locks around it. The first write creates the folder and
    `discard` removes it. Methods raise OSError if the disk fails.
    """

    def __init__(self, server: str) -> None:
        self.server = server
        self.folder: Path | None = None
        self.entries: list[Entry] = []
        #: Ids of the runs that the server created, by the id used in this process.
        self.server_ids: dict[str, str] = {}
        self._last = 0
        self._began = 0.0
        self._lock: FileLock | None = None

    @classmethod
    def open_existing(cls, folder: Path) -> "Spool | None":
        """Open the spool that another process left in `folder`.

        Returns None while a process still uses it, and if all of it has just been sent.
        """
        require_state_locks()
        lock = FileLock(folder / _LOCK, thread_local=False)
        try:
            lock.acquire(timeout=0)
            about = json.loads((folder / _ABOUT).read_text("utf-8"))
        except (Timeout, FileNotFoundError):
            lock.release()
            return None
        spool = cls(about["server"])
        spool.folder, spool._lock, spool._began = folder, lock, about["began"]
        spool.entries, spool.server_ids = list(_entries(folder)), _read_ids(folder)
        spool._last = max((entry.number for entry in spool.entries), default=0)
        return spool

    def append(
        self, run: str, kind: Kind, body: Mapping[str, Any], content: bytes | None = None
    ) -> Entry:
        """Store one write; an artifact's `content` goes first, so that its entry is complete."""
        folder = self._ensure_folder()
        self._last += 1
        entry = Entry(self._last, run, kind, str(body.get("path", "")))
        if content is not None:
            write_atomically(folder / f"{entry.number:08d}.bin", content)
        write_atomically(
            folder / f"{entry.number:08d}.json",
            json.dumps({"run": run, "kind": kind, "body": body}),
        )
        self.entries.append(entry)
        return entry

    def body(self, entry: Entry) -> str:
        """Return what is to be written, as JSON."""
        assert self.folder is not None
        stored = json.loads((self.folder / f"{entry.number:08d}.json").read_text("utf-8"))
        return json.dumps(stored["body"])

    def content(self, entry: Entry) -> bytes:
        """Return an artifact's bytes."""
        assert self.folder is not None
        return (self.folder / f"{entry.number:08d}.bin").read_bytes()

    def set_server_id(self, run: str, run_id: str) -> None:
        """Record that the server created `run` under the id `run_id`."""
        self.server_ids[run] = run_id
        write_atomically(self._ensure_folder() / _IDS, json.dumps(self.server_ids))

    def remove(self, entry: Entry) -> None:
        """Remove a write that the server has acknowledged."""
        if entry in self.entries and self.folder is not None:
            self.entries.remove(entry)
            for suffix in ("json", "bin"):
                (self.folder / f"{entry.number:08d}.{suffix}").unlink(missing_ok=True)

    def set_reason(self, reason: str) -> None:
        """Record why the writes are still there."""
        write_atomically(self._ensure_folder() / _ABOUT, self._about(reason))

    def discard(self) -> None:
        """Remove the folder if nothing in it remains to be sent."""
        if self.entries or self.folder is None:
            return
        # Without this file the folder is no spool, even if removing the rest fails.
        (self.folder / _ABOUT).unlink(missing_ok=True)
        self.release()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder = None

    def release(self) -> None:
        """Let other processes open the spool."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _ensure_folder(self) -> Path:
        if self.folder is None:
            root = spool_root()
            require_state_locks()
            # Artifacts hold people's posts: no other user of this machine may read them.
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder = root / uuid.uuid4().hex[:12]
            folder.mkdir(mode=0o700)
            # Different threads acquire and release it.
            self._lock = FileLock(folder / _LOCK, thread_local=False)
            self._lock.acquire()
            self.folder, self._began = folder, time.time()
            if self.server_ids:
                write_atomically(folder / _IDS, json.dumps(self.server_ids))
            write_atomically(folder / _ABOUT, self._about())
        return self.folder

    def _about(self, reason: str = _DEFAULT_REASON) -> str:
        about = {
            "server": self.server,
            "command": this_command(),
            "began": self._began,
            "reason": reason,
        }
        return json.dumps(about)


def this_command() -> str:
    """Return host:pid:start of this process, or of the process whose worker this is."""
    parent = multiprocessing.parent_process()
    try:
        return this_process(None if parent is None else parent.pid)
    except psutil.NoSuchProcess:  # the worker has outlived it
        return this_process()


def spool_folders(location: Path | None = None) -> list[Path]:
    """Return the spools, oldest first.

    Args:
        location: A spool, or a folder of spools; `spool_root()` by default.
    """
    root = location or spool_root()
    if (root / _ABOUT).is_file():
        folders = [root]
    else:
        folders = [about.parent for about in root.glob(f"*/{_ABOUT}")]
    began = {
        folder: about["began"] for folder in folders if (about := _read_about(folder)) is not None
    }
    return sorted(began, key=lambda folder: began[folder])


def pending_uploads() -> list[PendingUploads]:
    """Return the spools of this command and its workers that still hold writes."""
    command = this_command()
    spools = (pending_in(folder, command) for folder in spool_folders())
    return [pending for pending in spools if pending is not None]


def pending_in(folder: Path, command: str | None = None) -> PendingUploads | None:
    """Return what a spool holds; None if it is empty or belongs to another `command`."""
    about, entries = _read_about(folder), list(_entries(folder))
    if about is None or not entries or command not in (None, about["command"]):
        return None
    return PendingUploads(
        folder=folder,
        server=about["server"],
        writes=len(entries),
        runs=len({entry.run for entry in entries}),
        reason=about["reason"],
    )


def runs_with_pending_end() -> set[str]:
    """Return ids of the runs whose final status waits in a spool of this machine."""
    runs = set()
    for folder in spool_folders():
        ids = _read_ids(folder)
        runs |= {ids.get(entry.run, entry.run) for entry in _entries(folder) if entry.kind == "end"}
    return runs


def _entries(folder: Path) -> Iterator[Entry]:
    for file in sorted(f for f in folder.glob("*.json") if re.fullmatch(r"\d{8}", f.stem)):
        try:
            stored = json.loads(file.read_text("utf-8"))
        except FileNotFoundError:  # it has just been sent
            continue
        path = str(stored["body"].get("path", ""))
        yield Entry(int(file.stem), stored["run"], stored["kind"], path)


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
