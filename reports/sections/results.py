"""Show Table 3 beside the paper's, and what the runs say of the paper's claims."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from ablation.config.variants import GROUPS
from ablation.data.languages import language_name
from reports.analysis.claims import CLAIMS
from reports.analysis.inputs import ReportInputs
from reports.analysis.labels import row_title
from reports.analysis.measures import NAN, EvalSubset, Measurements
from reports.analysis.printed import printed_score
from reports.analysis.steps import why_empty
from reports.analysis.verdicts import Assessment, Verdict, assess_cell, points
from reports.rendering.blocks import Block
from reports.rendering.marks import verdict_cell
from reports.rendering.tables import Cell, Column, Table, TableBuilder, mark_best, number_column
from reports.sections.cells import difference_cell, interval_cell, percent_cell, unit_cell
from reports.sections.registry import section

#: The rows that Table 3 prints, in its order; further variants stand below them.
PRINTED_ROWS: Final = (*GROUPS["table3"][:-1], "baseline", "ensemble")


@section("Results", order=10)
def build(inputs: ReportInputs) -> Iterator[Block]:
    """Yield Table 3, the claims, and Table 3 cell by cell."""
    yield table_3(inputs.measurements, comparable=inputs.comparable)
    yield claims_table(inputs.claims)
    yield cells_table(inputs.measurements, comparable=inputs.comparable)


def table_3(measurements: Measurements, *, comparable: bool) -> Table:
    """Return variants by columns: mean and sd over seeds, the paper's figure under it."""
    further = [v for v in measurements.group.variants if v not in PRINTED_ROWS]
    variants = [*PRINTED_ROWS, *further]
    subsets = {str(subset): subset for subset in measurements.columns}
    columns = {
        name: mark_best([_score_cell(measurements, v, s, comparable=comparable) for v in variants])
        for name, s in subsets.items()
    }
    table = TableBuilder(
        "table3",
        "Table 3: ours and the paper's",
        method=Column("Method", width=16),
        **{name: number_column(name, width=11) for name in subsets},
    )
    for i, variant in enumerate(variants):
        cells = {name: column[i] for name, column in columns.items()}
        table.add(method=row_title(variant), **cells)
    return table.build(*_table_3_notes(measurements, comparable=comparable))


def claims_table(assessments: dict[str, Assessment]) -> Table:
    """Return each claim of the paper with its verdict and, in a sentence, the reason."""
    table = TableBuilder(
        "claims",
        "The paper's claims",
        text=Column("the paper says", width=30),
        where=Column("where", width=10),
        verdict=Column("these runs", width=13),
        reason=Column("why", width=47),
    )
    for claim_id, assessment in assessments.items():
        claim = CLAIMS[claim_id]
        table.add(
            text=claim.text,
            where=claim.where,
            verdict=verdict_cell(assessment.verdict),
            reason=Cell(sentence(assessment), runs=assessment.runs),
        )
    return table.build()


def cells_table(measurements: Measurements, *, comparable: bool) -> Table:
    """Return each cell of Table 3 on a line, with its interval and its verdict."""
    table = TableBuilder(
        "verdicts",
        "Table 3, cell by cell",
        method=Column("Method", width=15),
        rows=Column("on", width=10),
        mean=number_column("mean", width=7),
        sd=number_column("sd", width=6),
        seeds=number_column("seeds", width=6),
        interval=number_column("95%", width=14),
        unit=Column("over", width=11),
        printed=number_column("paper", width=7),
        difference=number_column("differs by", width=9),
        verdict=Column("verdict", width=14),
        reason=Column("why", width=26),
    )
    for variant in PRINTED_ROWS:
        for subset in measurements.columns:
            printed = printed_score(variant, subset)
            estimate = measurements.cell(variant, subset)
            if not estimate.exists and not np.isfinite(printed):
                continue
            assessment = assess_cell(estimate, printed, comparable=comparable)
            missing = assessment.verdict == Verdict.MISSING
            difference = estimate.mean - printed if comparable else NAN
            table.add(
                method=row_title(variant),
                rows=str(subset),
                mean=percent_cell(estimate.mean, estimate),
                sd=percent_cell(estimate.sd, estimate),
                seeds=len(estimate.seeds),
                interval=interval_cell(estimate.interval, estimate),
                unit=unit_cell(estimate),
                printed=percent_cell(printed),
                difference=difference_cell(difference),
                verdict=verdict_cell(assessment.verdict),
                reason=why_empty(measurements, variant, subset) if missing else assessment.reason,
            )
    return table.build()


