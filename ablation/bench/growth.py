"""Measure how time grows with the rows of a corpus, and with the finished runs of an experiment."""

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from ablation.bench.subprocesses import run_command
from ablation.bench.synthetic_runs import make_request, write_corpus, write_runs
from ablation.bench.table import Row
from ablation.config.overrides import resolve_config
from ablation.data.corpus import load_corpus
from ablation.data.splits import make_split, select_splits
from ablation.runs.request import RunRequest
from ablation.training.batching import collate, epoch_batches, prediction_batches
from ablation.training.evaluation import EVALUATION_BATCH, prediction_table, scores
from ablation.training.train_run import prepare

ROWS: Final = (1_000, 10_000, 100_000)
RUNS: Final = (10, 100, 1_000)
#: MINT's labelled rows.
TRAIN_ROWS, TEST_ROWS = 9_491, 3_881
_BATCH: Final = 32
#: Linear, with room for the noise of a measurement.
MAX_EXPONENT: Final = 1.1
RUNS_TARGET_S: Final = 10.0


@dataclass(frozen=True)
class Stage:
    """The time of a stage by the number of rows, in ascending order."""

    name: str
    rows: tuple[int, ...]
    seconds: tuple[float, ...]

    @property
    def exponent(self) -> float:
        """The k of seconds ~ rows^k between the two largest sizes; NaN for a single size."""
        if len(self.rows) < 2:
            return math.nan
        return math.log(self.seconds[-1] / self.seconds[-2]) / math.log(
            self.rows[-1] / self.rows[-2]
        )


@dataclass(frozen=True)
class CommandTimes:
    """Seconds of the commands in an experiment of `runs` finished runs, all requested again."""

    runs: int
    planning: float
    resuming: float
    reporting: float


def measure_growth(
    rows: Sequence[int] = ROWS,
    runs: Sequence[int] = RUNS,
    encoder: str = "bundled",
    corpus_rows: tuple[int, int] = (TRAIN_ROWS, TEST_ROWS),
) -> list[Row]:
    """Return the table's rows: each stage's exponent, and the commands' seconds with the most runs.

    Args:
        rows: Numbers of labelled rows to measure the stages at.
        runs: Numbers of finished runs, multiples of ten, to measure the commands at.
        encoder: The encoder of the stages.
        corpus_rows: Training and test rows of the corpus that the runs were made on.
    """
    with tempfile.TemporaryDirectory() as folder:
        stages = measure_stages(Path(folder) / "rows", rows, encoder)
        times = list(measure_commands(Path(folder) / "runs", runs, *corpus_rows))
    table = [
        Row(
            "growth",
            f"{stage.name}: k, where {max(rows):,} rows take rows^k",
            (stage.exponent,),
            "",
            "at most",
            MAX_EXPONENT,
            parts={"rows": stage.rows, "seconds": stage.seconds},
        )
        for stage in stages
    ]
    last = times[-1]
    for name, seconds in (
        ("planning", last.planning),
        ("resuming", last.resuming),
        ("reporting", last.reporting),
    ):
        parts = {
            "runs": [step.runs for step in times],
            "seconds": [getattr(step, name) for step in times],
        }
        table.append(
            Row(
                "growth",
                f"{name} with {last.runs:,} runs",
                (seconds,),
                "s",
                "at most",
                RUNS_TARGET_S,
                parts=parts,
            )
        )
    return table


def measure_stages(
    folder: Path, sizes: Sequence[int] = ROWS, encoder: str = "bundled"
) -> list[Stage]:
    """Time each stage from the files to the scores.

    Args:
        folder: Where the corpora are written.
        sizes: Numbers of labelled rows; there are as many test rows.
        encoder: The encoder to tokenise with.
    """
    taken: dict[str, list[float]] = {}
    for size in sorted(sizes):
        corpus = folder / f"rows-{size}"
        write_corpus(corpus, size, size)
        for name, seconds in _stages(corpus, encoder):
            taken.setdefault(name, []).append(seconds)
    return [Stage(name, tuple(sorted(sizes)), tuple(seconds)) for name, seconds in taken.items()]


def measure_commands(
    folder: Path,
    counts: Sequence[int] = RUNS,
    train_rows: int = TRAIN_ROWS,
    test_rows: int = TEST_ROWS,
) -> Iterator[CommandTimes]:
    """Yield the commands' times at each number of finished runs of a growing experiment.

    Writing the synthetic runs takes most of the time: a fifth of a second each.

    Args:
        folder: Where corpus and store are written.
        counts: Numbers of runs, multiples of ten.
        train_rows: Training rows of the corpus.
        test_rows: Test rows of the corpus.
    """
    corpus = folder / "corpus"
    write_corpus(corpus, train_rows, test_rows)
    for count in sorted(counts):
        request = make_request(corpus, f"sqlite:///{folder / 'mlflow.db'}", count)
        write_runs(request)
        planning = run_command(["plan", *_arguments(request)], folder, request.tracking_uri)
        resuming = run_command(
            ["run", *_arguments(request), "--report", "false"], folder, request.tracking_uri
        )
        yield CommandTimes(count, planning, resuming, _report(folder, request))


def _stages(corpus: Path, encoder: str) -> Iterator[tuple[str, float]]:
    config = resolve_config({"model.encoder": encoder})
    with _clock() as seconds:
        loaded = load_corpus(str(corpus))
    yield "read and check", seconds()
    with _clock() as seconds:
        for name in select_splits(("dev1", "dev2"), loaded, 0):
            split = make_split(loaded, name, 0)
    yield "split", seconds()
    with _clock() as seconds:
        prepared = prepare(loaded, config)
    yield "load the encoder, tokenise", seconds()
    device = torch.device("cpu")
    with _clock() as seconds:
        for batch in epoch_batches(prepared.train, _BATCH, 0):
            collate(prepared.train, batch, device)
        for batch in prediction_batches(prepared.train, EVALUATION_BATCH):
            collate(prepared.train, batch, device)
    yield "batch, an epoch and an evaluation", seconds()
    predicted = np.random.default_rng(0).normal(size=len(prepared.train)).astype(np.float32)
    with _clock() as seconds:
        seen = [language for language in loaded.training_languages if language not in split.unseen]
        scores(prediction_table(prepared.train, prepared.languages, predicted), seen)
    yield "score", seconds()


@contextmanager
def _clock() -> Iterator[Callable[[], float]]:
    """Time the block: the function returns its seconds once it has ended."""
    began, ended = time.perf_counter(), 0.0
    yield lambda: ended - began
    ended = time.perf_counter()


def _arguments(request: RunRequest) -> list[str]:
    chosen = {
        "data": str(request.data),
        "profile": str(request.profile),
        "variants": ",".join(map(str, request.variants)),
        "splits": ",".join(request.splits),
        "seeds": ",".join(map(str, request.seeds)),
    }
    return [part for name, value in chosen.items() for part in (f"--{name}", value)]


def _report(folder: Path, request: RunRequest) -> float:
    """Return the seconds of the report command; this package does not import reports."""
    return run_command(
        ["report", "--out", str(folder / "report"), "--log", "false"], folder, request.tracking_uri
    )
