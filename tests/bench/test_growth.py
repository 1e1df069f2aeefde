"""The measurements of growth, at sizes that take seconds: what they did, not how long it took."""

import math
from pathlib import Path

import pytest

from ablation.bench.growth import Stage, measure_growth
from ablation.bench.startup import start_up
from ablation.bench.subprocesses import run_command
from ablation.bench.synthetic_runs import make_request, write_corpus, write_runs
from ablation.core.errors import RunError
from ablation.data.corpus import load_corpus
from ablation.runs.request import resolve_run
from tests.commands import run


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_corpus(tmp_path / "corpus", 120, 40)
    return tmp_path / "corpus"


def test_a_synthetic_corpus_has_the_requested_number_of_unique_rows_in_all_languages(
    corpus: Path,
) -> None:
    made, demo = load_corpus(str(corpus)), load_corpus("demo")
    assert made.test is not None
    assert (len(made.train), len(made.test)) == (120, 40)
    assert made.train["text"].is_unique
    assert made.training_languages == demo.training_languages


def test_synthetic_runs_count_as_finished_and_are_written_once(
    corpus: Path, store_uri: str
) -> None:
    request = make_request(corpus, store_uri, 10)
    assert write_runs(request) == 10
    assert [run.state for run in resolve_run(request).runs] == ["finished"] * 10
    more = make_request(corpus, store_uri, 20)
    assert write_runs(more) == 10
    assert all(run.is_reused for run in resolve_run(more).runs)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands that are timed run in processes that need not load the libraries first."""
    monkeypatch.setattr("subprocess.run", run)


@pytest.mark.usefixtures("forked")
def test_every_stage_is_measured_at_every_size_and_the_commands_in_an_experiment_that_grows() -> (
    None
):
    table = measure_growth(rows=(200, 100), runs=(10,), encoder="tiny", corpus_rows=(120, 40))
    stages, commands = table[:5], table[5:]
    assert [row.what.split(":")[0] for row in stages] == [
        "read and check",
        "split",
        "load the encoder, tokenise",
        "batch, an epoch and an evaluation",
        "score",
    ]
    assert all(row.parts["rows"] == (100, 200) and min(row.parts["seconds"]) > 0 for row in stages)
    assert [row.what for row in commands] == [
        f"{name} with 10 runs" for name in ("planning", "resuming", "reporting")
    ]
    assert all(
        row.parts["runs"] == [10] and row.values[0] == row.parts["seconds"][-1] for row in commands
    )


@pytest.mark.usefixtures("forked")
def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"ablation plan --data nowhere failed: .*nowhere"):
        run_command(["plan", "--data", "nowhere"], tmp_path)


def test_a_time_that_grows_tenfold_with_tenfold_rows_has_the_exponent_1() -> None:
    assert Stage("", (10, 100, 1000), (5.0, 1.0, 10.0)).exponent == pytest.approx(1)
    assert Stage("", (10, 100), (1.0, 100.0)).exponent == pytest.approx(2)
    assert math.isnan(Stage("", (10,), (1.0,)).exponent)


@pytest.mark.usefixtures("forked")
def test_start_up_is_of_help_a_first_plan_and_the_same_plan_again(
    tmp_path: Path, small_corpus: Path
) -> None:
    measured = start_up(
        tmp_path / "state",
        1,
        ["--data", str(small_corpus), "--profile", "smoke", "--variants", "mse"],
    )
    assert [each.command.split(",")[-1].strip() for each in measured] == [
        "--help",
        "nothing measured before",
        "again",
    ]
    assert all(len(each.seconds) == 1 and each.seconds[0] > 0 for each in measured)
    for each in ("warm", "first-0"):
        assert len(list((tmp_path / "state" / each / "state" / "costs").iterdir())) == 1
