"""Show what each component does: main effects, interactions, and their order."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from reports.analysis.effects import find_effects
from reports.analysis.estimates import NAN, Estimate
from reports.analysis.inputs import ReportInputs
from reports.analysis.measures import Measurements
from reports.analysis.printed import printed_effect, printed_step
from reports.analysis.subsets import EvalSubset
from reports.rendering.blocks import Block
from reports.rendering.tables import EMPTY, Cell, Column, Table, TableBuilder, number_column
from reports.sections.cells import difference_cell, interval_cell
from reports.sections.registry import section

#: Each component's first step, from worse to better.
FIRST_STEPS: Final = {"EPM": ("mse", "epm"), "CL": ("epm", "epm+cl"), "FT": ("epm", "epm+ft")}


@section("What each component does", order=30)
def build(inputs: ReportInputs) -> Iterator[Block]:
    """Yield the effects and, for data like the paper's, their order."""
    if any(effect.weights for effect in find_effects(inputs.group.variants, inputs.group.table)):
        yield effects_table(
            inputs.measurements,
            comparable=inputs.comparability.applies,
            with_paper=inputs.layout.is_mint,
        )
    if not inputs.group.table.is_the_papers:
        return
    order = order_table(inputs.measurements)
    if order.rows and inputs.comparability.applies:
        yield order


def effects_table(
    measurements: Measurements, *, comparable: bool, with_paper: bool = True
) -> Table:
    """Return main effects and interactions on every column of Table 3."""
    table = TableBuilder(
        "effects",
        "Effects of the components",
        effect=Column("effect", width=13),
        rows=Column("on", width=10),
        estimate=number_column("estimate", width=8),
        interval=number_column("95%", width=14),
        **({"printed": number_column("paper", width=7)} if with_paper else {}),
        cells=Column("taken from", width=25),
        missing=Column("runs that would complete it", width=23),
    )
    subsets = [s for s in measurements.columns if measurements.is_scored(s)]
    rows = measurements.group.table
    for effect in find_effects(measurements.group.variants, rows):
        if not effect.weights:
            table.add(
                effect=effect.name,
                rows=EMPTY,
                estimate=EMPTY,
                interval=EMPTY,
                **({"printed": EMPTY} if with_paper else {}),
                cells="no runs",
                missing=", ".join(effect.missing),
            )
            continue
        for subset in subsets:
            estimate = measurements.contrast(effect.weights, subset)
            printed = printed_effect(effect.weights, subset, rows) if comparable else NAN
            table.add(
                effect=effect.name,
                rows=str(subset),
                estimate=difference_cell(estimate.mean, estimate),
                interval=interval_cell(estimate.interval, estimate),
                **({"printed": difference_cell(printed)} if with_paper else {}),
                cells=", ".join(effect.cells),
                missing=", ".join(effect.missing) or "none",
            )
    return table.build(
        "Pearson × 100. A main effect is the mean difference between cells with and without the"
        " component, an interaction the difference between such differences, over all complete"
        " sets of cells at hand; missing sets are named, not filled in."
    )


def order_table(measurements: Measurements) -> Table:
    """Return sign and order of the components' first steps, ours against the paper's."""
    table = TableBuilder(
        "order",
        "Sign and order of the effects",
        rows=Column("on"),
        printed=Column("paper's order"),
        measured=Column("our order"),
        orders=Column("orders"),
        signs=Column("signs"),
    )
    for subset in measurements.columns:
        estimates = {n: measurements.step(*step, subset) for n, step in FIRST_STEPS.items()}
        printed = {n: printed_step(*step, subset) for n, step in FIRST_STEPS.items()}
        if all(e.exists for e in estimates.values()) and np.isfinite([*printed.values()]).all():
            _add_order(table, subset, estimates, printed)
    return table.build(
        "EPM: MSE → EPM; CL: EPM → EPM + CL; FT: EPM → EPM + FT. CL and FT share a side, so that"
        " chance does not make all six orders alike: an order is a description, not a test."
    )


def _add_order(
    table: TableBuilder,
    subset: EvalSubset,
    estimates: dict[str, Estimate],
    printed: dict[str, float],
) -> None:
    means = {name: estimate.mean for name, estimate in estimates.items()}
    measured, papers = (sorted(v, key=lambda name: -v[name]) for v in (means, printed))
    signs = [name for name in means if (means[name] > 0) != (printed[name] > 0)]
    runs = tuple(dict.fromkeys(run for e in estimates.values() for run in e.runs))
    table.add(
        rows=str(subset),
        printed=" > ".join(papers),
        measured=Cell(" > ".join(measured), runs=runs),
        orders=_agreement([] if measured == papers else measured, names=False),
        signs=_agreement(signs),
    )


def _agreement(differing: Sequence[str], *, names: bool = True) -> Cell:
    """Return whether ours and the paper's agree, with the `names` that differ."""
    if not differing:
        return Cell("agree", mark="good")
    return Cell(f"differ: {', '.join(differing)}" if names else "differ", mark="unsure")
