"""Show whether differences are real: the paper's steps and the tests behind them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ablation.core.counting import counted
from reports.analysis import inference
from reports.analysis.estimates import NAN
from reports.analysis.few_runs import share_above
from reports.analysis.inputs import ReportInputs
from reports.analysis.measures import Measurements
from reports.analysis.replication import Family
from reports.analysis.steps import STEP_FAMILY, Step, step_family
from reports.analysis.subsets import TEST, EvalSubset
from reports.rendering import figures
from reports.rendering.blocks import Block, Picture
from reports.rendering.marks import verdict_cell
from reports.rendering.tables import (
    EMPTY,
    Cell,
    Column,
    Table,
    TableBuilder,
    interval_text,
    number,
    number_column,
)
from reports.sections.cells import difference_cell, interval_cell, p_cell, percent_cell, unit_cell
from reports.sections.registry import section


@section("Is it better, or noise?", order=20)
def build(inputs: ReportInputs) -> Iterator[Block]:
    """Yield the steps as a figure and a table, then their tests."""
    table = inputs.group.table
    whose = "the paper" if table.is_the_papers else f"“{table.title}”"
    if not inputs.layout.is_mint and table.is_the_papers:
        yield from _own_steps(inputs)
        return
    if not table.steps:
        yield "The file of variants says of no row what it is compared with (`compared_with`)."
        return
    if not any(step.estimate.exists for step in inputs.steps):
        yield f"No step of {whose} has runs on both of its sides."
        return
    caption = f"The steps of {whose}: difference and 95% interval on each set of rows."
    drawn = figures.forest(inputs.steps, with_printed=inputs.comparability.applies)
    yield Picture("steps", caption, drawn, wide=True)
    family = step_family(inputs.measurements)
    yield steps_table(inputs.steps, family, with_paper=inputs.comparability.applies)
    yield tests_table(inputs.measurements, inputs.steps, with_paper=table.is_the_papers)


def _own_steps(inputs: ReportInputs) -> Iterator[Block]:
    """Yield the steps on a corpus that no figures were printed for."""
    steps = [
        replace(step, assessment=replace(step.assessment, printed=NAN, need=""))
        for step in inputs.steps
        if step.estimate.exists
    ]
    if not steps:
        yield "No two rows that differ in one component have runs on the same rows."
        return
    caption = "Steps from row to row: difference and 95% interval on each set of rows."
    yield Picture("steps", caption, figures.forest(steps, with_printed=False), wide=True)
    yield tests_table(inputs.measurements, steps, with_paper=False)


def steps_table(steps: Sequence[Step], family: Family, *, with_paper: bool) -> Table:
    """Return each step's difference, its interval, and whether it agrees with the paper's."""
    paper = {
        "printed": number_column("paper", width=7),
        "verdict": Column("verdict", width=14),
        "reason": Column("why", width=22),
    }
    table = TableBuilder(
        "steps",
        "The paper's steps" if family is STEP_FAMILY else f"T{family.name.removeprefix('t')}",
        step=Column("step", width=25),
        rows=Column("on", width=11),
        difference=number_column("difference", width=9),
        interval=number_column("95%", width=13),
        unit=Column("over", width=10),
        p=number_column("p", width=7),
        p_family=number_column("p × family", width=7),
        **(paper if with_paper else {}),
    )
    measured = [step for step in steps if step.estimate.exists]
    repeated = _repeated_reason(measured) if with_paper else ""
    for step in measured:
        estimate, assessment = step.estimate, step.assessment
        table.add(
            step=str(step),
            rows=str(step.subset),
            difference=difference_cell(estimate.mean, estimate),
            interval=interval_cell(estimate.interval, estimate),
            unit=unit_cell(estimate),
            p=p_cell(estimate.p),
            p_family=p_cell(assessment.p),
            **(_paper_cells(step, repeated) if with_paper else {}),
        )
    return table.build(
        "Differences of Pearson × 100, paired by row and seed. With two seeds or more the interval"
        " holds for other rows and other seeds, else for other rows only. p belongs to the"
        f" interval; p × family is multiplied by {family.size}, the number of steps that "
        + ("the paper prints" if family is STEP_FAMILY else "the table declares, on each column")
        + ", whatever was run. Steps are judged by their sign, at the family's level:"
        " one step's own interval may leave zero out where the verdict is undecided.",
        *([f"Where no reason is given: {repeated}."] if repeated else []),
        *_not_measured(steps, family),
    )


def _repeated_reason(steps: Sequence[Step]) -> str:
    """Return the reason that three steps or more share, which is said once; empty if none does."""
    reasons = Counter(step.assessment.reason for step in steps if step.assessment.reason)
    reason, count = max(reasons.items(), key=lambda item: item[1], default=("", 0))
    return reason if count > 2 else ""


def _not_measured(steps: Sequence[Step], family: Family) -> Iterator[str]:
    """Say in one sentence which printed steps have no difference, and why."""
    missing = [step for step in steps if not step.estimate.exists]
    printed = sum(np.isfinite(step.assessment.printed) for step in steps)
    if family is STEP_FAMILY and printed < family.size:
        others = counted(family.size - printed, "more printed step")
        yield f"Splits that were not run have {others}."
    if missing:
        by_subset = Counter(str(step.subset) for step in missing)
        listed = ", ".join(f"{count} on {subset}" for subset, count in by_subset.items())
        why = Counter(
            part.rpartition(": ")[2]
            for step in missing
            for part in step.assessment.reason.split("; ")
        )
        yield f"Printed steps without a difference here: {listed} ({', '.join(why)})."


def _paper_cells(step: Step, said_once: str) -> dict[str, Cell | str]:
    assessment = step.assessment
    return {
        "printed": difference_cell(assessment.printed),
        "verdict": verdict_cell(assessment.verdict),
        "reason": EMPTY if said_once == assessment.reason != "" else assessment.reason,
    }


def tests_table(measurements: Measurements, steps: Sequence[Step], *, with_paper: bool) -> Table:
    """Return the tests behind each step, over rows and over seeds, and their power."""
    over_rows, over_seeds, power = "over rows", "over seeds", "could show"
    table = TableBuilder(
        "tests",
        "The tests behind the steps",
        step=Column("step", width=23),
        rows=Column("on", width=10),
        row_interval=number_column("95%", group=over_rows, width=12),
        row_p=number_column("p", group=over_rows, width=8),
        seeds=number_column("seeds", group=over_seeds, width=5),
        seed_interval=number_column("95%", group=over_seeds, width=12),
        improvement=number_column("P(better)", group=over_seeds, width=8),
        detectable_rows=number_column("rows", group=power, width=6),
        detectable_seeds=number_column("seeds", group=power, width=6),
        **({"needed": Column("to decide", width=22)} if with_paper else {}),
    )
    for step in (s for s in steps if s.estimate.exists):
        estimate = step.estimate
        table.add(
            step=str(step),
            rows=str(step.subset),
            row_interval=interval_cell(estimate.over_rows, estimate),
            row_p=p_cell(estimate.p_rows),
            seeds=len(estimate.seeds),
            seed_interval=interval_cell(estimate.over_seeds, estimate),
            improvement=_improvement_cell(measurements, step),
            detectable_rows=percent_cell(estimate.detectable_over_rows),
            detectable_seeds=percent_cell(estimate.detectable_over_seeds),
            **({"needed": step.assessment.need or EMPTY} if with_paper else {}),
        )
    return table.build(
        "Over rows: other texts, these trained models. Over seeds: other trainings, these texts"
        " (Student's t, paired). The interval over both can be somewhat narrower than the one over"
        " rows alone, which is about these seeds' models and has their luck in full. P(better):"
        " share of pairs of a split's runs in which the second scores higher; below it 95% of the"
        " share of seeds in which it does (Clopper and Pearson's, exact). Could show: the"
        " smallest difference (× 100) that a sample like this one would show with 80% power at the"
        " 5% level."
        + (
            " To decide: an undecided step, if the paper's difference is the true one, with 80%"
            " power at the family's level, from these variances."
            if with_paper
            else ""
        ),
        few_seeds(max((len(step.estimate.seeds) for step in steps), default=0)),
    )


def few_seeds(seeds: int) -> str:
    """Say what this many seeds can and can't prove on their own."""
    floor, needed = inference.wilcoxon_floor(seeds), inference.pairs_for_wilcoxon()
    limit = (
        f"With {counted(seeds, 'seed')}, an exact two-sided Wilcoxon test of the pairs"
        f" cannot go below p = {floor:.4g}"
    )
    if seeds < needed:
        return f"{limit}: seeds alone prove nothing here; {needed} are needed to fall below 0.05."
    return f"{limit}."


