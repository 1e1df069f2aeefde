"""Show each run as a point that a reader can hover over and filter, on the HTML page alone."""

from collections.abc import Iterator

import numpy as np

from ablation.data.description import group_title
from ablation.data.layout import CorpusLayout
from reports.analysis.estimates import NAN
from reports.analysis.inputs import ReportInputs
from reports.analysis.labels import row_title
from reports.analysis.measures import Measurements
from reports.analysis.subsets import EvalSubset
from reports.rendering.blocks import Block, Explorer, RunPoint
from reports.sections.registry import section

#: Hundredths of a point of Pearson × 100 are more than a picture shows.
_DIGITS = 2


@section("Every run", order=15)
def build(inputs: ReportInputs) -> Iterator[Block]:
    """Yield the scores of all runs on each set of rows and group."""
    explorer = every_run(inputs.measurements, inputs.layout)
    if explorer.scores:
        yield explorer


def every_run(measurements: Measurements, layout: CorpusLayout) -> Explorer:
    """Return each run's Pearson × 100 by rows and group; None where it does not exist."""
    group, records = measurements.group, measurements.records
    points = [
        RunPoint(
            id=run.run_id,
            method=group.variants.index(run.variant),
            split=str(EvalSubset(run.split)),
            seed=run.seed,
            epoch=records[run.run_id].best_epoch,
        )
        for run in group.runs
    ]
    scores: dict[str, dict[str, list[float | None]]] = {}
    for subset in measurements.subsets:
        values = [100 * measurements.values.get((r.run_id, subset), NAN) for r in group.runs]
        scored = [round(v, _DIGITS) if np.isfinite(v) else None for v in values]
        rows = "test" if subset.is_test else str(EvalSubset(subset.eval_set))
        scores.setdefault(rows, {})[subset.languages] = scored
    groups = {name for by_group in scores.values() for name in by_group}
    plural = layout.group.plural
    pooled = {"all": f"all {plural}", "seen": f"{plural} seen", "unseen": f"{plural} not seen"}
    return Explorer(
        id="every_run",
        caption="Each point is one training (or ensemble). Hover for its split, seed and run; click"
        " to go to its line in the table of runs.",
        methods=tuple(row_title(variant, group.table) for variant in group.variants),
        points=tuple(points),
        scores=scores,
        group_label=plural.capitalize(),
        groups={name: pooled.get(name) or group_title(name, layout) for name in sorted(groups)},
    )
