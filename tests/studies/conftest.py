"""Fixtures for the tests of sweeps: small studies with their own state folder."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from studies.outcome import conclude
from studies.study import SweepRequest, resolve_sweep
from studies.sweep import SweepResult, sweep
from tests.conftest import some_rows, write_corpus


def grid_request(corpus: Path, store_uri: str, folder: Path) -> SweepRequest:
    """Return a request for the five freeze depths of the smoke encoder, two epochs each."""
    return SweepRequest(
        space="freeze",
        study="depth",
        trials=5,
        data=str(corpus),
        profile="smoke",
        overrides={"optimisation.epochs": 2},
        tracking_uri=store_uri,
        storage=f"sqlite:///{folder / 'studies.db'}",
        pruner="none",
        sampler="grid",
    )


@dataclass(frozen=True)
class FinishedSweep:
    """A concluded sweep that several tests read; they must not change its study."""

    request: SweepRequest
    result: SweepResult
    lines: list[str]
    folder: Path

    @property
    def store_uri(self) -> str:
        return str(self.request.tracking_uri)


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABLATION_STATE", str(tmp_path / "state"))


@pytest.fixture
def request_(small_corpus: Path, store_uri: str, tmp_path: Path) -> SweepRequest:
    return grid_request(small_corpus, store_uri, tmp_path)


@pytest.fixture(scope="module")
def small_study(
    empty_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SweepRequest]:
    """A request with corpus and store of the module's own."""
    folder = tmp_path_factory.mktemp("study")
    seen = ("en", "es", "fr", "zh")
    corpus = write_corpus(
        folder / "corpus", some_rows(20, seen), some_rows(6, (*seen, "ko"), start=100)
    )
    store = shutil.copy(empty_store, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABLATION_STATE", str(folder / "state"))
        yield grid_request(corpus, f"sqlite:///{store}", folder)


@pytest.fixture(scope="module")
def finished(small_study: SweepRequest, tmp_path_factory: pytest.TempPathFactory) -> FinishedSweep:
    """The sweep of `small_study` and its outcome, once for the module."""
    lines: list[str] = []
    result = sweep(resolve_sweep(small_study), lines.append)
    folder = tmp_path_factory.mktemp("out")
    conclude(result, folder)
    return FinishedSweep(small_study, result, lines, folder)
