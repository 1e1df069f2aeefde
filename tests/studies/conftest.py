"""Fixtures for the tests of sweeps: a small study with its own state folder."""

from pathlib import Path

import pytest

from studies.study import SweepRequest


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABLATION_STATE", str(tmp_path / "state"))


@pytest.fixture
def request_(small_corpus: Path, store_uri: str, tmp_path: Path) -> SweepRequest:
    return SweepRequest(
        space="freeze",
        study="depth",
        trials=5,
        data=str(small_corpus),
        profile="smoke",
        overrides={"optimisation.epochs": 2},
        tracking_uri=store_uri,
        storage=f"sqlite:///{tmp_path / 'studies.db'}",
        pruner="none",
        sampler="grid",
    )
