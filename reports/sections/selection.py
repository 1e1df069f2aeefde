"""Show how much the choice of the best row on development rows flatters its score."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from ablation.config.variant_table import VariantTable
from reports.analysis import epochs
from reports.analysis.epochs import EpochChoice, epoch_choices
from reports.analysis.inputs import ReportInputs
from reports.analysis.labels import row_title, short_title
from reports.analysis.measures import Measurements
from reports.analysis.predictions import AlignedPredictions
from reports.analysis.selection import NestedScore, greedy_ensemble, nested_halves
from reports.analysis.subsets import TEST, EvalSubset
from reports.rendering.blocks import Block
from reports.rendering.tables import Cell, Column, Table, TableBuilder, number, number_column
from reports.sections.registry import section

#: Ways of halving a seed's rows; seeds are averaged over as well.
REPEATS: Final = 10


@section("What selection adds to development scores", order=45)
def build(inputs: ReportInputs) -> Iterator[Block]:
    """Yield what choosing epochs, rows and ensembles adds, each where there was a choice."""
    choices = list(epoch_choices(inputs.experiment, inputs.measurements))
    tables = (
        epochs_table(choices, inputs.group.table),
        selection_table(inputs.measurements),
        ensemble_table(inputs.measurements),
    )
    yield from (table for table in tables if table.rows)
    if not choices and any(not run.member_runs for run in inputs.group.runs):
        yield (
            "The choice of epochs can't be undone here: these runs kept the predictions of the"
            " chosen epoch alone, as earlier versions did, or had one epoch to choose from."
        )


def epochs_table(choices: Sequence[EpochChoice], rows: VariantTable) -> Table:
    """Return what choosing the best epoch adds to each variant's development score."""
    table = TableBuilder(
        "epochs",
        "The best epoch of each run, and what choosing it adds",
        method=Column("method"),
        split=Column("chosen on"),
        rows=number_column("rows"),
        epochs=number_column("epochs"),
        count=number_column("runs"),
        last=number_column("last epoch"),
        apparent=number_column("apparent"),
        nested=number_column("nested"),
        optimism=number_column("optimism"),
    )
    for choice in choices:
        runs = list(choice.runs)
        table.add(
            method=row_title(choice.variant, rows),
            split=str(choice.column),
            rows=number(choice.rows, 0),
            epochs=number(choice.epochs, 0),
            count=number(len(runs), 0),
            last=number(100 * _mean(list(choice.last)), runs=runs),
            apparent=number(100 * _mean([s.apparent for s in choice.scores]), runs=runs),
            nested=number(100 * _mean([s.nested for s in choice.scores]), runs=runs),
            optimism=number(
                100 * _mean([s.optimism for s in choice.scores]), signed=True, runs=runs
            ),
        )
    return table.build(
        f"Pearson × 100, means over runs ({epochs.MOST_RUNS} at most). Apparent: the epoch with the"
        " highest Pearson, scored on the rows that chose it, as in the tables of results. Nested:"
        " chosen on one half of these rows, scored on the other, and swapped, over"
        f" {epochs.REPEATS} ways of halving. Last epoch: chosen by nothing."
    )


