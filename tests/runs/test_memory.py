"""The memory of a process that carries out many runs."""

import io
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import pytest
from rich.console import Console

from ablation.runs.progress import Progress
from ablation.runs.request import RunRequest, resolve_run
from ablation.runs.runner import run_plan

RUNS = 500
#: Runs after which libraries, caches and the allocator's pools have grown to what they need.
WARM_UP = 50
#: Bytes of a run that stay: measured were 30,000.
LEFT_BY_A_RUN = 60_000


@pytest.mark.soak
def test_memory_is_flat_over_many_runs(small_corpus: Path, store_uri: str) -> None:
    """The run's record and tags stay; a corpus, a model or an epoch's tensors do not."""
    process, used = psutil.Process(), []

    class Watching(Progress):
        def ended(self, *of: Any, **more: Any) -> None:
            super().ended(*of, **more)
            used.append(process.memory_info().rss)

    request = RunRequest(
        data=str(small_corpus),
        profile="smoke",
        variants=("mse",),
        splits=("dev1",),
        seeds=tuple(range(RUNS)),
        overrides={"optimisation.epochs": 1},  # a quarter of a second each
        tracking_uri=store_uri,
        keep="none",
    )
    run_plan(resolve_run(request), Watching(Console(file=io.StringIO())))
    assert len(used) == RUNS
    settled, last = median(used[WARM_UP : WARM_UP + 20]), median(used[-20:])
    assert last - settled < LEFT_BY_A_RUN * (RUNS - WARM_UP)
