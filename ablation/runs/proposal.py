"""Propose with how many cores and which share of a GPU runs are trained side by side.

The proposal follows from what a plan has measured: the memory of a run says how many fit a
machine, and the time of its steps with few threads and with many, which number pays. How far one
run leaves a GPU idle is not measured, so a share of it is proposed by memory alone, and no time.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import psutil

from ablation.executors.protocol import Resources
from ablation.runs.estimate import Estimates
from ablation.runs.request import ResolvedRun

#: The part of a machine's or a card's memory that runs may fill.
_FILLED: Final = 0.9
#: Bytes of a card that each process takes before it has a tensor.
_CONTEXT_BYTES: Final = 600 * 2**20
#: A card is shared by so many runs at most: their steps are computed one after the other.
_MAX_PER_CARD: Final = 4
#: A proposal has to save this part of the time: estimates are not better than that.
_WORTH: Final = 0.1


@dataclass(frozen=True)
class Machine:
    """A machine like those that runs are trained on; `card_bytes` is the memory of each GPU."""

    cores: int
    memory_bytes: int
    cards: int = 0
    card_bytes: int = 0

    def at_once(self, resources: Resources, memory_bytes: int) -> int:
        """Return how many runs with these resources and of this memory it trains side by side."""
        by_cores = self.cores // resources.cpus
        if resources.gpus:
            fits = int(_FILLED * self.card_bytes) // (memory_bytes + _CONTEXT_BYTES)
            return max(1, min(by_cores, self.cards * min(fits, int(1 / resources.gpus))))
        return max(1, min(by_cores, int(_FILLED * self.memory_bytes) // max(1, memory_bytes)))


@dataclass(frozen=True)
class Share:
    """Resources of each run, and how many are trained at once on a machine.

    `seconds` are those of all runs on one such machine; None if they are not known.
    """

    resources: Resources
    at_once: int
    seconds: float | None


def this_machine() -> Machine:
    """Return this machine, with the cores that torch uses."""
    import torch

    cards = torch.cuda.device_count()
    card = torch.cuda.get_device_properties(0).total_memory if cards else 0
    return Machine(torch.get_num_threads(), psutil.virtual_memory().total, cards, card)


def present_share(planned: ResolvedRun, estimates: Estimates, machine: Machine) -> Share:
    """Return what the plan gives to each run, and how that goes on one machine like this."""
    at_once = machine.at_once(planned.resources, estimates.memory_bytes)
    at_once = min(at_once, planned.place.processes or at_once, max(1, len(estimates.seconds)))
    total, shares_card = sum(estimates.seconds.values()), 0 < planned.resources.gpus < 1
    return Share(planned.resources, at_once, None if shares_card else total / at_once)


def propose(
    planned: ResolvedRun,
    estimates: Estimates,
    machine: Machine,
    estimate: Callable[[ResolvedRun], Estimates],
) -> Share | None:
    """Return a share with which more is trained at once, and clearly faster; None if none is known.

    Args:
        planned: The plan, whose runs are trained side by side.
        estimates: What its runs take as they are planned.
        machine: The machine that was measured.
        estimate: Estimates the plan with other resources.
    """
    if not estimates.seconds:
        return None
    if planned.resources.gpus:
        return _by_memory(planned, estimates, machine)
    if any(run.is_reused for run in planned.runs):
        return None  # with another number of threads, what has finished would be other runs
    most = machine.at_once(Resources(), estimates.memory_bytes)
    at_once = min(most, planned.place.processes or most, len(estimates.seconds))
    cpus = max(1, machine.cores // at_once)
    if cpus == planned.resources.threads:
        return None
    other = replace(planned, resources=Resources(cpus, 0.0, cpus))
    proposed = present_share(other, estimate(other), machine)
    present = present_share(planned, estimates, machine)
    is_faster = (proposed.seconds or 0.0) < (1 - _WORTH) * (present.seconds or 0.0)
    return proposed if is_faster else None


def _by_memory(planned: ResolvedRun, estimates: Estimates, machine: Machine) -> Share | None:
    """Return the share of a GPU that has memory for a run, if more fit than are trained at once."""
    if planned.place.engine == "slurm":  # which gives whole GPUs only
        return None
    fits = int(_FILLED * machine.card_bytes) // (estimates.memory_bytes + _CONTEXT_BYTES)
    most = min(fits, _MAX_PER_CARD, len(estimates.seconds) // max(1, machine.cards))
    if most <= 1 / planned.resources.gpus:
        return None
    resources = replace(planned.resources, gpus=math.floor(100 / most) / 100)
    return Share(resources, machine.at_once(resources, estimates.memory_bytes), None)
