"""Sum the report up on a page: what was asked, what was found, and what it can't say."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from ablation.config.variant_table import Variant, VariantTable
from ablation.core.counting import counted
from ablation.data.splits import by_kind
from reports.analysis.claims import (
    CLAIMS,
    CURVE_FAMILY,
    SCORE_FAMILY,
    Effect,
    ScoreClaim,
    claims_of,
    score_family,
)
from reports.analysis.estimates import Estimate
from reports.analysis.inputs import ReportInputs
from reports.analysis.labels import contrast_text
from reports.analysis.own_task import Comparison
from reports.analysis.replication import Verdict
from reports.analysis.verdicts import Assessment
from reports.rendering.blocks import Block
from reports.rendering.marks import verdict_cell
from reports.rendering.tables import (
    EMPTY,
    Cell,
    Column,
    Mark,
    Table,
    TableBuilder,
    interval_text,
    number,
    number_column,
)
from reports.sections.cells import difference_cell, interval_cell, p_cell, why
from reports.sections.registry import section
from reports.sections.results import speaks_of_other_groups, splits_text

#: Questions and answers up to this many are read as a sentence; more are a table's, or counted.
_IN_A_SENTENCE: Final = 4


@section("What was asked, and what was found", order=5)
def build(inputs: ReportInputs) -> Iterator[Block]:
    """Yield the question, the paper's claims with their verdicts, and the limits."""
    comparability, table = inputs.comparability, inputs.group.table
    if not table.is_the_papers:
        yield from _of_another_table(inputs)
        return
    if not inputs.layout.is_mint:
        yield from own_findings(inputs)
        return
    yield (
        "Asked: do these runs bear out what the paper says of its losses (EPM against MSE), of"
        " language-contrastive learning (CL), of frozen tuning (FT) and of their ensemble?"
    )
    if comparability.obstacle:
        yield (
            f"Found: none of the paper's {len(CLAIMS)} claims is judged, as"
            f" {comparability.obstacle}. The sections below describe these runs for themselves."
        )
        return
    yield summary(inputs.claims, "the paper's claims")
    if comparability.caveat:
        yield comparability.caveat
    yield claims_table(inputs.claims, table)
    yield limits(inputs)


def _of_another_table(inputs: ReportInputs) -> Iterator[Block]:
    """Yield the questions of a file of variants, its claims with their verdicts, and the limits."""
    table, comparability = inputs.group.table, inputs.comparability
    rows = [table.variants[v] for v in inputs.group.variants if v in table.variants]
    if len(rows) > _IN_A_SENTENCE:
        yield _questions(f"Asked: {table.title}", rows)
    else:
        yield f"Asked (“{table.title}”): " + " ".join(
            f"{row.title.removeprefix('+ ')}: {row.question}" for row in rows
        )
    if not (inputs.layout.is_mint and table.publication):
        yield from _comparisons(inputs)
    if table.claims and comparability.obstacle:
        yield f"Found: none of the table's claims is judged, as {comparability.obstacle}."
    elif table.claims:
        yield summary(inputs.claims, "the table's claims")
        yield claims_table(inputs.claims, table)
    yield limits(inputs)


def own_findings(inputs: ReportInputs) -> Iterator[Block]:
    """Yield question and answers on a corpus that no figures were printed for."""
    task = inputs.layout.task
    corpus = f"corpus {task.name}" if task.name else "this corpus"
    reference = f" ({task.reference})" if task.reference else ""
    yield (
        f"Asked: on {corpus}{reference}, does another loss or way of tuning than the plainest row's"
        f" predict {task.measures} better, by Pearson?"
    )
    yield from _comparisons(inputs)
    yield limits(inputs)


def _comparisons(inputs: ReportInputs) -> Iterator[Block]:
    """Yield the rows that are compared on a corpus that no figures were printed for."""
    comparisons = inputs.comparisons
    if not comparisons:
        yield "Found: no two rows have runs on the same rows and seeds to compare."
        return
    answers: dict[str, list[str]] = {}
    for comparison in comparisons:
        answers.setdefault(comparison.answer, []).append(str(comparison))
    listed = "; ".join(
        _undecided(steps, len(comparisons))
        if answer == "undecided"
        else f"{answer}: {', '.join(steps)}"
        for answer, steps in answers.items()
    )
    where = ", ".join(dict.fromkeys(comparison.rows for comparison in comparisons))
    over = f" and {len(inputs.targets)} targets" if inputs.targets else ""
    yield f"Found on {where}{over}: {listed}."
    yield comparisons_table(comparisons)


