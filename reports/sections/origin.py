"""Where everything came from and what it took: costs, readings of the test rows, runs, code, machines."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ablation.tracking import names
from ablation.tracking.uris import redact_uri
from reports.analysis.collect import Experiment, StoredRun, read_suite_json
from reports.analysis.groups import Group, describe
from reports.analysis.measures import TEST, Estimate, EvalSubset, Measurements
from reports.rendering.tables import Cell, Column, Table, number
from reports.sections.scores import title

#: Characters of an id or a hash that a page shows.
SHORT: Final = 8


@dataclass(frozen=True)
class Cost:
    """Means over a variant's runs; NaN where nothing was measured (an ensemble is not trained)."""

    variant: str
    runs: int
    seconds: float
    tokens_per_second: float
    memory_gib: float
    trainable_millions: float
    pearson: Estimate


def costs(measured: Measurements) -> list[Cost]:
    """What each variant took, and its Pearson on the analysed place."""
    found = []
    for variant in measured.group.variants:
        records = [measured.records[r.run_id] for r in measured.group.runs if r.variant == variant]
        found.append(
            Cost(
                title(variant),
                len(records),
                _mean(r.seconds for r in records),
                _mean(r.tokens_per_second for r in records),
                _mean(r.peak_memory_bytes for r in records) / 2**30,
                _mean(r.parameters_trainable for r in records) / 1e6,
                measured.cell(variant, EvalSubset(measured.analysed_place)),
            )
        )
    return found


def cost_table(measured: Measurements) -> Table:
    """What each variant took, and what it reached."""
    on = str(EvalSubset(measured.analysed_place))
    rows = [
        (
            Cell(cost.variant),
            Cell(str(cost.runs), cost.runs),
            number(cost.seconds, 1),
            number(cost.tokens_per_second, 0),
            number(cost.memory_gib, 2),
            number(cost.trainable_millions, 1),
            number(100 * cost.pearson.mean, runs=cost.pearson.runs),
        )
        for cost in costs(measured)
    ]
    heads = (
        Column("Method"),
        Column("runs", True),
        Column("seconds a run", True),
        Column("tokens a second", True),
        Column("peak memory, GiB", True),
        Column("trainable, millions", True),
        Column(f"Pearson × 100, {on}", True),
    )
    note = (
        "Means over runs. Seconds include evaluation; tokens a second are of the training rows and the evaluations between"
        " epochs. On a CPU the memory is the process's highest so far, so it never falls from one run to the next."
    )
    return Table("cost", "What each variant took", heads, tuple(rows), (note,), wide=True)


def test_reads(experiment: Experiment, group: Group) -> str:
    """How often the labels of the test rows were read in the whole experiment, by failed and replaced runs too."""
    days = Counter(when[:10] for run in experiment.runs if (when := _read_at(run)))
    total = sum(days.values())
    if not total:
        return "The labels of the test rows were never read in this experiment."
    listed = ", ".join(f"{count} on {day}" for day, count in sorted(days.items()))
    return (
        f"The labels of the test rows were read {total} times in this experiment ({listed}), once at the end of each run, never"
        " for training, selection or the ensemble. The more often they are read to choose what to do next, the less a test score"
        " says. The table of runs gives the time of each reading by them"
        + (
            ", the table of other readings those by runs that stand in no number here."
            if other_reads(experiment, group)
            else "."
        )
    )


def other_reads(experiment: Experiment, group: Group) -> Table | None:
    """Readings of the test rows by runs outside the group: failed ones, replaced ones, other settings. None if there are none."""
    shown = {run.run_id for run in group.runs}
    rows = [
        (run_cell(experiment, run), Cell(str(run)), Cell(run.status), Cell(when))
        for run in experiment.runs
        if run.run_id not in shown and (when := _read_at(run))
    ]
    heads = (Column("run"), Column("which"), Column("status"), Column("test rows read (UTC)"))
    return (
        Table("test_reads", "Other readings of the test rows", heads, tuple(rows)) if rows else None
    )


