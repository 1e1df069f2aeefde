"""A suite on executors: the numbers of a local one, each run trained to its end once, the truth."""

import os
import shutil
import signal
from pathlib import Path

import pandas as pd
import pytest

from ablation.core.errors import UsageError
from ablation.executors.choose import Placement, parse_on
from ablation.runs.placement import choose_resources
from ablation.runs.request import RunRequest, resolve_run
from ablation.tracking import names
from ablation.tracking.reading import read_frame
from ablation.tracking.store import Store, open_store
from tests.commands import Command, completed
from tests.conftest import some_rows, write_corpus


def arguments(corpus: Path, uri: str, *more: str, epochs: int = 2) -> list[str]:
    return [
        *("run", "--data", str(corpus), "--profile", "smoke", "--splits", "dev1"),
        *("--variants", "mse,epm+ft,ensemble", "--seeds", "0,1", "--tracking-uri", uri),
        *("--set", f"optimisation.epochs={epochs}", "--report", "false", *more),
    ]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    seen = ("en", "es", "fr", "zh")
    folder = tmp_path_factory.mktemp("corpus")
    return write_corpus(folder, some_rows(20, seen), some_rows(6, (*seen, "ko"), start=100))


@pytest.fixture(scope="module")
def local(corpus: Path, empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The suite trained by the command's own process, with one thread."""
    folder = tmp_path_factory.mktemp("local")
    uri = f"sqlite:///{shutil.copy(empty_store, folder / 'mlflow.db')}"
    done = completed(arguments(corpus, uri, "--cpus-per-run", "1"), folder)
    assert done[0] == 0, done
    return open_store(uri)


def runs_of(store: Store) -> list[tuple[tuple[str, str], str, str]]:
    """Variant and seed, status and id of all runs."""
    experiments = [e.experiment_id for e in store.client.search_experiments()]
    found = store.client.search_runs(experiments, f"tags.`{names.KIND}` = '{names.RUN}'")
    return [
        (
            (run.data.tags[names.VARIANT], run.data.tags[names.SEED]),
            run.info.status,
            run.info.run_id,
        )
        for run in found
    ]


def assert_same_results(store: Store, other: Store) -> None:
    """Each run finished once, with the predictions and curves of the other store to the bit."""
    mine, theirs = (
        sorted((key, i) for key, status, i in runs_of(s) if status == "FINISHED")
        for s in (store, other)
    )
    assert [key for key, _ in mine] == [key for key, _ in theirs]
    for (key, a), (_, b) in zip(mine, theirs, strict=True):
        for path in (names.DEV_PREDICTIONS, names.TEST_PREDICTIONS, names.CURVES):
            if key[0] == "ensemble" and path == names.CURVES:
                continue
            pd.testing.assert_frame_equal(
                read_frame(store, a, path), read_frame(other, b, path), check_exact=True
            )


def test_processes_side_by_side_give_the_numbers_of_one(
    corpus: Path, store_uri: str, tmp_path: Path, local: Store
) -> None:
    on = ("--on", "local:2", "--cpus-per-run", "1")
    code, output, errors = completed(arguments(corpus, store_uri, *on), tmp_path)
    assert code == 0, output + errors
    store = open_store(store_uri)
    assert_same_results(store, local)
    assert {status for _, status, _ in runs_of(store)} == {"FINISHED"}
    # All are reused, and no process is started for that.
    code, output, errors = completed(arguments(corpus, store_uri, *on), tmp_path)
    assert code == 0
    assert len(runs_of(store)) == 6


def test_a_second_driver_joins_and_every_run_is_trained_once(
    corpus: Path, store_uri: str, tmp_path: Path, local: Store
) -> None:
    suite = arguments(corpus, store_uri, "--on", "local:1", "--cpus-per-run", "1")
    drivers = [Command(suite, tmp_path) for _ in range(2)]
    texts = ["".join(driver.communicate()) for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], "\n".join(texts)
    store = open_store(store_uri)
    assert_same_results(store, local)
    assert {status for _, status, _ in runs_of(store)} == {"FINISHED"}


def test_a_killed_worker_s_run_is_ended_as_killed_and_trained_again(
    corpus: Path, store_uri: str, tmp_path: Path
) -> None:
    on = ("--on", "local:1", "--cpus-per-run", "1")
    command = Command(arguments(corpus, store_uri, *on, epochs=40), tmp_path)
    store = open_store(store_uri)
    command.read_until("epoch 2/40")
    os.kill(worker_of(store), signal.SIGKILL)
    command.read_until("attempt 2 of 3")
    command.read_until("resumed after epoch")
    output, errors = command.communicate()
    assert command.returncode == 0, output + errors
    states = [status for _, status, _ in runs_of(store)]
    assert sorted(states) == ["FINISHED"] * 6 + ["KILLED"]


def test_an_interrupt_ends_every_run_in_truth(corpus: Path, store_uri: str, tmp_path: Path) -> None:
    on = ("--on", "local:2", "--cpus-per-run", "1")
    command = Command(arguments(corpus, store_uri, *on, epochs=4000), tmp_path)
    command.read_until("epoch 1/4000")
    command.send_signal(signal.SIGTERM)
    command.communicate()
    assert command.returncode == 130
    store = open_store(store_uri)
    assert {status for _, status, _ in runs_of(store)} == {"KILLED"}


def worker_of(store: Store) -> int:
    """The process that trains now."""
    experiments = [e.experiment_id for e in store.client.search_experiments()]
    condition = f"tags.`{names.KIND}` = '{names.RUN}' and attributes.status = 'RUNNING'"
    (run,) = store.client.search_runs(experiments, condition)
    return int(run.data.tags[names.PROCESS].split(":")[1])


class TestPlaces:
    """`--on` names an executor, or is refused before anything is written."""

    @pytest.mark.parametrize(
        ("text", "place"),
        [
            ("local", Placement()),
            ("local:3", Placement("local", 3)),
            ("ray", Placement("ray")),
            ("ray:host:6379", Placement("ray", address="host:6379")),
            (
                "slurm:partition=gpu,time=120",
                Placement("slurm", options={"partition": "gpu", "time": "120"}),
            ),
        ],
    )
    def test_each_has_its_form(self, text: str, place: Placement) -> None:
        assert parse_on(text) == place

    @pytest.mark.parametrize(
        "text", ["", "rya", "local:", "local:0", "local:x", "local:1000", "slurm:gpu", "ray:"]
    )
    def test_what_is_no_place_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match="--on"):
            parse_on(text)

    @pytest.mark.parametrize(
        ("cpus", "gpus"), [(0, None), (-1, None), (None, 1.5), (None, -0.1), (2000, None)]
    )
    def test_what_no_run_can_have_is_refused(self, cpus: int | None, gpus: float | None) -> None:
        with pytest.raises(UsageError, match="per-run"):
            choose_resources(Placement("ray"), cpus, gpus)

    def test_a_store_of_this_machine_is_refused_for_others_with_the_command_that_serves_it(
        self, corpus: Path, store_uri: str, tmp_path: Path
    ) -> None:
        pytest.importorskip("submitit")
        code, _, errors = completed(arguments(corpus, store_uri, "--on", "slurm"), tmp_path)
        assert code == 2
        assert f"mlflow server --backend-store-uri {store_uri}" in errors
        assert runs_of(open_store(store_uri)) == []


class TestThreads:
    """Threads change sums in the last digits, so a chosen number is a part of what a run is."""

    def test_the_machine_s_own_number_is_no_part(self) -> None:
        assert choose_resources(Placement(), None, None)[1] == {}
        assert choose_resources(Placement("ray"), None, 0)[1] == {}
        assert choose_resources(Placement(), 1, 0)[1] == {}  # tests have one

    def test_a_chosen_one_is_on_a_cpu_wherever_it_trains(self) -> None:
        parts = [choose_resources(Placement(on), 3, 0)[1] for on in ("local", "ray", "slurm")]
        assert parts == [{"threads": "3"}] * 3
        assert choose_resources(Placement("ray"), 3, 1.0)[1] == {}

    def test_runs_of_other_threads_are_not_reused(self, corpus: Path, store_uri: str) -> None:
        request = {"data": corpus, "profile": "smoke", "tracking_uri": store_uri}
        one, two = (resolve_run(RunRequest(**request, cpus_per_run=threads)) for threads in (1, 2))
        digests = [{run.identity.digest for run in planned.runs} for planned in (one, two)]
        assert not digests[0] & digests[1]