def selection_table(measurements: Measurements) -> Table:
    """Return, for each split, the best row's score as chosen and as scored on other rows."""
    table = TableBuilder(
        "selection",
        "The best row of each split, and what choosing it adds",
        split=Column("chosen on"),
        rows=number_column("rows"),
        candidates=number_column("candidates"),
        seeds=number_column("seeds"),
        apparent=number_column("apparent"),
        nested=number_column("nested"),
        optimism=number_column("optimism"),
    )
    for split in measurements.group.splits:
        samples = [s for s in measurements.samples if s.eval_set == split != TEST]
        if not samples:
            continue
        sample = max(samples, key=lambda s: len(s.runs))
        by_seed = _candidates(measurements, sample)
        scores = [_score_choice(sample, runs) for runs in by_seed.values()]
        if not scores:
            continue
        runs = [run for chosen in by_seed.values() for run in chosen]
        table.add(
            split=Cell(str(EvalSubset(split))),
            rows=number(len(sample.label), 0),
            candidates=number(max(map(len, by_seed.values())), 0),
            seeds=number(len(scores), 0),
            apparent=number(100 * _mean([s.apparent for s in scores]), runs=runs),
            nested=number(100 * _mean([s.nested for s in scores]), runs=runs),
            optimism=number(100 * _mean([s.optimism for s in scores]), signed=True, runs=runs),
        )
    return table.build(
        "Pearson × 100, means over seeds. Apparent: of each seed's trained rows the one with the"
        " highest Pearson, scored on the rows that chose it. Nested: chosen on one half of these"
        f" rows, scored on the other, and swapped, over {REPEATS} ways of halving. Each row's epoch"
        " was chosen on the same rows before, which is not undone here."
    )


def ensemble_table(measurements: Measurements) -> Table:
    """Return each ensemble's members, its score as chosen, and as scored on other rows."""
    table = TableBuilder(
        "ensembles",
        "The ensembles: their members, and what choosing them adds",
        split=Column("chosen on", width=9),
        seed=number_column("seed", width=6),
        members=Column("members, and how often each was chosen", width=45),
        apparent=number_column("apparent", width=10),
        nested=number_column("nested", width=10),
        optimism=number_column("optimism", width=10),
        best=number_column("best member", width=10),
    )
    ensembles = [run for run in measurements.group.runs if run.members]
    # With many seeds, few halvings each: seeds are ways of choosing, too.
    repeats = max(1, min(REPEATS, 30 // max(1, len(ensembles))))
    for run in ensembles:
        samples = [s for s in measurements.samples if run.run_id in s.column and s.eval_set != TEST]
        sample = next(iter(samples), None)
        runs = _candidates(measurements, sample).get(run.seed, []) if sample else []
        if sample is None or not runs:
            continue
        columns = sample.predictions[:, [sample.column[r] for r in runs]]
        score = nested_halves(
            columns, sample.label, choose=greedy_ensemble, strata=sample.strata, repeats=repeats
        )
        single = [measurements.values[r, EvalSubset(run.split)] for r in runs]
        members = sorted(run.members.items(), key=lambda item: (-item[1], item[0]))
        table.add(
            split=str(EvalSubset(run.split)),
            seed=run.seed,
            members=", ".join(f"{short_title(name)} × {count}" for name, count in members),
            apparent=number(100 * score.apparent, runs=[run.run_id]),
            nested=number(100 * score.nested, runs=runs),
            optimism=number(100 * score.optimism, signed=True, runs=runs),
            best=number(100 * float(np.nanmax(single)), runs=runs),
        )
    return table.build(
        "Pearson × 100. Apparent: greedy selection with replacement by Pearson, scored on the rows"
        " that it chose on, where an ensemble can't fall below its best member. Nested: chosen on"
        " one half of these rows, scored on the other, and swapped, over"
        f" {repeats} way{'s' * (repeats > 1)} of halving."
    )


def _candidates(measurements: Measurements, sample: AlignedPredictions) -> dict[int, list[str]]:
    """Return the ids of trained runs by seed, of seeds with at least two of them."""
    by_seed: dict[int, list[str]] = {}
    rows = measurements.group.table.variants
    for variant in measurements.group.variants:
        if variant in rows and rows[variant].combines_runs:
            continue
        for seed, run in measurements.runs(variant, sample.eval_set).items():
            if run.run_id in sample.column:
                by_seed.setdefault(seed, []).append(run.run_id)
    return {seed: runs for seed, runs in by_seed.items() if len(runs) > 1}


def _score_choice(sample: AlignedPredictions, runs: list[str]) -> NestedScore:
    columns = sample.predictions[:, [sample.column[run] for run in runs]]
    return nested_halves(columns, sample.label, strata=sample.strata, repeats=REPEATS)


def _mean(values: list[float]) -> float:
    return float(np.mean(values))
