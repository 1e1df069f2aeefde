"""A suite on a Ray cluster of three nodes, one worker of which is killed and one node removed."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ablation.tracking import names
from ablation.tracking.store import Store, open_store
from tests import commands
from tests.commands import Command, completed
from tests.executors.test_runs import assert_same_results, corpus, runs_of  # noqa: F401
from tests.tracking.servers import Server, serve

PATIENCE_S = 600


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait longer than other tests do: a suite takes minutes on two cores."""
    monkeypatch.setattr(commands, "PATIENCE_S", 1800.0)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Three nodes with a core each, of which the first is the head and cannot be lost."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_worker_niceness", "0")  # beside other tests they would stand still

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = serve(tmp_path_factory.mktemp("server"))
    yield server
    server.kill()


def table_3(corpus: Path, uri: str, *more: str, epochs: int = 8) -> list[str]:  # noqa: F811
    return [
        *("run", "--data", str(corpus), "--profile", "smoke", "--splits", "dev1"),
        *("--variants", "table3", "--seeds", "0,1,2", "--tracking-uri", uri),
        *(
            "--set",
            f"optimisation.epochs={epochs}",
            "--report",
            "false",
            "--cpus-per-run",
            "1",
            *more,
        ),
    ]


def running(store: Store) -> dict[int, str]:
    """The runs that are trained now, by process."""
    experiments = [e.experiment_id for e in store.client.search_experiments()]
    condition = f"tags.`{names.KIND}` = '{names.RUN}' and attributes.status = 'RUNNING'"
    return {
        int(run.data.tags[names.PROCESS].split(":")[1]): run.info.run_id
        for run in store.client.search_runs(experiments, condition)
    }


def wait_for_other_process(store: Store, node: Any) -> None:
    """Wait until a process that belongs to the node trains."""
    import psutil

    deadline = time.monotonic() + PATIENCE_S
    raylet = node.all_processes["raylet"][0].process.pid
    while True:
        for pid in running(store):
            if raylet in [parent.pid for parent in psutil.Process(pid).parents()]:
                return
        assert time.monotonic() < deadline
        time.sleep(0.2)


def table_in(output: str) -> list[str]:
    """The lines of the table that a suite prints at its end."""
    return [line for line in output.splitlines() if line.startswith(("┃", "│"))]


def assert_ends_like_a_local_suite(
    output: str,
    store: Store,
    corpus: Path,  # noqa: F811
    folder: Path,
    epochs: int = 8,
) -> None:
    """Train the suite in one process as well: the same table, and the same results to the bit.

    Each run has been trained to its end once, and none is left RUNNING.
    """
    (folder / "local").mkdir()
    uri = f"sqlite:///{folder / 'local' / 'mlflow.db'}"
    code, locally, errors = completed(table_3(corpus, uri, epochs=epochs), folder / "local")
    assert code == 0, locally + errors
    assert len(table_in(output)) == 7
    assert table_in(output) == table_in(locally)
    assert_same_results(store, open_store(uri))
    runs = runs_of(store)
    finished = Counter(key for key, status, _ in runs if status == "FINISHED")
    assert len(finished) == 18
    assert set(finished.values()) == {1}
    assert {status for _, status, _ in runs} == {"FINISHED", "KILLED"}
    print(output, locally, dict(Counter(status for _, status, _ in runs)), sep="\n")


@pytest.mark.soak
def test_a_killed_worker_and_a_removed_node_change_no_number(
    corpus: Path,  # noqa: F811
    cluster: Any,
    server: Server,
    tmp_path: Path,
) -> None:
    (tmp_path / "cluster").mkdir()
    on = ("--on", f"ray:{cluster.address}")
    command = Command(table_3(corpus, server.uri, *on), tmp_path / "cluster")
    output = command.read_until("epoch 2/8")
    store = open_store(server.uri)
    os.kill(next(iter(running(store))), signal.SIGKILL)
    output += command.read_until("attempt 2 of 3")
    node = cluster.worker_nodes and next(iter(cluster.worker_nodes))
    wait_for_other_process(store, node)
    cluster.remove_node(node)
    rest, errors = command.communicate()
    output += rest
    assert command.returncode == 0, output + errors
    assert_ends_like_a_local_suite(output, store, corpus, tmp_path)
