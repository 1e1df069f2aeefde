"""Show Table 3 beside the paper's, and what the runs say of the paper's claims."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from ablation.config.variant_table import VariantTable
from ablation.config.variants import GROUPS
from ablation.data.description import group_title
from ablation.data.layout import MINT_LAYOUT, CorpusLayout
from ablation.data.splits import LEAVE_ONE_OUT
from reports.analysis.inputs import ReportInputs
from reports.analysis.labels import row_title
from reports.analysis.measures import Measurements
from reports.analysis.printed import printed_cells, printed_score
from reports.analysis.replication import Family, Verdict
from reports.analysis.scope import LEAST_SPLITS
from reports.analysis.steps import why_empty
from reports.analysis.subsets import EvalSubset
from reports.analysis.verdicts import assess_cell
from reports.rendering.blocks import Block
from reports.rendering.marks import verdict_cell
from reports.rendering.tables import Cell, Column, Table, TableBuilder, mark_best, number_column
from reports.sections.cells import difference_cell, interval_cell, percent_cell, unit_cell, why
from reports.sections.registry import section

#: The rows that Table 3 prints, in its order; further variants stand below them.
PRINTED_ROWS: Final = (*GROUPS["table3"][:-1], "baseline", "ensemble")
#: The cells that the paper prints share an error rate, whether there are runs for them or not.
CELL_FAMILY: Final = Family("the printed cells of Table 3", len(printed_cells()))


@section("Results", order=10)
def build(inputs: ReportInputs) -> Iterator[Block]:
    """Yield the table, and its cells one by one if they can be held against printed ones."""
    has_figures = inputs.layout.is_mint and inputs.group.table.publication is not None
    if not has_figures and not inputs.comparability.applies:
        yield scores_table(inputs.measurements, inputs.layout)
        return
    yield table_3(inputs.measurements, with_paper=inputs.comparability.applies)
    obstacle = inputs.comparability.cell_obstacle
    if obstacle and inputs.comparability.has_figures:
        yield f"No cell of {inputs.group.table.title} is judged: {obstacle}."
    elif not obstacle:
        yield cells_table(inputs.measurements)


def table_3(measurements: Measurements, *, with_paper: bool) -> Table:
    """Return variants by columns: mean and sd over seeds, the paper's figure under it.

    The best of a column is bold on test rows only: development rows chose the epochs and the
    ensemble's members, so that the highest of their scores is chosen too.
    """
    rows = measurements.group.table
    listed = _listed_rows(rows) if with_paper or rows.is_the_papers else ()
    variants = [*listed, *(v for v in measurements.group.variants if v not in listed)]
    subsets = {str(subset): subset for subset in measurements.columns}
    columns = {
        name: [_score_cell(measurements, v, s, with_paper=with_paper) for v in variants]
        for name, s in subsets.items()
    }
    columns |= {name: mark_best(columns[name]) for name, s in subsets.items() if s.is_test}
    table = TableBuilder(
        "table3",
        _title(rows, with_paper=with_paper),
        method=Column("Method", width=16),
        **{name: number_column(name, width=11) for name in subsets},
    )
    for i, variant in enumerate(variants):
        cells = {name: column[i] for name, column in columns.items()}
        table.add(method=row_title(variant, rows), **cells)
    return table.build(*_table_3_notes(measurements, with_paper=with_paper))


def _title(rows: VariantTable, *, with_paper: bool) -> str:
    if not rows.is_the_papers:
        return rows.title
    return "Table 3: ours and the paper's" if with_paper else "The rows of the paper's Table 3"


def scores_table(measurements: Measurements, layout: CorpusLayout) -> Table:
    """Return variants by columns on a corpus that no figures were printed for."""
    subsets = {
        str(subset): subset
        for subset in measurements.columns
        if not subset.is_test or measurements.is_scored(subset)
    }
    variants = measurements.group.variants
    columns = {
        name: [_score_cell(measurements, v, s, with_paper=False) for v in variants]
        for name, s in subsets.items()
    }
    columns |= {name: mark_best(columns[name]) for name, s in subsets.items() if s.is_test}
    table = TableBuilder(
        "table3",
        "Scores" if measurements.group.table.is_the_papers else measurements.group.table.title,
        method=Column("Method", width=16),
        **{name: number_column(name, width=11) for name in subsets},
    )
    for i, variant in enumerate(variants):
        cells = {name: column[i] for name, column in columns.items()}
        table.add(method=row_title(variant, measurements.group.table), **cells)
    notes = [
        "Pearson × 100, pooled over rows; mean ± standard deviation over seeds. Development"
        " columns are flattered: their rows chose the epochs and the ensemble's members."
    ]
    if measurements.has_test:
        notes.append(f"Test columns: models of {measurements.tested_models}.")
    notes += pooled_note(measurements, layout.group.plural)
    held_out = _held_out(measurements, layout, measurements.group.splits)
    return table.build(*notes, *([f"{held_out}."] if held_out else []))


def cells_table(measurements: Measurements) -> Table:
    """Return each cell of the table on a line, with its interval and its verdict."""
    rows, family = measurements.group.table, _cell_family(measurements.group.table)
    table = TableBuilder(
        "verdicts",
        f"{rows.title}, cell by cell",
        method=Column("Method", width=14),
        rows=Column("on", width=10),
        count=number_column("rows", width=6),
        mean=number_column("mean", width=7),
        sd=number_column("sd", width=6),
        seeds=number_column("seeds", width=6),
        interval=number_column("95%", width=14),
        unit=Column("over", width=9),
        printed=number_column("paper", width=7),
        difference=number_column("differs by", width=8),
        verdict=Column("verdict", width=12),
        reason=Column("why", width=26),
    )
    for variant in _listed_rows(rows):
        for subset in measurements.columns:
            printed = printed_score(variant, subset, rows)
            estimate = measurements.cell(variant, subset)
            if not estimate.exists and not np.isfinite(printed):
                continue
            assessment = assess_cell(estimate, printed, family, "")
            missing = assessment.verdict == Verdict.MISSING
            table.add(
                method=row_title(variant, rows),
                rows=str(subset),
                count=estimate.rows,
                mean=percent_cell(estimate.mean, estimate),
                sd=percent_cell(estimate.sd, estimate),
                seeds=len(estimate.seeds),
                interval=interval_cell(estimate.interval, estimate),
                unit=unit_cell(estimate),
                printed=percent_cell(printed),
                difference=difference_cell(estimate.mean - printed),
                verdict=verdict_cell(assessment.verdict),
                reason=why_empty(measurements, variant, subset) if missing else why(assessment),
            )
    return table.build(
        "Replicated: the paper's figure lies where a second experiment like the paper's (one seed,"
        " as many rows) would fall, and the interval reaches at most two points to either side."
        f" Level: 5% over the {family.size} printed cells."
    )


def _listed_rows(table: VariantTable) -> tuple[str, ...]:
    """Return the rows that are listed with or without runs: those that are printed."""
    if table.is_the_papers:
        return PRINTED_ROWS
    return tuple(name for name, variant in table.variants.items() if variant.printed)


def _cell_family(table: VariantTable) -> Family:
    """Return the family of the table's printed cells."""
    if table.is_the_papers:
        return CELL_FAMILY
    return Family(f"the printed cells of {table.title}", max(1, len(printed_cells(table))))


