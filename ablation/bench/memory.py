"""Measure the memory of training steps, and of many runs one after the other in one process."""

import gc
import multiprocessing
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
import torch

from ablation.bench.table import Row, ratios
from ablation.bench.trainer import train
from ablation.bench.training import train_ours
from ablation.bench.workload import make_workload
from ablation.config.schema import RunConfig
from ablation.data.corpus import load_corpus
from ablation.data.splits import Split
from ablation.runs.precision import fastest_precision
from ablation.training.evaluation import EVALUATION_BATCH, predict
from ablation.training.loop import TrainingData, fit
from ablation.training.train_run import Prepared, fresh_model, prepare

Contender = Literal["ours", "best"]
TARGET: Final = 0.6
STEPS: Final = 4
#: Runs of a curve, the steps that each makes in an epoch, and its epochs: two, so that a checkpoint
#: is written.
RUNS: Final = 12
RUN_STEPS: Final = 6
RUN_EPOCHS: Final = 2
RUNS_TARGET_GIB: Final = 3.0
#: The last run may take this much more than the second.
GROWTH_TARGET: Final = 1.05
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


class RunMemory(NamedTuple):
    """Bytes of the process: the peak while a run is trained, and what is left after it."""

    peak: int
    after: int


def measure_runs(data: str, config: RunConfig, runs: int = RUNS) -> list[Row]:
    """Measure the memory of one process over many runs, each with other batches.

    Runs are short, but their batches are the corpus's in size and lengths, and their precision is
    the one that this machine is fastest in. Empty where peaks can't be measured, and on a GPU,
    whose memory PyTorch keeps.

    Args:
        data: The corpus.
        config: The settings to train with.
        runs: The number of runs, at least two.
    """
    if not can_measure() or torch.cuda.is_available():
        return []
    changed = {"epochs": RUN_EPOCHS, "precision": fastest_precision()}
    optimisation = config.optimisation.model_copy(update=changed)
    config = config.model_copy(update={"optimisation": optimisation})
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        curve = pool.submit(memory_by_run, data, config, runs).result()
    parts = {
        name: [round(getattr(run, name) / 2**20) for run in curve] for name in RunMemory._fields
    }
    peak, growth = max(run.peak for run in curve) / 2**30, curve[-1].peak / curve[1].peak
    return [
        Row(
            "memory",
            f"peak memory of a process that trains {runs} runs",
            (peak,),
            "GiB",
            "at most",
            RUNS_TARGET_GIB,
            parts=parts,
        ),
        Row(
            "memory",
            "peak memory of the last of these runs against the second",
            (growth,),
            "x",
            "at most",
            GROWTH_TARGET,
        ),
    ]


def memory_by_run(data: str, config: RunConfig, runs: int) -> list[RunMemory]:
    """Train short runs one after the other in this process; return what each took."""
    prepared = prepare(load_corpus(data), config)
    curve = []
    for seed in range(runs):
        _PEAK.write_text("5")  # resets the peak
        _train_briefly(prepared, config, seed)
        curve.append(RunMemory(_status("VmHWM"), _status("VmRSS")))
    return curve


def _train_briefly(prepared: Prepared, config: RunConfig, seed: int) -> None:
    """Train on a few random rows, with checkpoints, and predict others."""
    rows = np.random.default_rng(seed).permutation(len(prepared.train))
    trained = RUN_STEPS * config.optimisation.batch_size
    split = Split("sample", rows[:trained], rows[trained:][: 2 * EVALUATION_BATCH], ())
    model = fresh_model(prepared, config, split, seed)
    train, dev = prepared.train.take(split.train), prepared.train.take(split.dev)
    with tempfile.TemporaryDirectory() as folder:
        data = TrainingData(train, dev, lambda prediction: {"pearson": float(prediction.mean())})
        fit(model, data, config, seed=seed, checkpoints=Path(folder))
    predict(model, dev, config.optimisation.precision)


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
