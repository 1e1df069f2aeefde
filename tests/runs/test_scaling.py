"""Choose how many runs go side by side: by a curve that is kept, and by one that is measured."""

import multiprocessing
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ablation.core.errors import UsageError
from ablation.data.splits import make_split
from ablation.executors.choose import parse_on
from ablation.runs import scaling
from ablation.runs.machine import Machine
from ablation.runs.progress import Progress
from ablation.runs.request import RunRequest, resolve_run
from ablation.runs.runner import run_plan
from ablation.runs.scaling import Sample, SideBySide, candidates, choose, measure_curve

GIB = 2**30


@pytest.fixture
def request_(small_corpus: Path, store_uri: str) -> RunRequest:
    return RunRequest(
        data=small_corpus,
        profile="smoke",
        variants=("mse", "epm"),
        splits=("dev1",),
        seeds=(0, 1, 2),
        tracking_uri=store_uri,
        on="local:auto",
    )


@pytest.fixture(autouse=True)
def _own_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ABLATION_STATE", str(tmp_path / "state"))


def rates(*tokens_per_s: float) -> dict[int, SideBySide]:
    return {2**power: SideBySide(rate, GIB) for power, rate in enumerate(tokens_per_s)}


@pytest.mark.parametrize(
    ("curve", "count"),
    [
        (rates(100), 1),
        (rates(100, 113), 2),
        (rates(100, 104), 1),  # not clearly
        (rates(100, 180, 300, 310), 4),
        (rates(100, 180, 0), 2),  # no memory for four
        (rates(100, 60), 1),
    ],
)
def test_the_fewest_runs_are_chosen_to_which_no_more_are_clearly_faster(
    curve: Mapping[int, SideBySide], count: int
) -> None:
    assert choose(curve) == count


@given(cores=st.integers(1, 256))
def test_one_run_and_one_on_each_core_are_tried(cores: int) -> None:
    tried = candidates(cores)
    assert tried == sorted(set(tried))
    assert tried[0] == 1
    assert tried[-1] == cores


@pytest.mark.parametrize(
    "machine",
    [
        Machine(cores=8, memory_bytes=8 * GIB),
        Machine(cores=8, memory_bytes=64 * GIB, cards=1, card_bytes=8 * GIB),
    ],
    ids=["of the machine", "of its GPU"],
)
def test_what_does_not_fit_the_memory_is_not_tried(
    machine: Machine, request_: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def measured(sample: Sample, count: int, cores: int) -> SideBySide:
        tried.append(count)
        return SideBySide(100.0 * count, 2 * GIB)

    monkeypatch.setattr(scaling, "measure_side_by_side", measured)
    planned = resolve_run(replace(request_, on="local"))
    config = planned.runs[0].config
    assert config is not None
    sample = Sample(planned.corpus, config, make_split(planned.corpus, "dev1", 0))
    curve = measure_curve(sample, [1, 2, 4, 8], machine)
    assert tried == [1, 2]
    assert choose(curve) == 2


class TestPlan:
    """`--on local:auto` in a plan, with a made-up curve."""

    @pytest.fixture(autouse=True)
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """A machine of eight cores, on which four runs are fastest."""
        asked: list[int] = []

        def measured(sample: Sample, count: int, cores: int) -> SideBySide:
            asked.append(count)
            return SideBySide({1: 100.0, 2: 180.0, 4: 300.0, 8: 310.0}[count], GIB)

        monkeypatch.setattr(scaling, "measure_side_by_side", measured)
        machine = Machine(cores=8, memory_bytes=64 * GIB)
        monkeypatch.setattr(scaling, "this_machine", lambda: machine)
        monkeypatch.setattr("torch.get_num_threads", lambda: machine.cores)
        return asked

    def test_the_curve_is_measured_once_and_kept(
        self, request_: RunRequest, asked: list[int]
    ) -> None:
        planned = resolve_run(request_)
        assert planned.place.processes == 4
        assert planned.resources.threads == 2
        assert asked == [1, 2, 4]  # six runs are planned
        assert resolve_run(replace(request_, on=" local:auto ")).place.processes == 4
        assert asked == [1, 2, 4]

    def test_no_more_processes_are_started_than_there_are_runs(self, request_: RunRequest) -> None:
        planned = resolve_run(replace(request_, variants=("mse",), seeds=(0, 1)))
        assert planned.place.processes == 2
        alone = resolve_run(replace(request_, variants=("mse",), seeds=(0,)))
        assert alone.place.is_here

    def test_cores_of_a_run_that_are_given_leave_nothing_to_measure(
        self, request_: RunRequest, asked: list[int]
    ) -> None:
        assert resolve_run(replace(request_, cpus_per_run=4)).place.processes == 2
        assert asked == []


def test_a_suite_that_was_begun_one_by_one_goes_on_so(
    request_: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling, "measure_side_by_side", lambda *_: pytest.fail("measured"))
    one_by_one = replace(request_, on="local", variants=("mse",), seeds=(0,))
    run_plan(resolve_run(one_by_one), Progress(Console(quiet=True)))
    planned = resolve_run(request_)
    assert planned.place.is_here
    assert sum(run.is_reused for run in planned.runs) == 1


def test_steps_are_timed_in_processes_side_by_side(request_: RunRequest) -> None:
    planned = resolve_run(replace(request_, on="local"))
    config = planned.runs[0].config
    assert config is not None
    sample = Sample(planned.corpus, config, make_split(planned.corpus, "dev1", 0))
    side = scaling.measure_side_by_side(sample, 2, 2)
    assert side.tokens_per_s > 0
    assert side.memory_bytes > 2**20
    assert [child for child in multiprocessing.active_children() if child.name != "executor"] == []


def test_studies_say_that_they_take_a_number() -> None:
    with pytest.raises(UsageError, match="give a number"):
        parse_on("local:auto")
