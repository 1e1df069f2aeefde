"""The precision "auto" is the faster one on this machine: measured once, then kept."""

from pathlib import Path

import pytest

from ablation.config.overrides import resolve_config
from ablation.runs import matmul_peak
from ablation.runs.precision import AUTO, FIELD, fastest_precision, resolve_precision
from ablation.runs.request import RunRequest


@pytest.fixture(params=[True, False])
def pays(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Say if the machine is faster in bfloat16."""
    answer = bool(request.param)
    monkeypatch.setattr(matmul_peak, "bfloat16_pays", lambda device: answer)
    return answer


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was measured on this machine yet."""
    monkeypatch.setenv("ABLATION_STATE", str(tmp_path))


class TestAuto:
    def test_is_replaced_everywhere_before_a_run_has_an_identity(self, pays: bool) -> None:
        expected = "bfloat16" if pays else "float32"
        resolved = resolve_precision(
            {FIELD: AUTO, "loss.tau": 0.1, "variant.epm": {FIELD: AUTO, "loss.tau": 0.2}}
        )
        assert resolved == {
            FIELD: expected,
            "loss.tau": 0.1,
            "variant.epm": {FIELD: expected, "loss.tau": 0.2},
        }
        settings = RunRequest(profile="small").settings
        assert resolve_config(settings, "mse").optimisation.precision == expected

    def test_is_measured_once_a_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[object] = []
        monkeypatch.setattr(matmul_peak, "bfloat16_pays", lambda device: asked.append(device))
        assert [fastest_precision() for _ in range(3)] == ["float32"] * 3
        assert len(asked) == 1

    def test_gives_way_to_a_named_precision(self, pays: bool) -> None:
        request = RunRequest(profile="small", overrides={FIELD: "float32"})
        assert request.settings[FIELD] == "float32"
