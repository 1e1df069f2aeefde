"""Estimate what having chosen the epoch on the scored rows adds to development scores."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from ablation.tracking import names
from reports.analysis.collect import Experiment, StoredRun, read_tables
from reports.analysis.measures import Measurements
from reports.analysis.selection import NestedScore, nested_halves

#: More runs of a variant and split say little more, and take time.
MOST_SEEDS: Final = 5
#: Ways of halving a run's rows; runs are averaged over as well.
REPEATS: Final = 10


@dataclass(frozen=True)
class EpochChoice:
    """The choice of an epoch by a variant's runs on a split.

    Attributes:
        variant, split: The runs'.
        scores: Of each run.
        last: Pearson of each run's last epoch, which nothing chose.
        epochs: Epochs to choose from.
        rows: Development rows.
        runs: Ids of the runs.
    """

    variant: str
    split: str
    scores: tuple[NestedScore, ...]
    last: tuple[float, ...]
    epochs: int
    rows: int
    runs: tuple[str, ...]


def epoch_choices(experiment: Experiment, measurements: Measurements) -> Iterator[EpochChoice]:
    """Yield the choice of each variant and split whose runs kept the predictions of each epoch.

    Runs whose epoch was chosen by another measure than Pearson are left out.

    Raises:
        RunError: An artifact is lost.
    """
    cells: dict[tuple[str, str], list[StoredRun]] = {}
    for run in measurements.group.runs:
        by_pearson = run.params.get("optimisation.select_by", "pearson") == "pearson"
        if by_pearson and not run.member_runs:
            cells.setdefault((run.split, run.variant), []).append(run)
    for (split, variant), all_runs in cells.items():
        runs = sorted(all_runs, key=lambda run: run.seed)[:MOST_SEEDS]
        tables = read_tables(experiment, runs, names.EPOCH_PREDICTIONS)
        scores, last, kept, epochs = [], [], [], 0
        for run in runs:
            sample, table = measurements.sample_of.get((run.run_id, split)), tables[run.run_id]
            if sample is None or table is None:
                continue
            predictions = table.set_index("row").loc[sample.row].to_numpy(np.float64)
            if predictions.shape[1] < 2:
                continue
            score = nested_halves(predictions, sample.label, strata=sample.strata, repeats=REPEATS)
            if not np.isfinite(score.nested):
                continue
            one = nested_halves(predictions[:, -1:], sample.label, repeats=1)
            scores.append(score)
            last.append(one.apparent)
            kept.append(run.run_id)
            epochs = max(epochs, predictions.shape[1])
        if scores:
            rows = len(measurements.sample_of[kept[0], split].label)
            yield EpochChoice(variant, split, tuple(scores), tuple(last), epochs, rows, tuple(kept))