def sentence(assessment: Assessment) -> str:
    """Write a claim's verdict, its reason and the measured values."""
    values = [_score_text(part) for part in assessment.parts if part.estimate.exists]
    if assessment.estimate.exists:
        values.append(_curve_text(assessment))
    reason = f"{assessment.verdict.value.capitalize()}: {assessment.reason}."
    return f"{reason} Measured: {'; '.join(values)}." if values else reason


def _score_text(part: Assessment) -> str:
    """Write an effect on scores with its interval."""
    estimate, interval = part.estimate, part.estimate.interval
    text = f"{points(estimate.mean, signed=True)} on {part.subject}"
    if np.isfinite(interval.low):
        low, high = 100 * interval.low, 100 * interval.high
        text += f" (95% over {estimate.unit}: {low:+.2f} to {high:+.2f})"
    return text.replace("-", "−")


def _curve_text(assessment: Assessment) -> str:
    """Write a difference of training curves with its interval over seeds."""
    estimate, interval = assessment.estimate, assessment.estimate.over_seeds
    text = f"{estimate.mean:+.4g} {assessment.subject}"
    if np.isfinite(interval.low):
        seeds = len(estimate.seeds)
        text += f" (95% over {seeds} seeds: {interval.low:.4g} to {interval.high:.4g})"
    return text.replace("-", "−")


def _table_3_notes(measurements: Measurements, *, comparable: bool) -> list[str]:
    difference = "and the difference from it"
    if not comparable:
        difference = "without a difference, since the data are not the paper's"
    notes = [
        "Pearson × 100, pooled over rows; mean ± standard deviation over seeds. Best bold and"
        f" underlined, second underlined. Test columns: models of"
        f" {EvalSubset(measurements.test_from)} (the paper does not say which split's models they"
        " are).",
        f"Small print: the paper's figure {difference}. Its overall score (56.70) is that of the"
        " submitted system.",
    ]
    if any(split.startswith("dev2") for split in measurements.group.splits):
        notes.append(_held_out_languages(measurements))
    return notes


def _held_out_languages(measurements: Measurements) -> str:
    """Name the languages that each Dev2 held out."""
    clauses = []
    for split in (s for s in measurements.group.splits if s.startswith("dev2")):
        records = [r for r in measurements.records.values() if r.split == split]
        for languages in sorted({record.unseen_in_training for record in records}):
            names = " and ".join(language_name(x) for x in languages)
            clauses.append(f"{EvalSubset(split)} held out {names}")
    return "; ".join(clauses) + ". The paper does not name its two languages."


def _score_cell(
    measurements: Measurements, variant: str, subset: EvalSubset, *, comparable: bool
) -> Cell:
    estimate, printed = measurements.cell(variant, subset), printed_score(variant, subset)
    below = ""
    if np.isfinite(printed):
        below = f"paper {100 * printed:.2f}"
        if estimate.exists and comparable:
            below += f" ({100 * (estimate.mean - printed):+.2f})".replace("-", "−")
    if not estimate.exists:
        return Cell(why_empty(measurements, variant, subset), below=below)
    sd = f" ± {100 * estimate.sd:.2f}" if np.isfinite(estimate.sd) else ""
    text = f"{100 * estimate.mean:.2f}{sd}".replace("-", "−")
    return Cell(text, 100 * estimate.mean, below, estimate.runs)
