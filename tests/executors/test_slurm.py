"""A suite as jobs of a real SLURM of one node: requeued, out of time, and cancelled by hand."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ablation.tracking import names
from ablation.tracking.store import Store, open_store
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

#: So many that a run is still trained when its job is requeued.
EPOCHS = 120


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


def job_of(store: Store, line: str) -> tuple[str, str]:
    """The run that a line is about, and its job: a fresh SLURM numbers jobs as they are sent."""
    match = re.search(r"((\S+) dev1 seed (\d)): epoch", line)
    assert match
    tags = {names.VARIANT: match[2], names.SEED: match[3]}
    condition = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    deadline = time.monotonic() + PATIENCE_S
    while True:
        experiments = [e.experiment_id for e in store.client.search_experiments()]
        for run in store.client.search_runs(experiments, condition):
            return match[1], run.data.tags[names.WORK].rpartition("-")[2]
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.soak
def test_requeued_and_cancelled_jobs_change_no_number(
    corpus: Path,  # noqa: F811
    node: SlurmNode,
    server: Server,  # noqa: F811
    tmp_path: Path,
) -> None:
    (tmp_path / "jobs").mkdir()
    store = open_store(server.uri)
    on = ("--on", "slurm:time=60")
    suite = table_3(corpus, server.uri, *on, epochs=EPOCHS)
    command = Command(suite, tmp_path / "jobs", node.environment)
    output = command.read_until(f"epoch 2/{EPOCHS}")
    first, requeued = job_of(store, output.splitlines()[-1])
    node.run("scontrol", "requeue", requeued)
    node.run("scancel", next(job for job in running_jobs(node, 2) if job != requeued))
    output += command.read_until("attempt 2 of 3")
    # SLURM lets a requeued job wait for two minutes.
    node.run("scontrol", "update", f"JobId={requeued}", "StartTime=now")
    output += command.read_until(f"epoch 2/{EPOCHS}")
    second, out_of_time = job_of(store, output.splitlines()[-1])
    node.run("scancel", "--signal=USR2", out_of_time)  # as SLURM does before it ends a job
    rest, errors = command.communicate()
    output += rest
    assert command.returncode == 0, output + errors
    assert f"{first}: resumed after epoch" in output
    assert f"{second}: resumed after epoch" in output
    assert_ends_like_a_local_suite(output, store, corpus, tmp_path, EPOCHS)
