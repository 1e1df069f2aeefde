"""Propose with how many cores and which share of a GPU runs are trained side by side.

The proposal follows from what a plan has measured: the memory of a run says how many fit a
machine, and the time of its steps with few threads and with many, which number pays. How far one
run leaves a GPU idle is not measured, so a share of it is proposed by memory alone, and no time.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from ablation.executors.protocol import Resources
from ablation.runs.estimate import Estimates
from ablation.runs.machine import CONTEXT_BYTES, FILLED, Machine
from ablation.runs.request import ResolvedRun

#: A card is shared by so many runs at most: their steps are computed one after the other.
_MAX_PER_CARD: Final = 4
#: A proposal has to save this part of the time: estimates are not better than that.
_WORTH: Final = 0.1


@dataclass(frozen=True)
class Share:
    """Resources of each run, and how many are trained at once on a machine.

    `seconds` are those of all runs on one such machine; None if they are not known.
    """

    resources: Resources
    at_once: int
    seconds: float | None


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
    fits = int(FILLED * machine.card_bytes) // (estimates.memory_bytes + CONTEXT_BYTES)
    most = min(fits, _MAX_PER_CARD, len(estimates.seconds) // max(1, machine.cards))
    if most <= 1 / planned.resources.gpus:
        return None
    resources = replace(planned.resources, gpus=math.floor(100 / most) / 100)
    return Share(resources, machine.at_once(resources, estimates.memory_bytes), None)
