"""A full disk and a read-only folder: one clear line, and earlier results intact."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ablation.core.errors import RunError
from ablation.core.identity import RunKey
from ablation.runs.request import RunRequest, resolve_run
from ablation.runs.runner import run_plan
from ablation.tracking import names
from ablation.tracking.runs import start_run
from ablation.tracking.store import experiment_id, open_store
from ablation.training import train_run
from tests.commands import completed
from tests.runs.test_runner import quiet, runs_of

Mount = Callable[[str, str], Path]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mount]:
    """Mounts a file system of its own in the test's folder; skips where that is not allowed."""
    made: list[Path] = []

    def mount(name: str, options: str) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            pytest.skip(
                f"no file system can be mounted here (that takes root): {done.stderr.strip()}"
            )
        made.append(folder)
        return folder

    yield mount
    for folder in made:
        subprocess.run(
            ["umount", "--lazy", str(folder)], check=True
        )  # a database may still be open


def test_a_full_state_folder_fails_the_run_with_its_reason_and_keeps_earlier_results(
    mounted: Mount, small_corpus: Path, store_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = RunRequest(
        data=str(small_corpus),
        profile="smoke",
        variants=("mse",),
        splits=("dev1",),
        tracking_uri=store_uri,
    )
    (before,) = run_plan(resolve_run(asked), quiet())
    full = mounted("full", "size=200k,mode=0755")
    monkeypatch.setenv("ABLATION_STATE", str(full))
    outcomes = run_plan(
        resolve_run(RunRequest(**{**asked.__dict__, "variants": ("mse", "epm")})), quiet()
    )
    assert [outcome.state for outcome in outcomes] == ["reused", "failed"]
    assert outcomes[1].reason.startswith(f"RunError: checkpoint in {full}")
    assert outcomes[1].reason.endswith("set ABLATION_STATE to another folder")
    store = open_store(store_uri)
    failed = next(run for run in runs_of(store, names.RUN) if run.info.status == "FAILED")
    assert failed.data.tags[names.REASON] == outcomes[1].reason
    assert resolve_run(asked).runs[0].run_id == before.run_id


def test_a_full_temporary_folder_is_named(
    mounted: Mount, store_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(store_uri)
    tracked = start_run(store, experiment_id(store, "full"), "run", {})
    full = mounted("temporary", "size=4k")
    monkeypatch.setattr("tempfile.tempdir", str(full))
    with pytest.raises(RunError, match=f"folder {full}.*No space left.*set TMPDIR"):
        tracked.log_text("a.txt", "x" * 10_000)
    tracked.end("FAILED")


def test_a_full_tracking_folder_is_told_and_leaves_what_was_there(
    mounted: Mount, small_corpus: Path, empty_store: Path, tmp_path: Path
) -> None:
    folder = mounted("tracking", "size=1400k")
    shutil.copy(empty_store, folder / "mlflow.db")
    before = open_store(f"sqlite:///{folder / 'mlflow.db'}")
    kept = before.client.create_run(before.client.create_experiment("kept"), run_name="kept")
    before.client.set_terminated(kept.info.run_id, "FINISHED")
    (folder / "ballast").write_bytes(b"0" * max(0, shutil.disk_usage(folder).free - 40_000))
    code, _, errors = completed(
        [
            "run",
            "--data",
            str(small_corpus),
            "--profile",
            "smoke",
            "--variants",
            "mse",
            "--splits",
            "dev1",
            "--tracking-uri",
            f"sqlite:///{folder / 'mlflow.db'}",
        ],
        tmp_path,
    )
    assert code in (1, 2)
    (told,) = errors.splitlines()
    assert told.startswith("ablation: ")
    assert str(folder) in told
    assert "disk is full" in told or "No space left" in told, errors
    (folder / "ballast").unlink()
    assert before.client.get_run(kept.info.run_id).info.status == "FINISHED"


def test_a_tracking_folder_that_is_read_only_is_one_clear_line(
    mounted: Mount, small_corpus: Path, tmp_path: Path
) -> None:
    folder = mounted("tracking", "ro")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    code, _, errors = completed(
        ["run", "--data", str(small_corpus), "--profile", "smoke", "--tracking-uri", uri], tmp_path
    )
    assert code == 2
    assert errors.startswith("ablation: tracking store")
    assert "Read-only file system" in errors
    assert len(errors.splitlines()) == 1


def test_memory_that_is_not_there_fails_that_run_and_no_other(
    small_corpus: Path, store_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = train_run.train_run

    def greedy(prepared: Any, config: Any, key: RunKey, *rest: Any) -> Any:
        if key.variant == "mse":
            torch.empty(2**60)  # more than any machine has: the allocator's own error
        return real(prepared, config, key, *rest)

    monkeypatch.setattr(train_run, "train_run", greedy)
    asked = RunRequest(
        data=str(small_corpus),
        profile="smoke",
        variants=("mse", "epm"),
        splits=("dev1",),
        tracking_uri=store_uri,
    )
    outcomes = run_plan(resolve_run(asked), quiet())
    assert [outcome.state for outcome in outcomes] == ["failed", "finished"]
    assert "memory" in outcomes[0].reason
    assert "\n" not in outcomes[0].reason
    (failed,) = [
        run for run in runs_of(open_store(store_uri), names.RUN) if run.info.status == "FAILED"
    ]
    assert failed.data.tags[names.REASON] == outcomes[0].reason
