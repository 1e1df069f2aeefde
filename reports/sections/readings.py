"""Show what each effect would be if the paper were read in another way."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from ablation.config.readings import READINGS
from reports.analysis.inputs import ReportInputs
from reports.analysis.labels import contrast_text
from reports.analysis.specifications import SpecificationCurve
from reports.rendering.blocks import Block, Picture
from reports.rendering.specification_figures import specification_curve
from reports.rendering.tables import EMPTY, Cell, Column, Table, TableBuilder, number_column
from reports.sections.cells import difference_cell, percent_cell
from reports.sections.registry import section

#: A table says as much about fewer choices.
LEAST_DRAWN: Final = 4


@section("Would another reading of the paper change it?", order=35)
def build(inputs: ReportInputs) -> Iterator[Block]:
    """Yield the range of each effect over all readings that were run, and their curves."""
    curves = inputs.specification_curves if inputs.layout.is_mint else ()
    if not curves:  # what a paper leaves open says nothing of another corpus
        return
    with_paper = inputs.comparability.applies
    run = dict.fromkeys(r for c in curves for s in c.specifications for r in s.readings)
    readings = [f"{name}: {READINGS[name].paper}" for name in READINGS if name in run]
    text = (
        "Each effect under every choice that the paper leaves open and that was run: the split"
        " whose models made the test columns, the languages that Dev2 held out"
    )
    yield f"{text}; {'; '.join(readings)}." if readings else f"{text}."
    yield readings_table(curves, with_paper=with_paper)
    drawn = [curve for curve in curves if len(curve.specifications) >= LEAST_DRAWN]
    for number, curve in enumerate(drawn, 1):
        name = f"{contrast_text(curve.effect.weights)}, {curve.subset}"
        caption = (
            f"{name}: the estimate under each choice with its 95% interval, smallest first; the"
            " other colour is the paper as printed"
        )
        caption += ", dashed its figure." if np.isfinite(curve.printed) and with_paper else "."
        figure = specification_curve(curve, with_paper=with_paper)
        yield Picture(f"readings_{number}", caption, figure, wide=True)


def readings_table(curves: Sequence[SpecificationCurve], *, with_paper: bool) -> Table:
    """Return each effect's range over the readings, and how many have the paper's sign."""
    paper = {
        "printed": number_column("paper", width=7),
        "agree": number_column("with its sign", width=9),
    }
    table = TableBuilder(
        "readings",
        "Effects over all readings that were run",
        effect=Column("effect", width=22),
        rows=Column("on", width=10),
        count=number_column("choices", width=7),
        own=number_column("as printed", width=8),
        low=number_column("smallest", width=8),
        low_choice=Column("with", width=18),
        middle=number_column("median", width=7),
        high=number_column("largest", width=8),
        high_choice=Column("with", width=18),
        **(paper if with_paper else {}),
    )
    for curve in curves:
        first, last = curve.specifications[0], curve.specifications[-1]
        printed = np.isfinite(curve.printed)
        count = len(curve.specifications)
        agree = Cell(f"{curve.with_printed_sign} of {count}", curve.with_printed_sign)
        ours = {"printed": difference_cell(curve.printed), "agree": agree if printed else EMPTY}
        table.add(
            effect=contrast_text(curve.effect.weights),
            rows=str(curve.subset),
            count=count,
            own=difference_cell(curve.own.estimate.mean, curve.own.estimate)
            if curve.own
            else EMPTY,
            low=difference_cell(first.estimate.mean, first.estimate),
            low_choice=str(first),
            middle=percent_cell(float(np.median(curve.means))),
            high=difference_cell(last.estimate.mean, last.estimate),
            high_choice=str(last),
            **(ours if with_paper else {}),
        )
    return table.build(
        "Differences of Pearson × 100. A description: the choices are no sample of anything, so"
        " that nothing is tested over them (Simonsohn, Simmons and Nelson, 2020)."
    )
