"""Copies of checkpoints at a URL: a run goes on from them where its disk is not."""

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pytest
from rich.console import Console

from ablation.core.errors import UsageError
from ablation.core.identity import RunKey
from ablation.runs.progress import Progress
from ablation.runs.request import RunRequest, resolve_run
from ablation.runs.results import RunOutcome
from ablation.runs.runner import run_plan
from ablation.tracking import names
from ablation.tracking.reading import read_frame
from ablation.tracking.store import open_store

EPOCHS = 5


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A folder in this process's memory, of the test's own."""
    return f"memory://{tmp_path}/copies"


@pytest.fixture
def request_(small_corpus: Path, store_uri: str, url: str) -> RunRequest:
    return RunRequest(
        data=small_corpus,
        profile="smoke",
        variants=("mse",),
        splits=("dev1",),
        overrides={"optimisation.epochs": EPOCHS},
        tracking_uri=store_uri,
        checkpoints=url,
    )


def copies(url: str) -> list[str]:
    files, root = fsspec.url_to_fs(url)
    return sorted(Path(path).name for path in files.find(root))


def on_a_machine(
    folder: Path, request: RunRequest, monkeypatch: pytest.MonkeyPatch, until: int = EPOCHS
) -> tuple[list[RunOutcome], str]:
    """Run with a state folder, and return what came out and was said.

    It is interrupted when epoch `until` has ended, unless that is the last.
    """
    real, screen = Progress.epoch, io.StringIO()

    def epoch(shown: Progress, key: RunKey, number: int, scores: Mapping[str, float]) -> None:
        real(shown, key, number, scores)
        if number == until < EPOCHS:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setenv("ABLATION_STATE", str(folder))
        patch.setattr(Progress, "epoch", epoch)
        outcomes = []
        try:
            outcomes = run_plan(resolve_run(request), Progress(Console(file=screen, width=200)))
        except KeyboardInterrupt:
            assert until < EPOCHS
    return outcomes, screen.getvalue()


def test_a_run_goes_on_with_another_state_folder_to_the_same_numbers(
    request_: RunRequest, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_machine(tmp_path / "a", request_, monkeypatch, until=3)
    files = [f"epoch-00000{epoch}.{end}" for epoch in (2, 3) for end in ("json", "safetensors")]
    assert copies(url) == files
    (outcome,), said = on_a_machine(tmp_path / "b", request_, monkeypatch)
    assert "resumed after epoch 3" in said
    assert copies(url) == [], "what has finished needs no checkpoint"
    alone = replace(request_, fresh=True, checkpoints="")
    (undisturbed,), _ = on_a_machine(tmp_path / "c", alone, monkeypatch)
    store = open_store(request_.tracking_uri)
    frames = [
        read_frame(store, str(run.run_id), names.DEV_PREDICTIONS) for run in (outcome, undisturbed)
    ]
    pd.testing.assert_frame_equal(*frames, check_exact=True)


def test_a_damaged_copy_is_passed_over(
    request_: RunRequest, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_machine(tmp_path / "a", request_, monkeypatch, until=3)
    files, root = fsspec.url_to_fs(url)
    (newest,) = (path for path in files.find(root) if path.endswith("3.safetensors"))
    files.pipe_file(newest, files.cat_file(newest)[:-3])
    _, said = on_a_machine(tmp_path / "b", request_, monkeypatch)
    assert "removed corrupt or incomplete checkpoints: epoch-000003" in said
    assert "resumed after epoch 2" in said


def test_a_machines_own_newer_checkpoint_is_not_replaced(
    request_: RunRequest, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_machine(tmp_path / "a", request_, monkeypatch, until=2)
    on_a_machine(tmp_path / "a", replace(request_, checkpoints=""), monkeypatch, until=4)
    _, said = on_a_machine(tmp_path / "a", request_, monkeypatch)
    assert "resumed after epoch 4" in said


def test_a_url_that_can_not_be_written_fails_no_run(
    request_: RunRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").write_text("")
    nowhere = replace(request_, checkpoints=f"file://{tmp_path}/a file/copies")
    (outcome,), said = on_a_machine(tmp_path / "a", nowhere, monkeypatch)
    assert outcome.state == "finished"
    assert said.count("--checkpoints ") == 1


@pytest.mark.parametrize("address", ["nonsense://bucket", "ipfs-of-nobody://x/y"])
def test_an_unknown_kind_of_url_is_refused_before_anything_is_trained(
    address: str, request_: RunRequest
) -> None:
    changed: dict[str, Any] = {"checkpoints": address}
    with pytest.raises(UsageError, match=f"--checkpoints {address}: can't be used"):
        resolve_run(replace(request_, **changed))
