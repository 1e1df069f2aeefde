"""Reading a store, and grouping the runs that may be averaged."""

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from ablation.core.errors import RunError, UsageError
from ablation.tracking import names
from ablation.tracking.runs import start_run
from ablation.tracking.store import open_store
from reports.analysis.collect import collect, read_tables
from reports.analysis.groups import describe, group_runs, pool
from reports.build import build
from tests.reports.conftest import Made


class TestCollect:
    def test_runs_carry_what_was_tracked(self, table_3: Made) -> None:
        found = collect(table_3.uri, table_3.name)
        assert len(found.runs) == 7 * 2 * 3
        run = next(r for r in found.runs if (r.variant, r.split, r.seed) == ("epm+ft", "dev2", 1))
        assert run.params["model.frozen_tuning"] == "True"
        assert run.suite == found.suites[0].run_id
        ensemble = next(r for r in found.runs if r.variant == "ensemble")
        assert set(ensemble.member_runs) == {
            "mse",
            "epm",
            "epm+cl",
            "epm+ft",
            "epm+cl+ft",
            "mse+cl",
        }

    def test_an_experiment_may_be_named_by_its_id(self, table_3: Made) -> None:
        found = collect(table_3.uri, table_3.name)
        assert collect(table_3.uri, found.experiment_id).name == table_3.name

    def test_unknown_experiments_are_answered_with_the_known_ones(self, table_3: Made) -> None:
        with pytest.raises(
            UsageError, match=r"no experiment 'ablatoin' .* did you mean 'ablation'"
        ):
            collect(table_3.uri, "ablatoin")

    def test_an_experiment_without_an_ablation_says_so(self, store_uri: str) -> None:
        open_store(store_uri).client.create_experiment("mine")
        with pytest.raises(UsageError, match="'mine' has no run of an ablation"):
            collect(store_uri, "mine")

    def test_a_report_makes_no_store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UsageError, match="there is no such file"):
            collect(None, "ablation")
        assert list(tmp_path.iterdir()) == []

    def test_a_lost_artifact_is_named(self, experiment: Callable[..., Made]) -> None:
        made = experiment(noise={"mse": 0.5}, splits=("dev1",), seeds=(0,), rows=10)
        found = collect(made.uri, made.name)
        Path(found.runs[0].artifact_uri.removeprefix("file://"), names.DEV_PREDICTIONS).unlink()
        with pytest.raises(
            RunError,
            match=f"run {found.runs[0].run_id}: its artifact predictions/dev.parquet can't be read",
        ):
            read_tables(found, found.runs, names.DEV_PREDICTIONS)

    def test_links_are_there_where_the_uis_address_is_known(self, table_3: Made) -> None:
        assert collect(table_3.uri, table_3.name).run_url("abc") == ""
        found = collect(table_3.uri, table_3.name, "http://ui:5000/")
        assert (
            found.run_url("abc") == f"http://ui:5000/#/experiments/{found.experiment_id}/runs/abc"
            "?workflowType=machine_learning"
        )

    def test_a_remote_server_serves_as_well(
        self, experiment: Callable[..., Made], tmp_path: Path
    ) -> None:
        """A real server on a free loopback port, artifacts over HTTP."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server_db = tmp_path / "server.db"
        open_store(f"sqlite:///{server_db}")
        server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "mlflow",
                "server",
                "--backend-store-uri",
                f"sqlite:///{server_db}",
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                "--workers",
                "1",
                "--artifacts-destination",
                str(tmp_path / "served"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=tmp_path,
            start_new_session=True,
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", server)
            from tests.reports.conftest import write_experiment

            made = write_experiment(
                f"http://127.0.0.1:{port}",
                noise={"mse": 0.5, "epm": 0.4},
                splits=("dev1",),
                seeds=(0,),
                rows=10,
            )
            built = build(made.request(), tmp_path / "report")
            assert (built.folder / "report.pdf").read_bytes().startswith(b"%PDF")
            assert f"http://127.0.0.1:{port}/#/experiments/" in (
                built.folder / "report.html"
            ).read_text("utf-8")
            logged = {f.path for f in made.store.client.list_artifacts(str(built.suite), "report")}
            assert {
                "report/report.pdf",
                "report/report.html",
                "report/numbers.json",
                "report/tables",
                "report/figures",
            } <= logged
        finally:
            import os
            import signal

            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail("the server did not start")


class TestGroups:
    def test_what_differs_in_variant_split_and_seed_alone_is_one_group(self, table_3: Made) -> None:
        groups = group_runs(collect(table_3.uri, table_3.name))
        assert len(groups) == 1
        assert len(groups[0].runs) == 42
        assert groups[0].splits == ["dev1", "dev2"]
        assert groups[0].seeds == [0, 1, 2]

    @pytest.mark.parametrize(
        ("other", "told"),
        [
            ({"settings": {"optimisation.epochs": 3}}, "optimisation.epochs 3"),
            (
                {"settings": {"optimisation.precision": "bfloat16"}},
                "optimisation.precision bfloat16",
            ),
            ({"settings": {"optimisation.lr_head": 0.5}}, "optimisation.lr_head 0.5"),
            ({"data": "x" * 40}, "data xxxxxxxxxx"),
            ({"code": "y" * 40}, "code version yyyyyyyyyy"),
        ],
    )
    def test_other_settings_data_or_code_make_another_group(
        self, experiment: Callable[..., Made], other: dict[str, object], told: str
    ) -> None:
        small = {
            "noise": {"mse": 0.5, "ensemble": 0.0},
            "splits": ("dev1",),
            "seeds": (0,),
            "rows": 10,
        }
        experiment(**small)
        made = experiment(**small, **other)
        groups = group_runs(collect(made.uri, made.name))
        assert [len(g.runs) for g in groups] == [2, 2]  # the ensemble goes with its members
        assert describe(groups[0], groups[1:]) == told  # the newest suite's is first

    def test_a_run_trained_again_replaces_the_earlier_one(
        self, experiment: Callable[..., Made]
    ) -> None:
        small = {"noise": {"mse": 0.5}, "splits": ("dev1",), "seeds": (0,), "rows": 10}
        experiment(**small)
        made = experiment(**small)
        (group,) = group_runs(collect(made.uri, made.name))
        assert len(group.runs) == len(group.repeats) == 1
        replaced, newest = collect(made.uri, made.name).runs
        assert (group.repeats, group.runs) == ((replaced,), (newest,))
        assert newest.suite == collect(made.uri, made.name).suites[-1].run_id

    def test_the_baseline_stands_with_the_runs_of_another_encoder(
        self, experiment: Callable[..., Made]
    ) -> None:
        made = experiment(
            noise={"mse": 0.5, "baseline": 0.5}, splits=("dev1",), seeds=(0,), rows=10
        )
        found = collect(made.uri, made.name)
        baseline = next(r for r in found.runs if r.variant == "baseline")
        made.store.client.set_tag(baseline.run_id, f"{names.IDENTITY_PART}encoder", "another")
        (group,) = group_runs(collect(made.uri, made.name))
        assert group.variants == ["mse", "baseline"]

    def test_mixing_is_by_force_and_says_what_was_mixed(
        self, experiment: Callable[..., Made]
    ) -> None:
        experiment(noise={"mse": 0.5}, splits=("dev1",), seeds=(0,), rows=10)
        made = experiment(
            noise={"epm": 0.5},
            splits=("dev1",),
            seeds=(0,),
            rows=10,
            settings={"optimisation.epochs": 3},
        )
        mixed = pool(group_runs(collect(made.uri, made.name)))
        assert mixed.variants == ["mse", "epm"]
        assert mixed.mixed == ("optimisation.epochs",)

    def test_unfinished_runs_belong_to_no_group(self, experiment: Callable[..., Made]) -> None:
        made = experiment(noise={"mse": 0.5}, splits=("dev1",), seeds=(0,), rows=10)
        found = collect(made.uri, made.name)
        tags = {names.KIND: names.RUN, names.VARIANT: "epm", names.SPLIT: "dev1", names.SEED: 0}
        start_run(made.store, found.experiment_id, "epm", tags).end("FAILED", "it broke")
        found = collect(made.uri, made.name)
        assert len(found.runs) == 2
        assert [r.variant for g in group_runs(found) for r in g.runs] == ["mse"]