def _questions(title: str, rows: Sequence[Variant]) -> Table:
    """Return the question of each row."""
    table = TableBuilder(
        "questions", title, row=Column("row", width=10), question=Column("question", width=26)
    )
    for row in rows:
        table.add(row=row.title.removeprefix("+ "), question=row.question)
    return table.build()


def _undecided(steps: Sequence[str], of: int) -> str:
    """Name a few undecided steps; say of many how many they are, since the table names them."""
    if len(steps) <= _IN_A_SENTENCE:
        return f"undecided: {', '.join(steps)}"
    return f"all {of} undecided" if len(steps) == of else f"{len(steps)} of {of} undecided"


def comparisons_table(comparisons: Sequence[Comparison]) -> Table:
    """Return each comparison with its verdict and the numbers behind it."""
    has_targets = any(comparison.target for comparison in comparisons)
    table = TableBuilder(
        "comparisons",
        "Rows compared",
        **({"target": Column("target", width=12)} if has_targets else {}),
        step=Column("from → to", width=26),
        answer=Column("answer", width=14),
        estimate=number_column("difference", width=10),
        interval=number_column("95%", width=16),
        over=Column("over", width=14),
        p=number_column("p", width=8),
        p_family=number_column("p × family", width=8),
        reason=Column("no answer, as", width=16),
    )
    marks: dict[str, Mark] = {"better": "good", "worse": "bad", "undecided": "unsure"}
    families = "; ".join(
        dict.fromkeys(f"{c.family.name} ({c.family.size} tests)" for c in comparisons)
    )
    for comparison in comparisons:
        runs = comparison.runs
        interval = 100 * comparison.interval.low, 100 * comparison.interval.high
        table.add(
            **({"target": comparison.target} if has_targets else {}),
            step=comparison.title,
            answer=Cell(comparison.answer, mark=marks.get(comparison.answer, "")),
            estimate=number(100 * comparison.mean, 2, signed=True, runs=runs),
            interval=Cell(interval_text(*interval), runs=runs),
            over=comparison.over or EMPTY,
            p=p_cell(comparison.p),
            p_family=p_cell(comparison.p_family),
            reason=comparison.obstacle or EMPTY,
        )
    return table.build(
        "Differences of Pearson × 100, paired by row and seed. Better or worse: p times the size"
        " of the family is below 0.05. No difference: the interval at that level lies within half a"
        f" point of zero. Families, which are the same whatever was run: {families}. Of folds, the"
        " interval is Nadeau and Bengio's, which counts the training rows that folds share."
    )


def summary(assessments: Mapping[str, Assessment], which: str) -> str:
    """Count the claims by verdict."""
    verdicts = [assessment.verdict for assessment in assessments.values()]
    counts = {verdict: verdicts.count(verdict) for verdict in Verdict if verdict in verdicts}
    listed = ", ".join(f"{count} {verdict.value}" for verdict, count in counts.items())
    return f"Found, of {which} that these runs can speak of: {listed}."