def _table_3_notes(measurements: Measurements, *, with_paper: bool) -> list[str]:
    notes = [
        "Pearson × 100, pooled over rows; mean ± standard deviation over seeds. On test rows the"
        " best is bold and underlined, the second underlined. Development columns are flattered:"
        " their rows chose the epochs and the ensemble's members. Test columns: models of"
        f" {measurements.tested_models}"
        + (
            " (the paper does not say which split's models they are)."
            if measurements.group.table.is_the_papers
            else "."
        ),
    ]
    publication = measurements.group.table.publication
    if with_paper and publication and not measurements.group.table.is_the_papers:
        notes.append(f"Small print: the figure of {publication.name} and the difference from it.")
    elif with_paper:
        notes.append(
            "Small print: the paper's figure and the difference from it. Its overall score (56.70)"
            " is that of the submitted system."
        )
    notes += pooled_note(measurements, MINT_LAYOUT.group.plural)
    if any(split.startswith("dev2") for split in measurements.group.splits):
        splits = [split for split in measurements.group.splits if split.startswith("dev2")]
        held_out = _held_out(measurements, MINT_LAYOUT, splits)
        unnamed = " The paper does not name its two languages."
        notes.append(f"{held_out}." + unnamed * measurements.group.table.is_the_papers)
    return notes


