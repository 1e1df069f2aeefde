"""Copy a run's checkpoints to a URL and back, so that it goes on where its disk is not.

A copy is a folder below the URL, with the name of the run's own. Its files have the digests that
all checkpoints have, and the JSON file, without which there is no checkpoint, is copied last. A URL
that can't be used fails no run.
"""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import fsspec

from ablation.core.errors import UsageError, first_line
from ablation.core.files import write_atomically
from ablation.tracking.uris import redact_uri

#: Seconds between two looks for a checkpoint that has been written.
_LOOK_S: Final = 1.0
_NAME: Final = re.compile(r"epoch-\d{6,}")


def check_copies_url(url: str) -> None:
    """Raise UsageError for a URL whose kind is unknown, or whose package is missing."""
    if url:
        try:
            fsspec.url_to_fs(url)
        except (ValueError, ImportError, OSError) as error:
            where = redact_uri(url)
            raise UsageError(
                f"--checkpoints {where}: can't be used: {first_line(error)}"
            ) from error


@contextmanager
def copied_checkpoints(url: str, folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Fetch a run's newer checkpoints, and send those that are written in the block.

    Args:
        url: Where all runs' copies are; empty for none.
        folder: The run's own folder of checkpoints, whose lock this process holds.
        say: Called with a line if the URL can't be read or written; the run goes on.
    """
    if not url:
        yield
        return
    copies = _Copies(url, folder, say)
    copies.fetch()
    ended = threading.Event()
    thread = threading.Thread(target=copies.send_until, args=(ended,), name="copies", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def remove_copies(url: str, folder: Path, say: Callable[[str], None]) -> None:
    """Remove the copies of a run that needs no checkpoints any more."""
    if url:
        _Copies(url, folder, say).remove()


@dataclass
class _Copies:
    """The copies of one run's checkpoints; `sent` are those that are known to be there."""

    url: str
    folder: Path
    say: Callable[[str], None]
    sent: set[str] = field(default_factory=set)
    has_failed: bool = False

    def fetch(self) -> None:
        """Copy the checkpoints here that are newer than the run's own."""
        with self._reported("read"):
            files, root = self._place()
            there = self._names(files, root)
            self.sent |= set(there)
            if self.folder.is_symlink():
                return  # which is refused where it would be read
            here = max((file.stem for file in self.folder.glob("epoch-*.json")), default="")
            for name in [name for name in there[-_kept() :] if name > here]:
                self.folder.mkdir(parents=True, exist_ok=True)
                draft = self.folder / f"{name}.part"
                files.get_file(f"{root}/{name}.safetensors", str(draft))
                draft.replace(draft.with_suffix(".safetensors"))
                content = files.cat_file(f"{root}/{name}.json")
                write_atomically(self.folder / f"{name}.json", content)

    def send_until(self, ended: threading.Event) -> None:
        """Send checkpoints as they are written, and a last time once the run has `ended`."""
        while not ended.wait(_LOOK_S):
            self.send()
        self.send()

    def send(self) -> None:
        """Send the checkpoints that are not there yet, and remove older ones there."""
        new = sorted({file.stem for file in self.folder.glob("epoch-*.json")} - self.sent)
        if not new:
            return
        with self._reported("written"):
            files, root = self._place()
            files.makedirs(root, exist_ok=True)
            for name in new:
                try:
                    for ending in ("safetensors", "json"):
                        files.put_file(
                            str(self.folder / f"{name}.{ending}"), f"{root}/{name}.{ending}"
                        )
                except FileNotFoundError:  # newer ones have replaced it
                    continue
                self.sent.add(name)
            for old in self._names(files, root)[: -_kept()]:
                files.rm_file(f"{root}/{old}.json")
                files.rm_file(f"{root}/{old}.safetensors")

    def remove(self) -> None:
        """Remove the run's folder there."""
        with self._reported("cleared"):
            files, root = self._place()
            if files.exists(root):
                files.rm(root, recursive=True)

    def _place(self) -> tuple[Any, str]:
        files, root = fsspec.url_to_fs(self.url)
        return files, f"{root.rstrip('/')}/{self.folder.name}"

    def _names(self, files: Any, root: str) -> list[str]:
        """Return the names of the checkpoints there, the newest last."""
        files.invalidate_cache(root)
        if not files.exists(root):
            return []
        stems = [Path(path).stem for path in files.ls(root, detail=False) if path.endswith(".json")]
        return sorted(stem for stem in stems if _NAME.fullmatch(stem))

    @contextmanager
    def _reported(self, done: str) -> Iterator[None]:
        """Say once that the URL can't be used, and go on."""
        try:
            yield
        except Exception as error:  # each kind of storage raises its own
            if not self.has_failed:
                self.has_failed = True
                reason = redact_uri(first_line(error)) or type(error).__name__
                self.say(f"--checkpoints {redact_uri(self.url)}: can't be {done}: {reason}")


def _kept() -> int:
    """Return the number of checkpoints that a run keeps."""
    from ablation.training.checkpoints import KEPT_PER_RUN  # loads torch, which a plan needs not

    return KEPT_PER_RUN
