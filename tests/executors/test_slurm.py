"""A suite as jobs of a real SLURM of one node: one is requeued, one cancelled by hand."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ablation.tracking.store import open_store
from tests.commands import Command
from tests.executors import slurm_node
from tests.executors.slurm_node import SlurmNode
from tests.executors.test_ray_cluster import (  # noqa: F401
    PATIENCE_S,
    assert_ends_like_a_local_suite,
    patience,
    server,
    table_3,
)
from tests.executors.test_runs import corpus  # noqa: F401
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
    tmp_path: Path,
) -> None:
    (tmp_path / "jobs").mkdir()
    on = ("--on", "slurm:time=60")
    suite = table_3(corpus, server.uri, *on, epochs=EPOCHS)
    command = Command(suite, tmp_path / "jobs", node.environment)
    output = command.read_until(f"epoch 2/{EPOCHS}")
    requeued, cancelled = running_jobs(node, 2)[:2]
    node.run("scontrol", "requeue", requeued)
    node.run("scancel", cancelled)
    output += command.read_until("attempt 2 of 3")
    # SLURM lets a requeued job wait for two minutes.
    node.run("scontrol", "update", f"JobId={requeued}", "StartTime=now")
    rest, errors = command.communicate()
    output += rest
    assert command.returncode == 0, output + errors
    assert_ends_like_a_local_suite(output, open_store(server.uri), corpus, tmp_path, EPOCHS)
