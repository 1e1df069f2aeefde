"""Show the training curves of the ablation's own runs (Figures 4 and 5)."""

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from ablation.config.variant_table import VariantTable
from reports.analysis.curves import HAD_LEARNED, Curve
from reports.analysis.inputs import ReportInputs
from reports.analysis.labels import row_title
from reports.analysis.subsets import EvalSubset
from reports.rendering.blocks import Block, Picture
from reports.rendering.curve_figures import training_curves
from reports.rendering.tables import Column, Table, TableBuilder, number, number_column
from reports.sections.cells import collapses_text
from reports.sections.registry import section

#: Figure numbers of the paper with their variants.
FIGURES: Final = {"4": ("mse", "epm"), "5": ("mse+cl", "epm+cl")}


@section("Training curves", order=50)
def build(inputs: ReportInputs) -> Iterator[Block]:
    """Yield Figures 4 and 5, then the curves in numbers."""
    if not inputs.curves:
        yield "These runs kept no training curves."
        return
    table = inputs.group.table
    figures = FIGURES if table.is_the_papers else {"": tuple(inputs.curves)}
    for figure, variants in figures.items():
        present = {
            row_title(v, table): [*inputs.curves[v].values()]
            for v in variants
            if v in inputs.curves
        }
        missing = [v for v in variants if v not in inputs.curves]
        if not present:
            if inputs.layout.is_mint:
                yield f"Figure {figure}: no runs of {' or '.join(variants)}."
            continue
        is_the_papers = figure and inputs.layout.is_mint
        number = f"Figure {figure}: training" if is_the_papers else "Training"
        caption = (
            f"{number} Pearson at each logging point,"
            f" {EvalSubset(inputs.measurements.test_from)}; every seed thin, their mean bold,"
            " nothing smoothed."
        )
        if missing and inputs.layout.is_mint:
            caption += f" No runs of {', '.join(missing)}."
        yield Picture(f"figure{figure}" if figure else "curves", caption, training_curves(present))
    yield curves_table(inputs.curves, table)


def curves_table(by_variant: Mapping[str, dict[int, Curve]], variants: VariantTable) -> Table:
    """Return each variant's curves in numbers, means over seeds."""
    table = TableBuilder(
        "curves",
        "Training curves in numbers",
        method=Column("Method"),
        seeds=number_column("seeds"),
        final=number_column("final"),
        steps=number_column("steps to 90%"),
        roughness=number_column("roughness"),
        collapses=Column("collapses"),
    )
    for variant, by_seed in by_variant.items():
        curves = list(by_seed.values())
        runs = tuple(curve.run.run_id for curve in curves)
        table.add(
            method=row_title(variant, variants),
            seeds=len(curves),
            final=number(float(np.mean([c.final for c in curves])), 3, runs=runs),
            steps=number(float(np.mean([c.steps_to_converge for c in curves])), 0, runs=runs),
            roughness=number(float(np.mean([c.roughness for c in curves])), 4, runs=runs),
            collapses=collapses_text(by_seed),
        )
    return table.build(
        "Means over seeds. Final: mean of the last tenth of the points. Roughness: mean absolute"
        f" second difference. Collapse: below zero after having exceeded {HAD_LEARNED}.",
        wide=False,
    )
