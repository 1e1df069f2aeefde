"""Estimate what having chosen the epoch on the scored rows adds to development scores."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from ablation.data.splits import draw_kind
from ablation.tracking import names
from reports.analysis.collect import Experiment, StoredRun, read_tables
from reports.analysis.measures import Measurements
from reports.analysis.selection import NestedScore, nested_halves
from reports.analysis.subsets import EvalSubset

#: More runs of a variant on splits of a kind say little more, and take time.
MOST_RUNS: Final = 10
#: Ways of halving a run's rows; runs are averaged over as well.
REPEATS: Final = 10


@dataclass(frozen=True)
class EpochChoice:
    """The choice of an epoch by a variant's runs on splits of a kind.

    Attributes:
        variant: The runs'.
        column: The split, or the splits of a kind, as a column of Table 3.
        scores: Of each run.
        last: Pearson of each run's last epoch, which nothing chose.
        epochs: Epochs to choose from.
        rows: Development rows of one run.
        runs: Ids of the runs.
    """

    variant: str
    column: EvalSubset
    scores: tuple[NestedScore, ...]
    last: tuple[float, ...]
    epochs: int
    rows: int
    runs: tuple[str, ...]


def epoch_choices(experiment: Experiment, measurements: Measurements) -> Iterator[EpochChoice]:
    """Yield the choice of each variant and kind of split whose runs kept each epoch's predictions.

    Runs whose epoch was chosen by another measure than Pearson are left out.

    Raises:
        RunError: An artifact is lost.
    """
    cells: dict[tuple[str, str], list[StoredRun]] = {}
    for run in measurements.group.runs:
        by_pearson = run.params.get("optimisation.select_by", "pearson") == "pearson"
        if by_pearson and not run.member_runs:
            cells.setdefault((draw_kind(run.split), run.variant), []).append(run)
    for (kind, variant), all_runs in cells.items():
        runs = sorted(all_runs, key=lambda run: run.seed)[:MOST_RUNS]
        tables = read_tables(experiment, runs, names.EPOCH_PREDICTIONS)
        scores, last, kept, rows, epochs = [], [], [], [], 0
        for run in runs:
            sample = measurements.sample_of.get((run.run_id, run.split))
            table = tables[run.run_id]
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
            rows.append(len(sample.label))
            epochs = max(epochs, predictions.shape[1])
        if scores:
            yield EpochChoice(
                variant,
                measurements.find(kind),
                tuple(scores),
                tuple(last),
                epochs,
                round(float(np.mean(rows))),
                tuple(kept),
            )