def _improvement_cell(measurements: Measurements, step: Step) -> Cell | str:
    """Return P(better), below it the interval of the share of seeds in which the second is."""
    per_seed = step.estimate.per_seed
    if len(per_seed) < 2:
        return EMPTY
    interval = share_above(per_seed)
    below = interval_text(interval.low, interval.high)
    return replace(number(improvement_by_split(measurements, step)), below=below)


def improvement_by_split(measurements: Measurements, step: Step) -> float:
    """Return P(better) within each split, averaged: scores of other rows are not compared."""
    scores = [_scores(measurements, variant, step) for variant in (step.better, step.worse)]
    shared = [split for split in scores[0] if split in scores[1]]
    shares = [
        inference.probability_of_improvement(*(np.array(of_split[split]) for of_split in scores))
        for split in shared
    ]
    return float(np.mean(shares)) if shares else NAN


def _scores(measurements: Measurements, variant: str, step: Step) -> dict[str, list[float]]:
    """Return a variant's Pearsons with the step's splits and seeds, by split."""
    subset, of_step = step.subset, set(step.estimate.runs)
    by_split: dict[str, list[float]] = {}
    for run in measurements.all_runs(variant, subset):
        if run.run_id in of_step:
            on = EvalSubset(TEST if subset.is_test else run.split, subset.languages)
            by_split.setdefault(run.split, []).append(measurements.values[run.run_id, on])
    return by_split
