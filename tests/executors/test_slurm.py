"""A suite as jobs of a real SLURM of one node: one is requeued, one cancelled by hand."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ablation.tracking.store import open_store
from tests.commands import Command, completed
from tests.executors import slurm_node
from tests.executors.slurm_node import SlurmNode
from tests.executors.test_ray_cluster import PATIENCE_S, patience, server, table_3  # noqa: F401
from tests.executors.test_runs import assert_same_results, corpus, runs_of  # noqa: F401
from tests.tracking.servers import Server

#: So many that the first run is still trained when its job is requeued.
EPOCHS = 40


@pytest.fixture
def node(tmp_path: Path) -> Iterator[SlurmNode]:
    pytest.importorskip("submitit")
    if not slurm_node.is_here():
        pytest.skip("needs root, and Debian's packages slurmctld, slurmd, slurm-client and munge")
    node = SlurmNode(tmp_path / "slurm")
    yield node
    node.close()


def running_jobs(node: SlurmNode, least: int) -> list[str]:
    """The ids of the jobs that run now, once so many do."""
    deadline = time.monotonic() + PATIENCE_S
    while len(jobs := node.run("squeue", "-h", "-t", "R", "-o", "%i").split()) < least:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    return jobs


@pytest.mark.soak
def test_a_requeued_and_a_cancelled_job_change_no_number(
    corpus: Path,  # noqa: F811
    node: SlurmNode,
    server: Server,  # noqa: F811
    store_uri: str,
    tmp_path: Path,
) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "local").mkdir()
    on = ("--on", "slurm:time=60")
    suite = table_3(corpus, server.uri, *on, epochs=EPOCHS)
    command = Command(suite, tmp_path / "jobs", node.environment)
    command.read_until(f"epoch 2/{EPOCHS}")
    requeued, cancelled = running_jobs(node, 2)[:2]
    node.run("scontrol", "requeue", requeued)
    node.run("scancel", cancelled)
    command.read_until("attempt 2 of 3")
    # SLURM lets a requeued job wait for two minutes.
    node.run("scontrol", "update", f"JobId={requeued}", "StartTime=now")
    output, errors = command.communicate()
    assert command.returncode == 0, output + errors
    print(output)

    code, output, errors = completed(table_3(corpus, store_uri, epochs=EPOCHS), tmp_path / "local")
    assert code == 0, output + errors
    print(output)
    store = open_store(server.uri)
    assert_same_results(store, open_store(store_uri))
    states = [status for _, status, _ in runs_of(store)]
    assert states.count("FINISHED") == 18
    assert set(states) == {"FINISHED", "KILLED"}