def claims_table(assessments: Mapping[str, Assessment], rows: VariantTable) -> Table:
    """Return each claim with its verdict, and each of its effects with the numbers behind it.

    A claim without runs on any of its sides is one line.
    """
    table = TableBuilder(
        "claims",
        "The paper's claims" if rows.is_the_papers else "The table's claims",
        text=Column("the paper says" if rows.is_the_papers else "claim", width=24),
        verdict=Column("these runs", width=12),
        subject=Column("measured", width=17),
        estimate=number_column("estimate", width=8),
        interval=number_column("95%", width=14),
        printed=number_column("paper" if rows.is_the_papers else "printed", width=6),
        rows=number_column("rows", width=6),
        seeds=number_column("seeds", width=6),
        p=number_column("p × family", width=7),
        reason=Column("why", width=28),
    )
    claims = claims_of(rows)
    for claim_id, assessment in assessments.items():
        claim = claims[claim_id]
        on_scores = isinstance(claim, ScoreClaim)
        subjects = [assessment.subject]
        parts, printed = [assessment], []
        if isinstance(claim, ScoreClaim):
            pairs = zip(claim.effects, assessment.parts, strict=True)
            measured = [(effect, part) for effect, part in pairs if part.estimate.exists]
            parts = [part for _, part in measured]
            subjects = [
                f"{contrast_text(effect.weights, rows)}, {part.subject}"
                for effect, part in measured
            ]
            printed = [_printed_cell(effect, part) for effect, part in measured]
        first = f"{claim.text} ({claim.where})" if claim.where else claim.text
        whole = Cell(why(assessment), runs=assessment.runs)
        for i, part in enumerate(parts or [assessment]):
            estimate = part.estimate
            table.add(
                text=first if i == 0 else "",
                verdict=verdict_cell(assessment.verdict) if i == 0 else "",
                subject=subjects[i] if parts else EMPTY,
                estimate=_estimate_cell(part, on_scores=on_scores),
                interval=_interval_cell(part, on_scores=on_scores),
                printed=printed[i] if printed else EMPTY,
                rows=estimate.rows if estimate.rows else EMPTY,
                seeds=_seeds_cell(estimate),
                p=p_cell(part.p) if part.runs else EMPTY,
                reason=whole if i == 0 else "",
            )
    return table.build(
        "Effects on scores in points of Pearson × 100, one line for each that the claim rests on;"
        " all of them have to hold. Replicated: a claimed sign is shown, or a claimed size agrees"
        " and at least half of it is shown. No effect: the effect is within half a point of zero."
        " p is multiplied by the size of its family, fixed before the runs:"
        f" {_families_text(rows)}. The 95% intervals are of one effect alone, the verdicts at"
        " the family's level: an interval may leave zero out where the verdict is undecided. With"
        " one seed, interval and p are over rows alone. Small print: the rows of the paper's"
        " figure, where other rows stand in for them."
    )


def _seeds_cell(estimate: Estimate) -> Cell:
    """Return the number of seeds, and under it that of splits if there are several."""
    if not estimate.seeds:
        return EMPTY
    below = counted(len(estimate.splits), "split") if estimate.splits else ""
    return Cell(str(len(estimate.seeds)), len(estimate.seeds), below)


def _printed_cell(effect: Effect, part: Assessment) -> Cell:
    """Return the printed effect, with the rows that it is about if others stand in for them."""
    cell, claimed = difference_cell(part.printed), str(effect.subsets[0])
    is_stand_in = effect.subsets[0].is_test and not part.subject.startswith("test")
    return replace(cell, below=claimed) if is_stand_in and cell.value is not None else cell


def _families_text(rows: VariantTable) -> str:
    if not rows.is_the_papers:
        return counted(score_family(rows).size, "claim")
    of_scores = SCORE_FAMILY.name.removeprefix("the paper's ")
    return f"{SCORE_FAMILY.size} {of_scores}, {CURVE_FAMILY.size} about training curves"


def limits(inputs: ReportInputs) -> str:
    """Say what the report can't say."""
    seeds = len(inputs.group.seeds)
    sentences = [
        f"What it can't say. {counted(seeds, 'seed')}"
        + (": no verdict." if seeds < 2 else " stand for all trainings.")
    ]
    plural = inputs.layout.group.plural
    if inputs.scope.languages == "random":
        sentences.append(
            f"{plural.capitalize()} are random: differences are means over {plural}, each of which"
            f" counts alike, and a verdict is about other {plural}, too."
        )
    elif not (inputs.measurements.developed.splits and speaks_of_other_groups(inputs.measurements)):
        sentences.append(
            f"{plural.capitalize()} are fixed: a verdict is about these {plural}, not about others."
        )
    if about_splits := splits_text(inputs.measurements, plural):
        sentences.append(about_splits)
    if any(len(splits) == 1 for splits in by_kind(inputs.group.splits).values()):
        sentences.append(
            "A split by itself is one draw: another split_seed would give other development rows"
            " (--splits dev1@0-4 averages over five)."
        )
    sentences.append(
        "Scores on development rows are flattered, since these rows chose the epochs and the"
        " ensemble's members."
    )
    if not inputs.measurements.has_test:
        sentences.append(
            "No test row is scored: development rows stand in for them, and can't refute."
        )
    return " ".join(sentences)


def _estimate_cell(part: Assessment, *, on_scores: bool) -> Cell:
    estimate = part.estimate
    if on_scores:
        return difference_cell(estimate.mean, estimate)
    return number(estimate.mean, 3, signed=True, runs=estimate.runs)


def _interval_cell(part: Assessment, *, on_scores: bool) -> Cell:
    if on_scores:
        return interval_cell(part.estimate.interval, part.estimate)
    interval = part.estimate.over_seeds
    text = interval_text(interval.low, interval.high, 3)
    return Cell(text, interval.low if np.isfinite(interval.low) else None)
