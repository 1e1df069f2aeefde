"""Show what each variant took, and what it reached."""

from collections.abc import Iterator, Sequence

import numpy as np

from reports.analysis.costs import Cost
from reports.analysis.inputs import ReportInputs
from reports.rendering import figures
from reports.rendering.blocks import Block, Picture
from reports.rendering.tables import Column, Table, TableBuilder, number, number_column
from reports.sections.cells import percent_cell
from reports.sections.registry import section


@section("Cost", order=80)
def build(inputs: ReportInputs) -> Iterator[Block]:
    """Yield the costs as a table and a figure."""
    yield cost_table(inputs.costs, str(inputs.measurements.analysed))
    known = [c for c in inputs.costs if np.isfinite(c.seconds) and c.pearson.exists]
    if known:
        caption = f"Pearson ({inputs.analysed_rows}) against training time."
        yield Picture("cost", caption, figures.cost(known))


def cost_table(costs: Sequence[Cost], subset: str) -> Table:
    """Return each variant's costs and its score on `subset`."""
    countries = sorted({country for cost in costs for country in cost.countries})
    measured = (
        {
            "energy": number_column("Wh a run"),
            "co2": number_column("g CO2e a run"),
        }
        if countries
        else {}
    )
    table = TableBuilder(
        "cost",
        "What each variant took",
        method=Column("Method"),
        runs=number_column("runs"),
        seconds=number_column("seconds a run"),
        tokens=number_column("tokens a second"),
        memory=number_column("peak memory, GiB"),
        trainable=number_column("trainable, millions"),
        **measured,
        pearson=number_column(f"Pearson × 100, {subset}"),
    )
    for cost in costs:
        energy = (
            {"energy": number(cost.energy_wh, 2), "co2": number(cost.co2_g, 2)} if countries else {}
        )
        table.add(
            method=cost.variant,
            runs=cost.runs,
            seconds=number(cost.seconds, 1),
            tokens=number(cost.tokens_per_second, 0),
            memory=number(cost.memory_gib, 2),
            trainable=number(cost.trainable_millions, 2),
            **energy,
            pearson=percent_cell(cost.pearson.mean, cost.pearson),
        )
    electricity = (
        " Electricity is codecarbon's estimate for the whole machine while a run trained, averaged"
        f" over the runs that were measured; its CO2 is by the mean mix of {', '.join(countries)}."
        if countries
        else ""
    )
    return table.build(
        "Means over runs, by the clock: what else ran on the machine at the time is in them."
        " Seconds include evaluation; tokens a second are of the training rows and"
        " the evaluations between epochs. On a CPU the memory is the process's highest so far, so"
        " it never falls from one run to the next." + electricity
    )