def runs_table(experiment: Experiment, group: Group, measured: Measurements) -> Table:
    """The runs behind the numbers: identity, code and place of each."""
    rows = []
    for run in group.runs:
        record = measured.records[run.run_id]
        values = [
            measured.values.get((run.run_id, EvalSubset(place)), float("nan"))
            for place in (run.split, TEST)
        ]
        rows.append(
            (
                run_cell(experiment, run, anchor=True),
                Cell(title(run.variant)),
                Cell(str(EvalSubset(run.split))),
                Cell(str(run.seed), run.seed),
                Cell(run.started[:16].replace("T", " ")),
                Cell(
                    "collapsed" if record.collapsed else str(record.best_epoch or "–"),
                    mark="bad" if record.collapsed else "",
                ),
                number(100 * values[0], runs=(run.run_id,)),
                number(100 * values[1], runs=(run.run_id,)),
                Cell(_read_at(run)[:16].replace("T", " ") or "–"),
                Cell(run.part("config")[:SHORT] or "–"),
                Cell(
                    run.tags.get(names.COMMIT, "none")[:SHORT]
                    + ("*" if run.tags.get(names.DIRTY) == "true" else "")
                ),
                Cell(_host(run)),
            )
        )
    heads = (
        Column("run"),
        Column("method"),
        Column("split"),
        Column("seed", True),
        Column("started (UTC)"),
        Column("epoch"),
        Column("dev", True),
        Column("test", True),
        Column("test read"),
        Column("config"),
        Column("commit"),
        Column("machine"),
    )
    notes = [
        "Ids and hashes are cut; the CSV's last column has whole ids. Epoch: the best, which was kept. *: uncommitted changes."
    ]
    if group.repeats:
        repeats = ", ".join(f"{run.run_id[:SHORT]} ({run})" for run in group.repeats)
        notes.append(f"Trained again later, and replaced by the newer run: {repeats}.")
    widths = (9, 15, 7, 5, 15, 6, 7, 7, 15, 9, 10, 10)
    return Table("runs", "The runs", heads, tuple(rows), tuple(notes), wide=True, widths=widths)


def unfinished(experiment: Experiment) -> Table | None:
    """Runs that failed, were killed or still run; they stand in no number. None if there are none."""
    rows = [
        (
            run_cell(experiment, run),
            Cell(str(run)),
            Cell(run.status),
            Cell(run.started),
            Cell(_read_at(run) or "–"),
            Cell(run.tags.get(names.REASON, "–")),
        )
        for run in experiment.runs
        if run.status != "FINISHED"
    ]
    heads = (
        Column("run"),
        Column("which"),
        Column("status"),
        Column("started (UTC)"),
        Column("test rows read"),
        Column("reason"),
    )
    return (
        Table("unfinished", "Runs that did not finish", heads, tuple(rows), wide=True)
        if rows
        else None
    )


def provenance(experiment: Experiment, group: Group) -> Table:
    """Digests, code, versions and machines of the group's runs, each with how many runs it holds for."""
    rows = [
        (Cell("tracking store"), Cell(redact_uri(experiment.store.uri))),
        (Cell("experiment"), Cell(f"{experiment.name} (id {experiment.experiment_id})")),
        (
            Cell("data"),
            Cell(_tally(group, lambda r: _named(r.tags.get(names.CORPUS, ""), r.part("data")))),
        ),
        (Cell("synthetic data"), Cell(_tally(group, lambda r: "yes" if r.synthetic else "no"))),
        (
            Cell("encoder"),
            Cell(_tally(group, lambda r: _named(r.tags.get(names.ENCODER, ""), r.part("encoder")))),
        ),
        (Cell("profile"), Cell(_tally(group, lambda r: r.tags.get(names.PROFILE, "")))),
        (Cell("code digest"), Cell(_tally(group, lambda r: r.part("code")[:16]))),
        (Cell("git commit"), Cell(_tally(group, _commit))),
        (Cell("libraries"), Cell(_tally(group, lambda r: r.part("libraries")))),
    ]
    parents = {run.suite for run in group.runs}
    suites = [
        suite
        for suite in (*experiment.suites, *experiment.curve_studies)
        if suite.run_id in parents
    ]
    machines: Counter[str] = Counter()
    for suite in suites:
        environment = read_suite_json(experiment, suite, names.ENVIRONMENT_FILE) or {}
        machines[_machine(environment)] += 1
    rows.append(
        (
            Cell("machines"),
            Cell("; ".join(f"{text} ({count} suites)" for text, count in sorted(machines.items()))),
        )
    )
    rows.append((Cell("suites"), Cell(", ".join(suite.run_id for suite in suites))))
    return Table(
        "provenance",
        "Where it came from",
        (Column("what"), Column("value")),
        tuple(rows),
        wide=True,
        widths=(15, 85),
    )


