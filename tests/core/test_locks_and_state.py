"""Locks between processes, and the folder of a machine's state."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from ablation.core.errors import RunError, UsageError
from ablation.core.locks import lock, try_lock
from ablation.core.state import checkpoints_root, run_slot, state_folder
from ablation.runs.plan import digest_encoders
from ablation.tracking.store import open_store
from studies.storage import open_storage


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("ABLATION_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def is_free_elsewhere(slot: str) -> bool:
    """Try the lock in another process."""
    script = (
        f"from ablation.core.locks import try_lock\nwith try_lock({slot!r}) as held: print(held)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    return done.stdout.strip() == "True"


def test_a_lock_keeps_other_processes_out_until_its_block_ends() -> None:
    with try_lock("run") as held:
        assert held
        assert not is_free_elsewhere("run")
        assert is_free_elsewhere("another run")
    assert is_free_elsewhere("run")
    with lock("run"):
        assert not is_free_elsewhere("run")


def test_a_lock_is_released_by_an_error() -> None:
    with pytest.raises(ValueError, match="boom"), try_lock("run"):
        raise ValueError("boom")
    assert is_free_elsewhere("run")


def test_a_state_folder_that_can_not_be_written_is_named(state: Path) -> None:
    state.write_text("a file")
    with pytest.raises(RunError, match=r"can't be written: .*set ABLATION_STATE"), try_lock("run"):
        pass


def test_the_state_folder_is_that_of_the_environment(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert state_folder() == state
    assert checkpoints_root().parent == state
    monkeypatch.setenv("ABLATION_STATE", "~/state")
    assert state_folder() == Path.home() / "state"
    monkeypatch.delenv("ABLATION_STATE")
    assert state_folder().name == "ablation-suite"


@pytest.mark.skipif(sys.platform == "win32", reason="has other locks")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
class TestWithoutLocks:
    """File systems that answer every flock with an error: one line names the folder."""

    @pytest.fixture(autouse=True)
    def _no_flock(self, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("fcntl.flock", fail)

    @pytest.mark.parametrize("take", [lock, try_lock])
    def test_the_state_folder(
        self, take: Callable[[str], AbstractContextManager[object]], state: Path
    ) -> None:
        with pytest.raises(RunError, match=r"has no locks .*; set ABLATION_STATE to") as raised:
            take("run").__enter__()
        assert str(state) in str(raised.value)

    def test_a_store(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"store\.db: can't be used: .* has no locks"):
            open_store(f"sqlite:///{tmp_path / 'store.db'}")

    @pytest.mark.parametrize("url", ["sqlite:///{}/studies.db", "journal:{}/studies.log"])
    def test_the_storage_of_a_study(self, url: str, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"studies\.\w+: can't be used: .* has no locks"):
            open_storage(url.format(tmp_path))

    def test_the_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ABLATION_CACHE", str(tmp_path / "cache"))
        with pytest.raises(RunError, match=r"has no locks .*; set ABLATION_CACHE to"):
            digest_encoders(["tiny"])


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no users to tell apart")
def test_a_state_folder_that_everybody_can_write_to_is_refused(state: Path) -> None:
    with try_lock("run") as acquired:
        assert acquired
    assert state.stat().st_mode & 0o077 == 0, "made for its user alone"
    state.chmod(0o777)
    with pytest.raises(RunError, match="every user of this machine can write to it; run: chmod"):
        try_lock("run").__enter__()


def test_every_part_counts_in_a_runs_slot() -> None:
    parts = ("store", "1", "identity")
    others = [("stor", "e1", "identity"), ("store", "2", "identity"), ("store", "1", "x")]
    slots = {run_slot(*parts), *(run_slot(*other) for other in others)}
    assert len(slots) == 4
    assert run_slot(*parts) == run_slot(*parts)
    assert all(slot.isalnum() for slot in slots)
