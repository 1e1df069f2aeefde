"""How time grows: with the rows of a corpus, and with the runs that an experiment already holds."""

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
from ablation.bench.synthetic_runs import finish, request, write_corpus
from ablation.bench.table import Row
from ablation.config.schema import resolve_config
from ablation.data.corpus import load_corpus
from ablation.data.splits import make_split, parse_splits
from ablation.runs.request import RunRequest
from ablation.training.batching import by_length, collate, epoch_batches
from ablation.training.evaluation import EVALUATION_BATCH, scores
from ablation.training.loop import prediction_table
from ablation.training.train_run import prepare

ROWS: Final = (1_000, 10_000, 100_000)
RUNS: Final = (10, 100, 1_000)
#: MINT's labelled rows.
TRAIN_ROWS, TEST_ROWS = 9_491, 3_881
_BATCH: Final = 32
#: Linear, with room for the noise of a measurement.
MOST_EXPONENT: Final = 1.1
RUNS_TARGET_S: Final = 10.0


@dataclass(frozen=True)
class Stage:
    """What a stage took by the number of rows, in ascending order: `rows` and `seconds` (sizes,)."""

    name: str
    rows: tuple[int, ...]
    seconds: tuple[float, ...]

    @property
    def exponent(self) -> float:
        """k where seconds grow as rows to the power of k, between the two largest sizes; NaN for one size."""
        if len(self.rows) < 2:
            return math.nan
        return math.log(self.seconds[-1] / self.seconds[-2]) / math.log(
            self.rows[-1] / self.rows[-2]
        )


@dataclass(frozen=True)
class WithRuns:
    """Seconds of the commands in an experiment that holds `runs` finished ones, all of which are asked for again."""

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
    """The rows of the table: each stage's exponent, and the commands beside the most runs."""
    with tempfile.TemporaryDirectory() as folder:
        stages = by_rows(Path(folder) / "rows", rows, encoder)
        steps = list(by_runs(Path(folder) / "runs", runs, *corpus_rows))
    found = [
        Row(
            "growth",
            f"{stage.name}: k, where {max(rows):,} rows take rows^k",
            (stage.exponent,),
            "",
            "at most",
            MOST_EXPONENT,
            parts={"rows": stage.rows, "seconds": stage.seconds},
        )
        for stage in stages
    ]
    last = steps[-1]
    for name, seconds in (
        ("planning", last.planning),
        ("resuming", last.resuming),
        ("reporting", last.reporting),
    ):
        parts = {
            "runs": [step.runs for step in steps],
            "seconds": [getattr(step, name) for step in steps],
        }
        found.append(
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
    return found


def by_rows(folder: Path, sizes: Sequence[int] = ROWS, encoder: str = "bundled") -> list[Stage]:
    """Each stage from the files to the scores, on `sizes` labelled rows and as many test rows, below `folder`."""
    taken: dict[str, list[float]] = {}
    for size in sorted(sizes):
        corpus = folder / f"rows-{size}"
        write_corpus(corpus, size, size)
        for name, seconds in _stages(corpus, encoder):
            taken.setdefault(name, []).append(seconds)
    return [Stage(name, tuple(sorted(sizes)), tuple(seconds)) for name, seconds in taken.items()]


def by_runs(
    folder: Path,
    counts: Sequence[int] = RUNS,
    train_rows: int = TRAIN_ROWS,
    test_rows: int = TEST_ROWS,
) -> Iterator[WithRuns]:
    """The commands at each of `counts` finished runs (multiples of ten), one experiment that grows; as each is measured.

    Making up the runs takes most of the time: a fifth of a second each.
    """
    corpus = folder / "corpus"
    write_corpus(corpus, train_rows, test_rows)
    for count in sorted(counts):
        asked = request(corpus, f"sqlite:///{folder / 'mlflow.db'}", count)
        finish(asked)
        planning = run_command(["plan", *_arguments(asked)], folder, asked.tracking_uri)
        resuming = run_command(
            ["run", *_arguments(asked), "--report", "false"], folder, asked.tracking_uri
        )
        yield WithRuns(count, planning, resuming, _report(folder, asked))


def _stages(corpus: Path, encoder: str) -> Iterator[tuple[str, float]]:
    config = resolve_config({"model.encoder": encoder})
    with _clock() as seconds:
        loaded = load_corpus(str(corpus))
    yield "read and check", seconds()
    with _clock() as seconds:
        for name in parse_splits("dev1,dev2", loaded, 0):
            split = make_split(loaded, name, 0)
    yield "split", seconds()
    with _clock() as seconds:
        prepared = prepare(loaded, config)
    yield "load the encoder, tokenise", seconds()
    device = torch.device("cpu")
    with _clock() as seconds:
        for batch in epoch_batches(prepared.train, _BATCH, 0):
            collate(prepared.train, batch, device)
        for batch in by_length(prepared.train, EVALUATION_BATCH):
            collate(prepared.train, batch, device)
    yield "batch, an epoch and an evaluation", seconds()
    predicted = np.random.default_rng(0).normal(size=len(prepared.train)).astype(np.float32)
    with _clock() as seconds:
        seen = [language for language in loaded.training_languages if language not in split.unseen]
        scores(prediction_table(prepared.train, prepared.languages, predicted), seen)
    yield "score", seconds()


@contextmanager
def _clock() -> Iterator[Callable[[], float]]:
    """Seconds from here to the end of the block."""
    began, ended = time.perf_counter(), 0.0
    yield lambda: ended - began
    ended = time.perf_counter()


def _arguments(asked: RunRequest) -> list[str]:
    chosen = {
        "data": asked.data,
        "profile": asked.profile,
        "variants": asked.variants,
        "splits": asked.splits,
        "seeds": asked.seeds,
    }
    return [part for name, value in chosen.items() for part in (f"--{name}", value)]


def _report(folder: Path, asked: RunRequest) -> float:
    """Seconds of the command, a process of its own: this package knows nothing of reports."""
    return run_command(
        ["report", "--out", str(folder / "report"), "--log", "false"], folder, asked.tracking_uri
    )
