"""Peak memory of training steps, each contender in a process of its own."""

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
    """Linux tells and forgets a process's peak; a CUDA device tells its own."""
    return torch.cuda.is_available() or (sys.platform == "linux" and _PEAK.exists())


def measure_memory(data: str, config: RunConfig, rounds: int) -> list[Row]:
    """Peak bytes of this suite's steps over those of the `Trainer` at its best, beyond the loaded encoder and rows."""
    if not can_measure():
        return []
    context = multiprocessing.get_context("spawn")
    peaks: dict[Contender, list[int]] = {"ours": [], "best": []}
    for _ in range(rounds):
        for contender, found in peaks.items():
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                found.append(pool.submit(peak_bytes, contender, data, config).result())
    parts = {
        f"{name}_mib": [round(peak / 2**20) for peak in found] for name, found in peaks.items()
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
    """Of the process that this is called in: model, gradients, moments and activations of a few steps."""
    workload = make_workload(load_corpus(data), config, STEPS * config.optimisation.batch_size)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        _PEAK.write_text("5")  # the peak is counted from here
        before = _status("VmRSS")
    if contender == "ours":
        train_ours(workload)
    else:
        train(workload, "best")
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else _status("VmHWM")
    return peak - before


def _status(field: str) -> int:
    """Bytes, from /proc/self/status."""
    line = next(
        line
        for line in Path("/proc/self/status").read_text("utf-8").splitlines()
        if line.startswith(field)
    )
    return 1024 * int(line.split()[1])
