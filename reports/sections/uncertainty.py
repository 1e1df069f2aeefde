"""Show where the uncertainty of the steps comes from, and what holds for other languages."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from ablation.core.slugs import slug
from ablation.data.description import group_title
from ablation.data.layout import CorpusLayout
from ablation.data.splits import by_kind, draw_kind
from reports.analysis.estimates import NAN, Estimate
from reports.analysis.inputs import ReportInputs
from reports.analysis.languages import effect_over_languages
from reports.analysis.measures import Measurements
from reports.analysis.scope import LEAST_LANGUAGES, LEAST_SPLITS
from reports.analysis.splits import effect_over_splits
from reports.analysis.steps import Step
from reports.analysis.subsets import EvalSubset
from reports.analysis.variance_components import Factor
from reports.rendering.blocks import Block
from reports.rendering.tables import EMPTY, Cell, Column, Table, TableBuilder, number, number_column
from reports.sections.cells import difference_cell, interval_cell, percent_cell
from reports.sections.registry import section

#: In the order of their columns.
_FACTORS: Final[tuple[Factor, ...]] = ("rows", "seeds", "splits", "languages")


@section("Where the uncertainty comes from", order=25)
def build(inputs: ReportInputs) -> Iterator[Block]:
    """Yield the variance components of the steps, then the steps over groups in general."""
    with_seeds = [s for s in inputs.steps if s.estimate.uncertainty and len(s.estimate.seeds) > 1]
    if not with_seeds:
        return
    yield components_table(with_seeds)
    tables = [groups_table(inputs.measurements, with_seeds, inputs.layout)]
    for kind, splits in by_kind(inputs.group.splits).items():
        if len(splits) >= LEAST_SPLITS and kind != draw_kind(inputs.measurements.test_from):
            by_split = {split: inputs.by_test_split[split] for split in splits}
            tables.append(splits_table(kind, by_split, with_seeds))
    yield from (table for table in tables if table.rows)


def components_table(steps: Sequence[Step]) -> Table:
    """Return the parts of each step's uncertainty that come from rows, seeds, splits, languages."""
    known = {f for s in steps if s.estimate.uncertainty for f in _variances(s.estimate)}
    factors = [factor for factor in _FACTORS if factor in known]
    table = TableBuilder(
        "sources",
        f"{' and '.join(factors).capitalize()} in the uncertainty of the steps",
        step=Column("step"),
        rows=Column("on"),
        count=number_column("rows"),
        seeds=number_column("seeds"),
        **{f"of_{factor}": number_column(f"± {factor}") for factor in factors},
        one_seed=number_column("sd of one seed"),
        share=number_column("seeds' share"),
    )
    for step in (s for s in steps if s.estimate.uncertainty):
        estimate = step.estimate
        variances = _variances(estimate)
        one_seed = np.sqrt(variances["seeds"] * len(estimate.seeds))
        total = sum(variances.values())
        share = 100 * variances["seeds"] / total if total else NAN
        table.add(
            step=str(step),
            rows=str(step.subset),
            count=estimate.rows,
            seeds=len(estimate.seeds),
            **{
                f"of_{factor}": percent_cell(float(np.sqrt(variances[factor])), estimate)
                if factor in variances
                else EMPTY
                for factor in factors
            },
            one_seed=percent_cell(float(one_seed), estimate),
            share=Cell(f"{share:.0f}%", share) if np.isfinite(share) else EMPTY,
        )
    return table.build(
        "Standard errors in points of Pearson × 100. More rows shrink the first, more seeds the"
        " second: where the seeds' share is small, no number of seeds makes the interval much"
        " narrower. The row-by-seed part counts once, with the seeds."
    )


def _variances(estimate: Estimate) -> dict[Factor, float]:
    """Return the components of an estimate's variance by factor."""
    components = () if estimate.uncertainty is None else estimate.uncertainty.components
    return {c.factor: float(c.variance) for c in components}


def groups_table(measurements: Measurements, steps: Sequence[Step], layout: CorpusLayout) -> Table:
    """Return each step over languages, or domains, in general, on the rows of the errors."""
    word, words = layout.group.word, layout.group.plural
    table = TableBuilder(
        "other_languages",
        f"The steps over {words} in general",
        step=Column("step", width=22),
        groups=number_column(words, width=8),
        mean=number_column("mean", width=8),
        interval=number_column(f"95%, {words} random", width=15),
        spread=number_column(f"sd between {words}", width=10),
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
        named = ", ".join(group_title(x, layout) for x in found.holds.named)
        estimate = measurements.step(worse, better, EvalSubset(eval_set))
        title = next(str(s) for s in steps if (s.worse, s.better) == (worse, better))
        table.add(
            step=title,
            groups=found.holds.languages,
            mean=difference_cell(found.mean, estimate),
            interval=interval_cell(found.interval, estimate),
            spread=percent_cell(found.spread.sd, estimate),
            p=number(found.spread.p, 3),
            holds=Cell(f"{found.holds.count} of {found.holds.languages}", found.holds.count),
            named=named or EMPTY,
        )
    others = (
        f"Intervals of differences elsewhere in this report are about other {words}, too."
        if measurements.scope.languages == "random"
        else f"Every other interval of this report is about these {words}."
    )
    return table.build(
        f"Differences of Pearson × 100 on {eval_set} rows, each {word} counting alike. {others}"
        f" This one is about {words} like them"
        f" ({words} and seeds random; at least {LEAST_LANGUAGES}). Sd and p of one effect in all:"
        " DerSimonian and Laird (1986), Cochran's Q. Holds in at least: a lower bound at 95%"
        f" confidence of the number of {words} in which the second is better, by partial"
        f" conjunction (Dror and others, 2017); shown by itself: Holm over the {words}."
    )


def splits_table(kind: str, by_split: Mapping[str, Measurements], steps: Sequence[Step]) -> Table:
    """Return each step on test rows over the splits of a kind, such as Dev2's pairs.

    Those of the test columns' own kind are in the steps themselves.
    """
    name = str(EvalSubset(kind, splits=tuple(by_split)))
    table = TableBuilder(
        f"over_{slug(kind)}",
        f"The steps on test rows with the models of {name}",
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
        subset = replace(step.subset, splits=())
        found = effect_over_splits(by_split, step.worse, step.better, subset)
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
