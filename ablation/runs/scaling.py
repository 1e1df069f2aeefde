"""Measure how many runs side by side this machine trains fastest, for `--on local:auto`.

One run leaves cores idle: its steps have short operations, and between them it scores, writes and
draws batches. Several with fewer threads each leave fewer, until memory or its bandwidth is the
limit. Where that is differs from machine to machine and from encoder to encoder, so real training
steps are timed in processes side by side.
"""

import contextlib
import json
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from ablation.config.schema import RunConfig
from ablation.core.files import write_atomically
from ablation.core.state import state_folder
from ablation.data.corpus import Corpus
from ablation.data.splits import Split, make_split
from ablation.executors.protocol import Resources
from ablation.runs.costs import cost_key
from ablation.runs.machine import Machine, this_machine
from ablation.runs.plan import PlannedRun

#: More processes have to be this much faster than fewer: a measurement is not better than that.
_WORTH: Final = 1.05
#: Rounds of steps in each process; the median counts.
_ROUNDS: Final = 3
#: Seconds that a process waits for the others to have loaded what they train.
_PATIENCE_S: Final = 600.0


@dataclass(frozen=True)
class SideBySide:
    """Hold what was measured with some runs side by side.

    Attributes:
        tokens_per_s: Tokens of all of them a second.
        memory_bytes: Peak memory of the largest.
    """

    tokens_per_s: float
    memory_bytes: int


@dataclass(frozen=True)
class Sample:
    """Hold what each process trains for the measurement: a run's corpus, settings and split."""

    corpus: Corpus
    config: RunConfig
    split: Split


def place_that_pays(
    corpus: Corpus, runs: Sequence[PlannedRun], cpus: int | None
) -> tuple[str, Mapping[int, SideBySide]]:
    """Return the words of `--on` with which these runs are trained fastest here, and the curve.

    With several GPUs each has one run at a time, and nothing is measured; neither is anything if
    the cores of a run are given. On one GPU the runs share it.

    Args:
        corpus: The plan's corpus.
        runs: The runs that are to be trained.
        cpus: The cores of a run, if they are given.

    Raises:
        UsageError: The encoder can't be used.
    """
    curve: Mapping[int, SideBySide] = {}
    machine = this_machine()
    if machine.cards > 1:
        count = machine.cards
    elif cpus is not None:
        count = max(1, machine.cores // cpus)
    else:
        count, curve = fastest_side_by_side(corpus, runs[0], machine, len(runs))
    count = min(count, len(runs))
    return (f"local:{count}" if count > 1 else "local"), curve


def fastest_side_by_side(
    corpus: Corpus, run: PlannedRun, machine: Machine, most: int
) -> tuple[int, Mapping[int, SideBySide]]:
    """Return how many runs side by side are fastest, and the curve behind it.

    The curve is measured once for a cost (`ablation.runs.costs`) and kept in the state folder.

    Args:
        corpus: The plan's corpus.
        run: A run of the plan that is to be trained.
        machine: This machine.
        most: The number of runs to train.

    Raises:
        UsageError: The encoder can't be used.
    """
    config = run.config
    assert config is not None, "an ensemble trains nothing"
    file = state_folder() / "costs" / f"scaling-{cost_key(run, config)}.json"
    curve: dict[int, SideBySide] = {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        stored = json.loads(file.read_text("utf-8"))
        curve = {int(count): SideBySide(**side) for count, side in stored.items()}
    wanted = [count for count in candidates(machine.cores) if count <= max(1, most)]
    if not set(wanted) <= curve.keys():
        data = config.data
        split = make_split(corpus, run.key.split, data.split_seed, data.equal_texts)
        curve |= measure_curve(Sample(corpus, config, split), wanted, machine)
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            sides = {count: vars(side) for count, side in curve.items()}
            write_atomically(file, json.dumps(sides), durable=False)
    curve = {count: side for count, side in curve.items() if count in wanted}
    return choose(curve), curve


def candidates(cores: int) -> list[int]:
    """Return numbers of runs to try: 1, 2, 4, ... and one for each core."""
    powers = [2**power for power in range(cores.bit_length())]
    return sorted({count for count in powers if count <= cores} | {max(1, cores)})


def choose(curve: Mapping[int, SideBySide]) -> int:
    """Return the least number of runs to which no larger one is clearly faster."""
    best = max(side.tokens_per_s for side in curve.values())
    return min(count for count, side in curve.items() if side.tokens_per_s * _WORTH >= best)


def measure_curve(sample: Sample, counts: Sequence[int], machine: Machine) -> dict[int, SideBySide]:
    """Measure each number of runs side by side; a number for which there is no memory counts 0."""
    curve: dict[int, SideBySide] = {}
    for count in counts:
        needed = max((side.memory_bytes for side in curve.values()), default=0)
        share = Resources(cpus=1, gpus=1 / count if machine.cards else 0.0)
        fits = count == 1 or machine.at_once(share, needed) >= count
        curve[count] = (
            measure_side_by_side(sample, count, machine.cores) if fits else SideBySide(0.0, 0)
        )
    return curve


def measure_side_by_side(sample: Sample, count: int, cores: int) -> SideBySide:
    """Time training steps in `count` processes at once, each with its share of the cores.

    Processes that the system ends, as it does without memory, count as 0 tokens a second.
    """
    methods = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        context.set_forkserver_preload(["ablation.runs.remote"])
    start = context.Barrier(count)
    try:
        with ProcessPoolExecutor(
            count, context, initializer=_join, initargs=(start, max(1, cores // count))
        ) as pool:
            sides = list(pool.map(_time, [sample] * count))
    except BrokenExecutor:
        return SideBySide(0.0, 0)
    return SideBySide(
        sum(side.tokens_per_s for side in sides), max(side.memory_bytes for side in sides)
    )


#: Where the processes of a measurement wait for each other.
_start: Any = None


def _join(start: Any, threads: int) -> None:
    import torch

    global _start
    _start = start
    torch.set_num_threads(threads)


def _time(sample: Sample) -> SideBySide:
    from ablation.runs.context import Preparations
    from ablation.runs.step_timing import time_steps
    from ablation.training.train_run import check_trainable

    prepared = Preparations(sample.corpus).get(sample.config)
    check_trainable(sample.config, prepared)
    _start.wait(_PATIENCE_S)
    costs = [time_steps(prepared, sample.config, sample.split) for _ in range(_ROUNDS)]
    return SideBySide(
        1 / median(cost.train_token_s for cost in costs), max(cost.memory_bytes for cost in costs)
    )
