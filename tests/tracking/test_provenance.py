"""Provenance of results: commit, uncommitted changes, versions and machine."""

import subprocess
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_limits

from ablation.tracking import provenance


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "ablation").mkdir()
    (tmp_path / "ablation" / "__init__.py").write_text("x = 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    monkeypatch.setattr(provenance, "files", lambda name: tmp_path / "ablation")
    return tmp_path


def test_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    source = provenance.source()
    assert source.commit == git(checkout, "rev-parse", "HEAD")
    assert not source.dirty
    assert source.diff == ""


def test_an_uncommitted_change_is_told_and_kept(checkout: Path) -> None:
    (checkout / "ablation" / "__init__.py").write_text("x = 2\n")
    source = provenance.source()
    assert source.dirty
    assert "-x = 1\n+x = 2" in source.diff


def test_a_copy_inside_somebody_elses_repository_has_no_commit(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = checkout / "lib" / "ablation"
    foreign.mkdir(parents=True)
    monkeypatch.setattr(provenance, "files", lambda name: foreign)
    assert provenance.source() == provenance.Source(None, False, "")


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert provenance.source().commit is None


def test_the_environment_names_packages_and_machine() -> None:
    environment = provenance.environment()
    assert environment["packages"]["mlflow"]
    assert environment["cores"] >= 1
    assert environment["processor"]
    assert environment["cpu_capability"]
    assert environment["blas"]


def test_threads_are_those_of_the_moment() -> None:
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            with threadpool_limits(threads, user_api="blas"):
                environment = provenance.environment()
            assert environment["torch_threads"] == threads
            assert {
                pool["threads"] for pool in environment["thread_pools"] if "blas" in pool["library"]
            } == {threads}
    finally:
        torch.set_num_threads(before)


def test_the_rest_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = provenance.environment()
    monkeypatch.setattr(provenance, "distributions", lambda: pytest.fail("read again"))
    assert provenance.environment() == first