def other_groups(groups: Sequence[Group], shown: Group) -> Table | None:
    """Runs that were not averaged with the ones shown, and why. None if there are none."""
    rest = [group for group in groups if group is not shown]
    if not rest:
        return None
    rows = [
        (
            Cell(str(number_), number_),
            Cell(str(len(group.runs)), len(group.runs)),
            Cell(", ".join(group.variants)),
            Cell(", ".join(group.splits)),
            Cell(", ".join(map(str, group.seeds))),
            Cell(describe(group, [shown])),
        )
        for number_, group in enumerate(groups, start=1)
        if group is not shown
    ]
    heads = (
        Column("group", True),
        Column("runs", True),
        Column("variants"),
        Column("splits"),
        Column("seeds"),
        Column("what sets it apart"),
    )
    note = (
        "Runs that differ in data, encoder, code or settings are never averaged. --group N reports on another group, --mix forces"
        " all into one, under a watermark."
    )
    widths = (6, 6, 24, 12, 10, 42)
    return Table(
        "groups",
        "Other groups of runs in this experiment",
        heads,
        tuple(rows),
        (note,),
        wide=True,
        widths=widths,
    )


def _mean(values: Iterable[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")


def _read_at(run: StoredRun) -> str:
    """When the labels of the test rows were read, ISO 8601; empty if they were not."""
    read = run.tags.get(names.TEST_READ, "")
    return "" if read.startswith("predicted only") else read


def run_cell(experiment: Experiment, run: StoredRun, *, anchor: bool = False) -> Cell:
    """A run's id, cut, with the address of its page; with `anchor`, numbers that come from it lead here."""
    return Cell(
        run.run_id[:SHORT],
        runs=(run.run_id,),
        anchor=run.run_id if anchor else "",
        link=experiment.run_url(run.run_id),
    )


def _host(run: StoredRun) -> str:
    return run.tags.get(names.PROCESS, "–").split(":")[0]


def _commit(run: StoredRun) -> str:
    return run.tags.get(names.COMMIT, "") + (
        " with changes" if run.tags.get(names.DIRTY) == "true" else ""
    )


def _named(name: str, digest: str) -> str:
    return f"{name} ({digest[:16]})" if digest else name


def _tally(group: Group, of: Callable[[StoredRun], str]) -> str:
    counted = Counter(text for run in group.runs if (text := of(run)))
    if len(counted) == 1:
        return next(iter(counted))
    return "; ".join(f"{text}: {count} runs" for text, count in sorted(counted.items())) or "–"


def _machine(environment: Mapping[str, object]) -> str:
    if not environment:
        return "not recorded"
    memory = float(str(environment.get("memory_bytes", 0))) / 2**30
    device = environment.get("cuda_device")
    told = f"{environment.get('host')}: {environment.get('processor')}, {environment.get('cores')} cores, {memory:.0f} GiB"
    told += f", {device}" if device else ""
    return f"{told}, {environment.get('platform')}, Python {environment.get('python')}, {environment.get('torch_threads')} threads"
