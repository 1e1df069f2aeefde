"""Show the scores on every target of a corpus that has several."""

from collections.abc import Iterator

import numpy as np

from ablation.data.splits import draw_kind
from reports.analysis.inputs import ReportInputs
from reports.analysis.labels import row_title
from reports.analysis.measures import Measurements
from reports.analysis.subsets import TEST, EvalSubset
from reports.rendering.blocks import Block
from reports.rendering.tables import EMPTY, Cell, Column, TableBuilder, number_column
from reports.sections.registry import section


@section("Targets", order=8)
def build(inputs: ReportInputs) -> Iterator[Block]:
    """Yield a table of rows by targets."""
    targets = inputs.targets
    if not targets:
        return
    variants = dict.fromkeys(v for measured in targets.values() for v in measured.group.variants)
    table = TableBuilder(
        "targets",
        "Scores on each target",
        method=Column("Method", width=20),
        **{name: number_column(name, width=13) for name in targets},
    )
    for variant in variants:
        cells = {name: _score_cell(measured, variant) for name, measured in targets.items()}
        table.add(method=row_title(variant, inputs.group.table), **cells)
    rows = {name: _rows(measured) for name, measured in targets.items()}
    listed = "; ".join(f"{name}: {where}" for name, where in rows.items())
    yield table.build(
        "Pearson × 100, pooled over rows; mean ± standard deviation over seeds. Each target has"
        f" models of its own. Rows: {listed}."
    )
    shown = next(name for name, measured in targets.items() if measured is inputs.measurements)
    yield (
        f"The sections below are about {shown}; `ablation report --group` shows another target."
        " Claims, steps and p values there are of that target alone."
    )


def _subset(measurements: Measurements) -> EvalSubset:
    return measurements.find(TEST if measurements.has_test else draw_kind(measurements.test_from))


def _rows(measurements: Measurements) -> str:
    subset = _subset(measurements)
    return str(subset) if subset.is_test else f"development rows of {subset}"


def _score_cell(measurements: Measurements, variant: str) -> Cell:
    if variant not in measurements.group.variants:
        return EMPTY
    estimate = measurements.cell(variant, _subset(measurements))
    if not estimate.exists:
        return EMPTY
    sd = f" ± {100 * estimate.sd:.2f}" if np.isfinite(estimate.sd) else ""
    return Cell(f"{100 * estimate.mean:.2f}{sd}", 100 * estimate.mean, runs=estimate.runs)