def pooled_note(measurements: Measurements, groups: str) -> list[str]:
    """Say of columns over several splits what they are, and what intervals of theirs are about.

    `groups` is the plural of what the corpus's groups are, such as languages.
    """
    pooled = [c for c in measurements.columns if c.splits and not c.is_test]
    if not pooled:
        return []
    named = "; ".join(f"{column}: {', '.join(column.splits)}" for column in pooled)
    runs = "Means over splits and seeds, ± over all of these runs"
    return [f"{runs}: {named}. {splits_text(measurements, groups)}"]


def splits_text(measurements: Measurements, groups: str) -> str:
    """Say whether splits are random or fixed in intervals and verdicts.

    `groups` is the plural of what the corpus's groups are, such as languages.
    """
    pooled = {c.eval_set: c for c in measurements.columns if c.splits and not c.is_test}
    are = measurements.scope.splits
    few = [str(c) for c in pooled.values() if len(c.splits) < LEAST_SPLITS]
    random = [str(c) for c in pooled.values() if str(c) not in few]
    if pooled and len(measurements.group.seeds) < 2:
        return "With one seed, intervals are about other rows alone, and not about other splits."
    if are == "fixed":
        return "Splits are fixed: intervals and verdicts are about these splits."
    sentences = []
    if random:
        about = (
            f"{groups} held out" if set(pooled) == {LEAVE_ONE_OUT} else "splits of the same rows"
        )
        sentences.append(
            f"Splits are random ({', '.join(random)}): intervals and verdicts are about other"
            f" {about}, too."
        )
    if few:
        takes = f"an interval for others takes {LEAST_SPLITS}"
        sentences.append(f"Splits are fixed ({', '.join(few)}): {takes}.")
    return " ".join(sentences)


def speaks_of_other_groups(measurements: Measurements) -> bool:
    """Return True if intervals range over groups that are held out in turn, as over a sample."""
    pooled = [c for c in measurements.columns if c.splits and not c.is_test]
    return (
        len(measurements.group.seeds) > 1
        and measurements.scope.splits != "fixed"
        and {column.eval_set for column in pooled} == {LEAVE_ONE_OUT}
        and len(pooled[0].splits) >= LEAST_SPLITS
    )


def _held_out(measurements: Measurements, layout: CorpusLayout, splits: Sequence[str]) -> str:
    """Name the groups that each split held out."""
    clauses = []
    for split in splits:
        records = [r for r in measurements.records.values() if r.split == split]
        for groups in sorted({r.unseen_in_training for r in records if r.unseen_in_training}):
            names = " and ".join(group_title(x, layout) for x in groups)
            clauses.append(f"{EvalSubset(split)} held out {names}")
    return "; ".join(clauses)


def _score_cell(
    measurements: Measurements, variant: str, subset: EvalSubset, *, with_paper: bool
) -> Cell:
    rows = measurements.group.table
    estimate, printed = measurements.cell(variant, subset), printed_score(variant, subset, rows)
    below = ""
    if np.isfinite(printed) and with_paper:
        below = f"{'paper' if rows.is_the_papers else 'printed'} {100 * printed:.2f}"
        if estimate.exists:
            below += f" ({100 * (estimate.mean - printed):+.2f})".replace("-", "−")
    if not estimate.exists:
        return Cell(why_empty(measurements, variant, subset), below=below)
    sd = f" ± {100 * estimate.sd:.2f}" if np.isfinite(estimate.sd) else ""
    text = f"{100 * estimate.mean:.2f}{sd}".replace("-", "−")
    return Cell(text, 100 * estimate.mean, below, estimate.runs)
