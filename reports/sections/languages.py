"""Show the scores of each language."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from ablation.core.counting import counted
from ablation.core.slugs import slug
from ablation.data.description import group_title
from ablation.data.layout import MINT_LAYOUT, CorpusLayout
from ablation.data.splits import LEAVE_ONE_OUT, draw_kind
from reports.analysis.estimates import Estimate
from reports.analysis.inputs import ReportInputs
from reports.analysis.labels import row_title
from reports.analysis.measures import Measurements
from reports.analysis.subsets import EvalSubset
from reports.rendering import figures
from reports.rendering.blocks import Block, Picture
from reports.rendering.tables import (
    EMPTY,
    Cell,
    Column,
    Table,
    TableBuilder,
    mark_best,
    number_column,
)
from reports.sections.registry import section
from reports.sections.results import speaks_of_other_groups


@section("Languages", order=40)
def build(inputs: ReportInputs) -> Iterator[Block]:
    """Yield a table for each eval set, the analysed one with a figure."""
    measurements = inputs.measurements
    columns = [c for c in measurements.columns if c.languages == "all"]
    for column in sorted(columns, key=lambda c: not c.is_test):
        if len(measurements.languages_of(column)) < 2:
            continue
        if column == measurements.find(draw_kind(measurements.analysed_set)):
            rows = _rows_text(measurements, column)
            word = inputs.layout.group.word
            caption = f"Pearson × 100 by variant and {word} ({rows}), mean over seeds."
            drawn = figures.heat(scores_by_language(measurements, column))
            yield Picture("languages", caption, drawn, wide=True)
        yield language_table(measurements, column, inputs.layout)


def scores_by_language(measurements: Measurements, column: EvalSubset) -> pd.DataFrame:
    """Return the mean Pearson by variant title (index) and language (columns)."""
    table = measurements.group.table
    scores = {
        language: {
            row_title(v, table): measurements.cell(v, replace(column, languages=language)).mean
            for v in _variants(measurements, column)
        }
        for language in measurements.languages_of(column)
    }
    return pd.DataFrame(scores)


def language_table(
    measurements: Measurements, column: EvalSubset, layout: CorpusLayout = MINT_LAYOUT
) -> Table:
    """Return variants by languages: mean over seeds, under it 95% over rows and over seeds."""
    languages = measurements.languages_of(column)
    variants = _variants(measurements, column)
    estimates = {
        x: [measurements.cell(v, replace(column, languages=x)) for v in variants] for x in languages
    }
    columns = {x: [_score_cell(e) for e in cells] for x, cells in estimates.items()}
    if column.is_test:
        columns = {x: mark_best(cells) for x, cells in columns.items()}
    table = TableBuilder(
        f"languages_{slug(column.eval_set.replace(':', '_').replace('+', '_'))}",
        f"Pearson × 100 by {layout.group.word}, {_rows_text(measurements, column)}",
        method=Column("Method"),
        **{x: number_column(x) for x in languages},
        mean=number_column("mean"),
    )
    for i, variant in enumerate(variants):
        cells = {x: columns[x][i] for x in languages}
        mean = _score_cell(measurements.language_mean(variant, column))
        table.add(method=row_title(variant, measurements.group.table), **cells, mean=mean)
    names = ", ".join(
        f"{_named(x, layout)} ({counted(max(e.rows for e in estimates[x]), 'row')})"
        for x in languages
    )
    is_about_others = draw_kind(column.eval_set) == LEAVE_ONE_OUT and speaks_of_other_groups(
        measurements
    )
    of_the_mean = (
        f"The mean over {layout.group.plural} is of these {layout.group.plural}: its interval is"
        " not about others."
    )
    return table.build(
        "Small print: 95% over rows and seeds (over rows alone for one seed); none below 50 rows.",
        *([] if is_about_others else [of_the_mean]),
        f"{names}.",
    )


def _named(group: str, layout: CorpusLayout) -> str:
    """Return a group with its name, where that is another: `fr French`."""
    title = group_title(group, layout)
    return group if title == group else f"{group} {title}"


def _variants(measurements: Measurements, column: EvalSubset) -> list[str]:
    return [v for v in measurements.group.variants if measurements.all_runs(v, column)]


def _score_cell(estimate: Estimate) -> Cell:
    if not estimate.exists:
        return EMPTY
    interval = estimate.interval
    lines = []
    if np.isfinite(interval.low):
        lines = [f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}]"]
    text, below = (t.replace("-", "−") for t in (f"{100 * estimate.mean:.2f}", "\n".join(lines)))
    return Cell(text, 100 * estimate.mean, below, estimate.runs)


def _rows_text(measurements: Measurements, column: EvalSubset) -> str:
    if column.is_test:
        return f"test rows, models of {measurements.tested_models}"
    return f"development rows of {column}"
