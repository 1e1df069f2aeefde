"""Measure the peak memory of training steps, each contender in its own process."""

import gc
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final, Literal

import torch

from ablation.bench.table import Row, ratios
from ablation.bench.trainer import train
from ablation.bench.training import train_ours
from ablation.bench.workload import make_workload
from ablation.config.schema import RunConfig
from ablation.data.corpus import load_corpus

Contender = Literal["ours", "best"]
TARGET: Final = 0.6
STEPS: Final = 4
_PEAK: Final = Path("/proc/self/clear_refs")


def can_measure() -> bool:
    """Return True on a CUDA device, or on Linux, where a process's peak can be read and reset."""
    return torch.cuda.is_available() or (sys.platform == "linux" and _PEAK.exists())


def measure_memory(data: str, config: RunConfig, rounds: int) -> list[Row]:
    """Compare the peak memory of this suite's steps with the `Trainer`'s at its best.

    The loaded encoder and rows are not counted. Empty where peaks can't be measured.

    Args:
        data: The corpus.
        config: The settings to train with.
        rounds: The number of measurements.
    """
    if not can_measure():
        return []
    context = multiprocessing.get_context("spawn")
    peaks: dict[Contender, list[int]] = {"ours": [], "best": []}
    for _ in range(rounds):
        for contender, values in peaks.items():
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                values.append(pool.submit(peak_bytes, contender, data, config).result())
    parts = {
        f"{name}_mib": [round(peak / 2**20) for peak in values] for name, values in peaks.items()
    }
    what = "peak memory of a training step against the Trainer at its best"
    return [
        Row(
            "memory",
            what,
            ratios(peaks["ours"], peaks["best"]),
            "x",
            "at most",
            TARGET,
            parts=parts,
        )
    ]


def peak_bytes(contender: Contender, data: str, config: RunConfig) -> int:
    """Return the peak bytes of a few training steps in this process."""
    workload = make_workload(load_corpus(data), config, STEPS * config.optimisation.batch_size)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        _PEAK.write_text("5")  # resets the peak
        before = _status("VmRSS")
    if contender == "ours":
        train_ours(workload)
    else:
        train(workload, "best")
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else _status("VmHWM")
    return peak - before


def _status(field: str) -> int:
    """Return a field of /proc/self/status in bytes."""
    line = next(
        line
        for line in Path("/proc/self/status").read_text("utf-8").splitlines()
        if line.startswith(field)
    )
    return 1024 * int(line.split()[1])
