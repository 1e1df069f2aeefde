"""The electricity of runs, measured by codecarbon without a network."""

import io
import json
import socket
import sys
from pathlib import Path

import pytest
from rich.console import Console

from ablation.core.errors import UsageError
from ablation.runs.energy import EnergyMeter
from ablation.runs.progress import Progress
from ablation.runs.request import RunRequest, resolve_run
from ablation.runs.runner import run_plan
from ablation.tracking import names
from ablation.tracking.store import open_store
from reports.build import ReportRequest, build


def test_a_run_has_its_electricity_and_the_report_shows_it(
    small_corpus: Path, store_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("codecarbon", reason="pip install -e '.[test]'")
    asked: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: asked.append(address))
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    request = RunRequest(
        data=str(small_corpus),
        profile="smoke",
        variants=("mse", "epm"),
        splits=("dev1",),
        overrides={"optimisation.epochs": 1},
        tracking_uri=store_uri,
        energy="FRA",
    )
    outcomes = run_plan(resolve_run(request), Progress(Console(file=io.StringIO())))
    client = open_store(store_uri).client
    for outcome in outcomes:
        assert outcome.run_id
        run = client.get_run(outcome.run_id)
        energy = json.loads(run.data.tags[names.ENERGY])
        assert energy["wh"] > 0
        assert 0 < energy["co2_g"] < energy["wh"]  # less than 1,000 g a kWh
        assert run.data.metrics["cost/energy_wh"] == energy["wh"]
    assert asked == []
    written = {file.name for file in set(tmp_path.iterdir()) - before}
    assert not [name for name in written if "emission" in name]
    built = build(ReportRequest(tracking_uri=store_uri), tmp_path / "report", log=False)
    table = next(table for table in built.report.tables if table.id == "cost")
    assert "Wh a run" in [column.title for column in table.columns]
    assert any("FRA" in note for note in table.notes)


@pytest.mark.parametrize("country", ["XXX", "FR", "France", "../../x"])
def test_an_unknown_country_is_one_line_before_anything_is_trained(country: str) -> None:
    pytest.importorskip("codecarbon", reason="pip install -e '.[test]'")
    with pytest.raises(UsageError, match="--energy"):
        EnergyMeter(country)


def test_without_codecarbon_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    with pytest.raises(UsageError, match=r"ablation-suite\[energy\]"):
        EnergyMeter("FRA")


def test_what_can_not_be_measured_is_trained_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("codecarbon", reason="pip install -e '.[test]'")
    meter = EnergyMeter("FRA")

    class Broken:
        def start_task(self) -> None:
            raise OSError("no counters")

    meter._tracker = Broken()
    assert meter.measure(lambda: 3) == (3, None)
