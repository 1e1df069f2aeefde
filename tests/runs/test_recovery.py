"""Real processes, really killed: the same command goes on, and ends as if nothing had happened."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import psutil
import pytest
from mlflow.entities import Run
from safetensors.torch import load_file

from ablation.cli.main import main
from ablation.core.locks import try_lock
from ablation.core.state import run_slot, state_folder
from ablation.tracking import names
from ablation.tracking.reading import read_frame
from ablation.tracking.store import Store, open_store
from tests.commands import Command, completed
from tests.conftest import some_rows, write_corpus


def command(
    corpus: Path, uri: str, out: Path, *more: str, variants: str = "mse,epm+cl", epochs: int = 6
) -> list[str]:
    return [
        "run",
        "--data",
        str(corpus),
        "--profile",
        "smoke",
        "--variants",
        variants,
        "--splits",
        "dev1",
        "--set",
        f"optimisation.epochs={epochs}",
        "--tracking-uri",
        uri,
        "--report",
        "false",
        "--export",
        str(out),
        *more,
    ]


def runs_of(store: Store, kind: str = names.RUN) -> list[Run]:
    experiments = [e.experiment_id for e in store.client.search_experiments()]
    return list(
        store.client.search_runs(experiments, f"tags.`{names.KIND}` = '{kind}'", max_results=1000)
    )


def finished(store: Store) -> dict[str, Run]:
    """Finished runs by variant; more than one of a variant would be a run trained twice."""
    found = [run for run in runs_of(store) if run.info.status == "FINISHED"]
    by_variant = {run.data.tags[names.VARIANT]: run for run in found}
    assert len(by_variant) == len(found)
    return by_variant


def assert_same(store: Store, other: Store, out: Path, other_out: Path) -> None:
    """Weights, predictions and points of every run, to the bit; each point once in MLflow too."""
    mine, theirs = finished(store), finished(other)
    assert mine.keys() == theirs.keys()
    for variant, run in mine.items():
        pairs = [(store, run), (other, theirs[variant])]
        for path in (names.DEV_PREDICTIONS, names.TEST_PREDICTIONS, names.CURVES):
            a, b = (read_frame(s, r.info.run_id, path) for s, r in pairs)
            pd.testing.assert_frame_equal(a, b, check_exact=True)
        curves = read_frame(store, run.info.run_id, names.CURVES)
        for name, points in curves.groupby("name"):
            history = store.client.get_metric_history(run.info.run_id, str(name))
            assert [(p.step, p.value) for p in history] == list(
                zip(points["step"], points["value"], strict=True)
            )
        folder = f"{variant}-dev1-seed0"
        a, b = (load_file(o / folder / "model.safetensors") for o in (out, other_out))
        assert a.keys() == b.keys()
        assert all(a[k].equal(b[k]) for k in a)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    seen = ("en", "es", "fr", "zh")
    return write_corpus(
        tmp_path_factory.mktemp("corpus"),
        some_rows(20, seen),
        some_rows(6, (*seen, "ko"), start=100),
    )


@pytest.fixture(scope="module")
def undisturbed(
    corpus: Path, empty_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Store, Path]:
    """Return the store and models of `command` when nothing happens to it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    uri = f"sqlite:///{shutil.copy(empty_store, folder / 'mlflow.db')}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "1"}
    as_typed = [sys.executable, "-m", "ablation", *command(corpus, uri, folder / "out")]
    done = subprocess.run(as_typed, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return open_store(uri), folder / "out"


def test_the_same_command_twice_gives_the_same_numbers(
    corpus: Path,
    store_uri: str,
    tmp_path: Path,
    undisturbed: tuple[Store, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Equal to the bit in two processes without a common store, state or order of sets."""
    monkeypatch.setenv("ABLATION_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(sys, "argv", ["ablation", *command(corpus, store_uri, tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert_same(open_store(store_uri), undisturbed[0], tmp_path / "out", undisturbed[1])


def test_after_sigkill_the_same_command_goes_on_to_the_same_bit(
    corpus: Path,
    store_uri: str,
    tmp_path: Path,
    undisturbed: tuple[Store, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(
        "ABLATION_STATE", str(tmp_path / "state")
    )  # other tests' killed runs leave theirs
    arguments = command(corpus, store_uri, tmp_path / "out")
    process = Command(arguments, tmp_path)
    process.read_until("epm+cl dev1 seed 0: epoch 4/6")
    process.kill()
    process.wait()
    code, output, errors = completed(arguments, tmp_path)
    assert code == 0, errors
    assert "mse dev1 seed 0: reused" in output
    assert "epm+cl dev1 seed 0: resumed after epoch" in output
    store = open_store(store_uri)
    assert Counter(run.info.status for run in runs_of(store)) == {"FINISHED": 2, "KILLED": 1}
    assert Counter(run.info.status for run in runs_of(store, names.SUITE)) == {
        "FINISHED": 1,
        "KILLED": 1,
    }
    assert int(finished(store)["epm+cl"].data.tags[names.RESUMED]) >= 3
    assert_same(store, undisturbed[0], tmp_path / "out", undisturbed[1])
    assert not list((state_folder() / "checkpoints").glob("*/*")), (
        "what has finished needs no checkpoint"
    )


def test_two_processes_train_every_run_once(
    small_corpus: Path, store_uri: str, tmp_path: Path
) -> None:
    each_once(small_corpus, store_uri, tmp_path, 2)


@pytest.mark.soak
def test_eight_processes_train_every_run_once(
    small_corpus: Path, store_uri: str, tmp_path: Path
) -> None:
    each_once(small_corpus, store_uri, tmp_path, 8)


def each_once(corpus: Path, uri: str, folder: Path, count: int) -> None:
    """None fails, none says that the database is locked, and all print the same table."""
    arguments = command(corpus, uri, folder / "out", variants="mse,epm,epm+cl,ensemble", epochs=2)
    processes = [Command(arguments, folder) for _ in range(count)]
    said = ["".join(process.communicate()) for process in processes]
    assert [process.returncode for process in processes] == [0] * count, "\n".join(said)
    assert "locked" not in "".join(said)
    store = open_store(uri)
    assert {r.info.status for r in runs_of(store)} == {"FINISHED"}
    assert finished(store).keys() == {"mse", "epm", "epm+cl", "ensemble"}
    tables = {text[text.index("┏") : text.index("┘")] for text in said}
    assert len(tables) == 1


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    slot = run_slot("store", "0", tmp_path.name)
    script = (
        "from ablation.core.locks import try_lock\n"
        f"with try_lock({slot!r}) as acquired:\n    print(acquired, flush=True)\n    input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    assert holder.stdout.readline() == "True\n"
    with try_lock(slot) as mine:
        assert not mine
    holder.kill()
    holder.communicate()
    with try_lock(slot) as mine:
        assert mine


def test_sigterm_to_mlflow_run_leaves_no_training_behind(
    small_corpus: Path, store_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Path(__file__).resolve().parents[2]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri)
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "mlflow",
            "run",
            str(project),
            "-e",
            "ablation",
            "--env-manager",
            "local",
            "-P",
            f"data={small_corpus}",
            "-P",
            "profile=smoke",
            "-P",
            "variants=mse",
            "-P",
            "seeds=0-200",
            "-P",
            "report=false",
        ],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        },
    )
    assert process.stdout
    assert any("mse dev1 seed 0: finished" in line for line in process.stdout)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.terminate()
    process.communicate(timeout=60)  # until nobody has the pipe any longer
    assert not [
        child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE
    ]
    store = open_store(store_uri)
    assert "RUNNING" not in {
        run.info.status for run in (*runs_of(store), *runs_of(store, names.SUITE))
    }


@pytest.mark.soak
def test_twenty_kills_at_random_moments_end_in_the_same_table(
    corpus: Path, store_uri: str, tmp_path: Path, undisturbed: tuple[Store, Path]
) -> None:
    chance = random.Random(0)
    arguments = command(corpus, store_uri, tmp_path / "out")
    completed(["--help"], tmp_path)  # the libraries are loaded now
    began = time.monotonic()
    process = Command(arguments, tmp_path)
    process.read_until("mse dev1 seed 0: started")
    ready = time.monotonic() - began
    process.kill()
    process.wait()
    ends = []
    for _ in range(19):
        process = Command(arguments, tmp_path)
        time.sleep(chance.uniform(0.2 * ready, 1.4 * ready))
        process.send_signal(
            chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        )
        ends.append(process.wait())
    assert ends.count(0) < 10, "most of them came too late to kill anything"
    code, _, errors = completed(arguments, tmp_path)
    assert code == 0, errors
    store = open_store(store_uri)
    assert not {run.info.status for run in (*runs_of(store), *runs_of(store, names.SUITE))} & {
        "RUNNING",
        "FAILED",
    }
    assert_same(store, undisturbed[0], tmp_path / "out", undisturbed[1])
