"""Show where the uncertainty of the steps comes from, and what holds for other languages."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ablation.data.languages import language_name
from reports.analysis.inputs import ReportInputs
from reports.analysis.languages import LEAST_LANGUAGES, effect_over_languages
from reports.analysis.measures import EvalSubset, Measurements
from reports.analysis.splits import effect_over_splits
from reports.analysis.steps import Step
from reports.analysis.variance_components import Factor, standard_deviations
from reports.rendering.blocks import Block
from reports.rendering.tables import EMPTY, Cell, Column, Table, TableBuilder, number, number_column
from reports.sections.cells import difference_cell, interval_cell, percent_cell
from reports.sections.registry import section


@section("Where the uncertainty comes from", order=25)
def build(inputs: ReportInputs) -> Iterator[Block]:
    """Yield the variance components of the steps, then the steps over languages in general."""
    with_seeds = [s for s in inputs.steps if s.estimate.uncertainty and len(s.estimate.seeds) > 1]
    if not with_seeds:
        return
    yield components_table(with_seeds)
    languages = languages_table(inputs.measurements, with_seeds)
    splits = splits_table(inputs.by_test_split, with_seeds)
    yield from (table for table in (languages, splits) if table.rows)


def components_table(steps: Sequence[Step]) -> Table:
    """Return the parts of each step's uncertainty that come from rows and from seeds."""
    table = TableBuilder(
        "sources",
        "Rows and seeds in the uncertainty of the steps",
        step=Column("step"),
        rows=Column("on"),
        count=number_column("rows"),
        seeds=number_column("seeds"),
        of_rows=number_column("± rows"),
        of_seeds=number_column("± seeds"),
        one_seed=number_column("sd of one seed"),
        share=number_column("seeds' share"),
    )
    for step in steps:
        estimate = step.estimate
        if estimate.uncertainty is None:
            continue
        variances = {c.factor: float(c.variance) for c in estimate.uncertainty.components}
        levels: dict[Factor, int] = {"rows": estimate.rows, "seeds": len(estimate.seeds)}
        of_one = standard_deviations(estimate.uncertainty, levels)
        total = sum(variances.values())
        share = 100 * variances["seeds"] / total if total else float("nan")
        table.add(
            step=str(step),
            rows=str(step.subset),
            count=estimate.rows,
            seeds=len(estimate.seeds),
            of_rows=percent_cell(float(np.sqrt(variances["rows"])), estimate),
            of_seeds=percent_cell(float(np.sqrt(variances["seeds"])), estimate),
            one_seed=percent_cell(of_one["seeds"], estimate),
            share=Cell(f"{share:.0f}%", share) if np.isfinite(share) else EMPTY,
        )
    return table.build(
        "Standard errors in points of Pearson × 100. More rows shrink the first, more seeds the"
        " second: where the seeds' share is small, no number of seeds makes the interval much"
        " narrower. The row-by-seed part counts once, with the seeds."
    )


def languages_table(measurements: Measurements, steps: Sequence[Step]) -> Table:
    """Return each step over languages in general, on the rows that errors are looked at on."""
    table = TableBuilder(
        "other_languages",
        "The steps over languages in general",
        step=Column("step", width=22),
        languages=number_column("languages", width=8),
        mean=number_column("mean", width=8),
        interval=number_column("95%, languages random", width=15),
        spread=number_column("sd between languages", width=10),
        p=number_column("p of one effect", width=8),
        holds=number_column("holds in at least", width=9),
        named=Column("shown by itself in", width=22),
    )
    eval_set = measurements.analysed_set
    pairs = dict.fromkeys((step.worse, step.better) for step in steps)
    for worse, better in pairs:
        found = effect_over_languages(measurements, worse, better, eval_set)
        if found is None:
            continue
        named = ", ".join(language_name(x) for x in found.holds.named)
        estimate = measurements.step(worse, better, EvalSubset(eval_set))
        title = next(str(s) for s in steps if (s.worse, s.better) == (worse, better))
        table.add(
            step=title,
            languages=found.holds.languages,
            mean=difference_cell(found.mean, estimate),
            interval=interval_cell(found.interval, estimate),
            spread=percent_cell(found.spread.sd, estimate),
            p=number(found.spread.p, 3),
            holds=Cell(f"{found.holds.count} of {found.holds.languages}", found.holds.count),
            named=named or EMPTY,
        )
    return table.build(
        f"Differences of Pearson × 100 on {eval_set} rows, each language counting alike. Every"
        " other interval of this report is about these languages; this one is about languages like"
        " them"
        f" (languages and seeds random; at least {LEAST_LANGUAGES}). Sd and p of one effect in all:"
        " DerSimonian and Laird (1986), Cochran's Q. Holds in at least: a lower bound at 95%"
        " confidence of the number of languages in which the second is better, by partial"
        " conjunction (Dror and others, 2017); shown by itself: Holm over the languages."
    )


def splits_table(by_split: Mapping[str, Measurements], steps: Sequence[Step]) -> Table:
    """Return each step on test rows over all pairs of languages that were held out."""
    table = TableBuilder(
        "over_splits",
        "The steps over all splits that hold two languages out",
        step=Column("step"),
        rows=Column("on"),
        splits=number_column("splits"),
        seeds=number_column("seeds"),
        mean=number_column("mean"),
        interval=number_column("95%, splits random"),
        sd=number_column("sd between splits"),
        low=number_column("smallest"),
        high=number_column("largest"),
    )
    for step in (s for s in steps if s.subset.is_test):
        found = effect_over_splits(by_split, step.worse, step.better, step.subset)
        if found is None:
            continue
        by_split_mean = 100 * found.values.mean(axis=1)
        table.add(
            step=str(step),
            rows=str(step.subset),
            splits=len(found.splits),
            seeds=len(found.seeds),
            mean=number(100 * found.mean, signed=True, runs=found.runs),
            interval=interval_cell(found.interval),
            sd=percent_cell(found.sd),
            low=number(float(by_split_mean.min()), signed=True),
            high=number(float(by_split_mean.max()), signed=True),
        )
    return table.build(
        "Differences of Pearson × 100 on test rows, the mean over the models of all these splits:"
        " one figure where each split by itself is a draw. The interval is for other splits, seeds"
        " and rows; smallest and largest are those of a split's mean over seeds."
    )
