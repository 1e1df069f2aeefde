"""Proposals of cores and shares of a GPU, from made-up costs and machines."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from ablation.cli.main import app
from ablation.executors.protocol import Resources
from ablation.runs.costs import Cost, Lengths, MeasuredCost
from ablation.runs.estimate import Estimates, chosen_threads
from ablation.runs.machine import Machine
from ablation.runs.plan import PlannedRun
from ablation.runs.proposal import present_share, propose
from ablation.runs.request import ResolvedRun, RunRequest, resolve_run

GIB = 2**30
EIGHT_CORES = Machine(cores=8, memory_bytes=32 * GIB)
ONE_CARD = Machine(cores=8, memory_bytes=32 * GIB, cards=1, card_bytes=80 * GIB)


@pytest.fixture
def planned(small_corpus: Path, store_uri: str) -> Callable[..., ResolvedRun]:
    """Plan four runs on Ray, each with eight threads unless told otherwise."""

    def plan(on: str = "ray", **resources: Any) -> ResolvedRun:
        request = RunRequest(
            data=small_corpus,
            profile="smoke",
            variants=("mse", "epm"),
            splits=("dev1",),
            seeds=(0, 1),
            tracking_uri=store_uri,
            on=on,
        )
        chosen = {"cpus": 8, "threads": 8, **resources}
        return replace(resolve_run(request), resources=Resources(**chosen))

    return plan


def estimates(planned: ResolvedRun, seconds: float = 60.0, memory: int = GIB) -> Estimates:
    cost = MeasuredCost(Cost(1.0, 1.0, memory), Lengths(np.array([1]), None), "2026-01-01")
    to_do = [run.key for run in planned.runs if not run.is_reused]
    return Estimates(dict.fromkeys(to_do, seconds), [cost], 0, {})


def with_threads(seconds: dict[int, float]) -> Callable[[ResolvedRun], Estimates]:
    """Estimate each run by its number of threads."""
    return lambda planned: estimates(planned, seconds[planned.resources.threads])


def test_threads_that_save_less_than_runs_side_by_side_are_shared_out(
    planned: Callable[..., ResolvedRun],
) -> None:
    plan = planned()
    assert present_share(plan, estimates(plan), EIGHT_CORES).at_once == 1
    # Four runs on eight cores: two cores each, and a run takes twice as long with them.
    share = propose(plan, estimates(plan), EIGHT_CORES, with_threads({2: 120.0}))
    assert share is not None
    assert (share.resources, share.at_once) == (Resources(2, 0.0, 2), 4)
    assert share.seconds == 120.0


def test_threads_that_pay_are_kept(planned: Callable[..., ResolvedRun]) -> None:
    plan = planned()
    assert propose(plan, estimates(plan), EIGHT_CORES, with_threads({2: 235.0})) is None


def test_no_more_runs_are_proposed_than_there_is_memory_for(
    planned: Callable[..., ResolvedRun],
) -> None:
    plan = planned()
    large = estimates(plan, memory=14 * GIB)
    share = propose(plan, large, EIGHT_CORES, lambda other: estimates(other, 70.0, 14 * GIB))
    assert share is not None
    assert (share.resources.cpus, share.at_once) == (4, 2)


def test_local_processes_bound_what_is_trained_at_once(
    planned: Callable[..., ResolvedRun],
) -> None:
    plan = planned("local:2", cpus=1, threads=1)
    assert present_share(plan, estimates(plan), EIGHT_CORES).at_once == 2
    share = propose(plan, estimates(plan), EIGHT_CORES, with_threads({4: 20.0}))
    assert share is not None
    assert (share.resources.cpus, share.at_once, share.seconds) == (4, 2, 40.0)


def test_what_has_finished_is_worth_more_than_another_number_of_threads(
    planned: Callable[..., ResolvedRun],
) -> None:
    def finished(run: PlannedRun) -> PlannedRun:
        return replace(run, state="finished", run_id="1" * 32)

    plan = planned()
    plan = replace(plan, runs=[finished(plan.runs[0]), *plan.runs[1:]])
    assert propose(plan, estimates(plan), EIGHT_CORES, with_threads({2: 1.0})) is None


class TestCards:
    """A share of a GPU is proposed by memory, without a time."""

    def nothing(self, planned: ResolvedRun) -> Estimates:
        raise AssertionError("what shares a card is not measured")

    def test_runs_that_fit_share_one(self, planned: Callable[..., ResolvedRun]) -> None:
        plan = planned(cpus=1, gpus=1.0)
        share = propose(plan, estimates(plan, memory=20 * GIB), ONE_CARD, self.nothing)
        assert share is not None
        assert (share.resources.gpus, share.at_once, share.seconds) == (0.33, 3, None)

    def test_at_most_four(self, planned: Callable[..., ResolvedRun]) -> None:
        plan = planned(cpus=1, gpus=1.0)
        share = propose(plan, estimates(plan), ONE_CARD, self.nothing)
        assert share is not None
        assert (share.resources.gpus, share.at_once) == (0.25, 4)

    @pytest.mark.parametrize(
        ("on", "gpus", "memory"), [("ray", 1.0, 60), ("slurm", 1.0, 1), ("ray", 0.25, 1)]
    )
    def test_none_where_no_more_fit_or_whole_ones_are_given(
        self, planned: Callable[..., ResolvedRun], on: str, gpus: float, memory: int
    ) -> None:
        plan = planned(on, cpus=1, gpus=gpus)
        assert propose(plan, estimates(plan, memory=memory * GIB), ONE_CARD, self.nothing) is None

    def test_none_for_a_head_that_has_no_card(self, planned: Callable[..., ResolvedRun]) -> None:
        plan = planned(cpus=1, gpus=1.0)
        assert propose(plan, estimates(plan), EIGHT_CORES, self.nothing) is None


def test_costs_are_those_of_the_chosen_threads(planned: Callable[..., ResolvedRun]) -> None:
    assert chosen_threads(planned(threads=3)) == 3
    assert chosen_threads(planned(threads=1)) == 0  # tests have one: the machine's own
    assert chosen_threads(planned(threads=3, gpus=1.0)) == 0
    assert chosen_threads(planned("local", threads=3)) == 0


def test_a_plan_says_what_each_run_gets(small_corpus: Path, store_uri: str) -> None:
    arguments = ["plan", "--data", str(small_corpus), "--profile", "smoke", "--variants", "mse"]
    arguments += ["--splits", "dev1", "--tracking-uri", store_uri]
    # A test has one thread, so a machine like this one trains one run at a time.
    here = CliRunner().invoke(app, arguments)
    beside = CliRunner().invoke(app, [*arguments, "--on", "local:2", "--cpus-per-run", "1"])
    assert (here.exit_code, beside.exit_code) == (0, 0), here.output + beside.output
    assert "each run gets" not in here.output
    assert "On local:2: each run gets 1 core, 1 thread and no GPU; 1 at a time" in beside.output
