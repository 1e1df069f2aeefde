"""The seal on test scores: what is shown, and that every reading is counted."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import ablation
from ablation.cli.main import main
from ablation.tracking.seal import Readings, readings, record_reading
from ablation.tracking.store import experiment_id, open_store
from tests.conftest import some_rows


def test_readings_are_counted_by_command(store_uri: str) -> None:
    store = open_store(store_uri)
    experiment_ = experiment_id(store, "mine")
    assert readings(store, experiment_).total == 0
    record_reading(store, experiment_, "report")
    record_reading(store, experiment_, "compare")
    found = record_reading(store, experiment_, "report")
    assert found == Readings("mine", {"report": 2, "compare": 1})
    assert str(found).startswith("Test rows of experiment 'mine' were read 3 times")


def test_readings_at_the_same_time_are_all_counted(store_uri: str) -> None:
    store = open_store(store_uri)
    experiment_ = experiment_id(store, "mine")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: record_reading(store, experiment_, "report"), range(16)))
    assert readings(store, experiment_).total == 16


@pytest.mark.usefixtures("undrawn")
def test_every_command_that_reads_test_scores_says_how_often_that_was(
    experiment: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = experiment(seeds=(0, 1))

    def command(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["ablation", *words, "--tracking-uri", made.uri])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        return capsys.readouterr().out

    report = command("report", "--out", str(tmp_path / "report"), "--no-log")
    assert "were read once (report 1)." in report
    assert "were read 2 times (compare 1, report 1)." in command("compare", "mse", "epm")
    assert "were read 3 times" in command("power", "--claims", "epm-beats-mse")
    frame = ablation.load_results(made.name, made.uri)
    assert "were read 4 times" in frame.attrs["test_readings"]
    dev = ablation.load_results(made.name, made.uri, test=False)
    assert set(dev["rows"]) == {"dev"}
    assert readings(made.store, "1").total == 4


def test_without_test_scores_nothing_is_read(experiment: Any) -> None:
    made = experiment(labelled=False)
    assert ablation.load_results(made.name, made.uri).attrs["test_readings"] == ""
    assert readings(made.store, "1").total == 0


@pytest.mark.parametrize("unseal", [False, True])
def test_a_run_shows_test_scores_only_if_unsealed(
    unseal: bool,
    small_corpus: Path,
    store_uri: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = "run --profile smoke --variants mse --splits dev1 --no-report"
    words += " --set optimisation.epochs=1"
    more = ["--data", str(small_corpus), "--tracking-uri", store_uri, *["--unseal"] * unseal]
    monkeypatch.setattr(sys, "argv", ["ablation", *words.split(), *more])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    (run,) = open_store(store_uri).client.search_runs(["1"], "tags.`ablation.kind` = 'run'")
    assert "test/pearson" in run.data.metrics
    for shown in ("test overall", f"test {run.data.metrics['test/pearson']:.4f}"):
        assert (shown in printed) is unseal
    assert ("were read once (run --unseal 1)." in printed) is unseal
    assert ("sealed" in printed) is not unseal


def test_without_test_labels_there_are_no_test_columns(
    corpus_folder: Callable[..., Path],
    store_uri: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = corpus_folder(some_rows(20, ("en", "es")))
    words = "run --profile smoke --variants mse --splits dev1 --no-report --unseal"
    words += " --set optimisation.epochs=1"
    more = ["--data", str(data), "--tracking-uri", store_uri]
    monkeypatch.setattr(sys, "argv", ["ablation", *words.split(), *more])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "dev1" in printed
    for absent in ("test overall", "Test columns", "bold"):
        assert absent not in printed
