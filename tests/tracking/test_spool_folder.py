"""Spools on the disk: what a killed process leaves, who may read it, and in which order."""

import json
import stat
from pathlib import Path

import pytest

from ablation.tracking.spool import (
    Spool,
    pending_in,
    pending_uploads,
    runs_with_pending_end,
    spool_folders,
    spool_root,
)

SERVER = "http://tracking.example.org"


@pytest.fixture(autouse=True)
def _state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ABLATION_STATE", str(tmp_path / "state"))


def folder_of(spool: Spool) -> Path:
    assert spool.folder is not None
    return spool.folder


def test_a_spool_is_taken_up_as_its_process_left_it() -> None:
    spool = Spool(SERVER)
    spool.append("run", "create", {"name": "r"})
    sent = spool.append("run", "batch", {"tags": [("colour", "red")]})
    spool.append("run", "artifact", {"path": "deep/a.txt"}, b"hello")
    spool.set_server_id("run", "1" * 32)
    spool.remove(sent)
    assert Spool.open_existing(folder_of(spool)) is None, "its process still runs"
    spool.release()

    again = Spool.open_existing(folder_of(spool))
    assert again is not None
    assert again.server == SERVER
    assert again.server_ids == {"run": "1" * 32}
    assert [entry.kind for entry in again.entries] == ["create", "artifact"]
    assert json.loads(again.body(again.entries[0])) == {"name": "r"}
    assert again.content(again.entries[1]) == b"hello"
    later = again.append("run", "end", {"status": "FINISHED"})
    assert later.number > max(entry.number for entry in again.entries[:-1])


def test_what_is_not_complete_is_not_there() -> None:
    spool = Spool(SERVER)
    spool.append("run", "create", {})
    folder = folder_of(spool)
    (folder / ".00000002.json.1234-abcd.part").write_text('{"run": "ru')
    (folder / "00000003.bin").write_bytes(b"an artifact whose entry was not written")
    spool.release()
    again = Spool.open_existing(folder)
    assert again is not None
    assert [entry.number for entry in again.entries] == [1]


def test_nobody_else_can_read_a_spool() -> None:
    spool = Spool(SERVER)
    spool.append("run", "artifact", {"path": "posts.txt"}, b"somebody's words")
    for folder in (spool_root(), folder_of(spool)):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_an_empty_spool_leaves_nothing() -> None:
    spool = Spool(SERVER)
    spool.discard()
    entry = spool.append("run", "create", {})
    spool.discard()
    assert spool_folders() == [folder_of(spool)], "what is not sent was discarded"
    spool.remove(entry)
    spool.discard()
    assert spool_folders() == []
    assert list(spool_root().iterdir()) == []


def test_spools_come_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    folders = []
    for began in (3.0, 1.0, 2.0):
        monkeypatch.setattr("time.time", lambda began=began: began)
        spool = Spool(SERVER)
        spool.append("run", "create", {})
        folders.append(folder_of(spool))
    assert spool_folders() == [folders[1], folders[2], folders[0]]
    assert spool_folders(spool_root()) == spool_folders()
    assert spool_folders(folders[0]) == [folders[0]]


def test_only_this_commands_writes_are_counted_as_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(SERVER)
    for run in ("a", "a", "b"):
        spool.append(run, "batch", {})
    spool.set_reason("no answer")
    (pending,) = pending_uploads()
    assert (pending.writes, pending.runs, pending.server) == (3, 2, SERVER)
    assert pending.reason == "no answer"
    monkeypatch.setattr("ablation.tracking.spool.this_command", lambda: "another:1:1")
    assert pending_uploads() == []
    assert pending_in(folder_of(spool)) == pending


def test_runs_whose_end_waits_are_known_by_the_servers_id() -> None:
    spool = Spool(SERVER)
    spool.append("created", "end", {"status": "FINISHED"})
    spool.append("queued", "end", {"status": "FAILED"})
    spool.append("running", "batch", {})
    spool.set_server_id("created", "1" * 32)
    assert runs_with_pending_end() == {"1" * 32, "queued"}
