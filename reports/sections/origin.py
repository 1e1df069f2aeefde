"""Show where everything came from: data, code, machines, runs, and readings of the test rows."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from ablation.core.counting import counted
from ablation.tracking import names
from reports.analysis.collect import Experiment, StoredRun, StoredSuite, read_suite_json
from reports.analysis.estimates import NAN
from reports.analysis.groups import Group, describe
from reports.analysis.inputs import ReportInputs
from reports.analysis.labels import row_title
from reports.analysis.measures import Measurements
from reports.analysis.subsets import TEST, EvalSubset
from reports.rendering.blocks import Block
from reports.rendering.tables import EMPTY, Cell, Column, Table, TableBuilder, number, number_column
from reports.sections.cells import SHORT, run_cell, time_text
from reports.sections.registry import section


@section("Where everything came from", order=100, of_study=True)
def build(inputs: ReportInputs) -> Iterator[Block]:
    """Yield the provenance, the runs, readings of the test rows, and what was left out."""
    experiment, group = inputs.experiment, inputs.group
    if not group.runs:
        if inputs.curve_study is not None:
            yield _read_from(experiment)
            yield provenance(experiment, Group((), inputs.curve_study.runs))
        return
    yield _read_from(experiment)
    yield provenance(experiment, group)
    yield runs_table(experiment, group, inputs.measurements)
    yield test_reads_text(experiment, group)
    yield from _non_empty(
        other_reads(experiment, group),
        other_groups([] if group.mixed else inputs.groups, group),
        unfinished(experiment, with_reasons=inputs.texts),
    )


def _read_from(experiment: Experiment) -> str:
    """Say where the runs were read; no number, since a store may be moved or bundled."""
    return f"Read from {experiment.source.location}."


def provenance(experiment: Experiment, group: Group) -> Table:
    """Return digests, code, versions and machines, each with the number of runs it holds for."""
    table = TableBuilder(
        "provenance",
        "Where it came from",
        subject=Column("what", width=15),
        value=Column("value", width=85),
    )
    parents = {run.suite for run in group.runs}
    all_suites = (*experiment.suites, *experiment.curve_studies)
    suites = [suite for suite in all_suites if suite.run_id in parents]

    def tally(of: Callable[[StoredRun], str]) -> str:
        return _tally(group, of)

    facts = {
        "experiment": f"{experiment.name} (id {experiment.experiment_id})",
        "data": tally(lambda r: _with_digest(r.tags.get(names.CORPUS, ""), r.part("data"))),
        "synthetic data": tally(lambda r: "yes" if r.synthetic else "no"),
        "encoder": tally(lambda r: _with_digest(r.tags.get(names.ENCODER, ""), r.part("encoder"))),
        "profile": tally(lambda r: r.tags.get(names.PROFILE, "")),
        "code digest": tally(lambda r: r.part("code")[:16]),
        "git commit": tally(_commit),
        "libraries": tally(lambda r: r.part("libraries")),
        "machines": _machines(experiment, suites),
        "suites": ", ".join(suite.run_id for suite in suites),
    }
    for subject, value in facts.items():
        table.add(subject=subject, value=value)
    return table.build()


def runs_table(experiment: Experiment, group: Group, measurements: Measurements) -> Table:
    """Return the runs behind the numbers: scores, identity, code and machine of each."""
    table = TableBuilder(
        "runs",
        "The runs",
        run=Column("run", width=9),
        method=Column("method", width=15),
        split=Column("split", width=7),
        seed=number_column("seed", width=5),
        started=Column("started (UTC)", width=15),
        epoch=Column("epoch", width=6),
        dev=number_column("dev", width=7),
        test=number_column("test", width=7),
        test_read=Column("test read", width=15),
        config=Column("config", width=9),
        commit=Column("commit", width=10),
        machine=Column("machine", width=10),
    )
    for run in group.runs:
        record = measurements.records[run.run_id]
        best_epoch = str(record.best_epoch or EMPTY.text)
        changed = "*" if run.tags.get(names.DIRTY) == "true" else ""
        table.add(
            run=run_cell(experiment, run, anchor=True),
            method=row_title(run.variant, group.table),
            split=str(EvalSubset(run.split)),
            seed=run.seed,
            started=time_text(run.started),
            epoch=Cell("collapsed", mark="bad") if record.collapsed else best_epoch,
            dev=_score_cell(measurements, run, run.split),
            test=_score_cell(measurements, run, TEST),
            test_read=time_text(_read_at(run)),
            config=run.part("config")[:SHORT] or EMPTY.text,
            commit=run.tags.get(names.COMMIT, "none")[:SHORT] + changed,
            machine=run.tags.get(names.PROCESS, EMPTY.text).split(":")[0],
        )
    notes = [
        "Ids and hashes are cut; the CSV's last column has whole ids. Epoch: the best, which was"
        " kept. *: uncommitted changes."
    ]
    if group.repeats:
        repeats = ", ".join(f"{run.run_id[:SHORT]} ({run})" for run in group.repeats)
        notes.append(f"Trained again later, and replaced by the newer run: {repeats}.")
    return table.build(*notes)


def test_reads_text(experiment: Experiment, group: Group) -> str:
    """Say how often the test labels were read in the whole experiment, by any run."""
    days = Counter(when[:10] for run in experiment.runs if (when := _read_at(run)))
    total = sum(days.values())
    if not total:
        return "The labels of the test rows were never read in this experiment."
    listed = ", ".join(f"{count} on {day}" for day, count in sorted(days.items()))
    text = (
        f"The labels of the test rows were read {counted(total, 'time')} in this experiment"
        f" ({listed}), once at the end of each run, never for training, selection or the ensemble."
        " The more often they are read to choose the next experiment, the less a test score means."
        " The table of runs gives the time of each reading by them"
    )
    if other_reads(experiment, group).rows:
        return f"{text}, the table of other readings those by runs that enter no number here."
    return f"{text}."


def other_reads(experiment: Experiment, group: Group) -> Table:
    """Return readings of the test rows by failed or replaced runs, or with other settings."""
    table = TableBuilder(
        "test_reads",
        "Other readings of the test rows",
        run=Column("run"),
        name=Column("which"),
        status=Column("status"),
        read=Column("test rows read (UTC)"),
    )
    shown = {run.run_id for run in group.runs}
    for run in experiment.runs:
        if run.run_id not in shown and (when := _read_at(run)):
            table.add(run=run_cell(experiment, run), name=str(run), status=run.status, read=when)
    return table.build(wide=False)


def other_groups(groups: Sequence[Group], shown: Group) -> Table:
    """Return the groups that were not averaged with the one shown, and why."""
    table = TableBuilder(
        "groups",
        "Other groups of runs in this experiment",
        group=number_column("group", width=6),
        runs=number_column("runs", width=6),
        variants=Column("variants", width=24),
        splits=Column("splits", width=12),
        seeds=Column("seeds", width=10),
        difference=Column("what sets it apart", width=42),
    )
    for index, group in enumerate(groups, start=1):
        if group is not shown:
            table.add(
                group=index,
                runs=len(group.runs),
                variants=", ".join(group.variants),
                splits=", ".join(group.splits),
                seeds=", ".join(map(str, group.seeds)),
                difference=describe(group, [shown]),
            )
    return table.build(
        "Runs that differ in data, encoder, code or settings are never averaged. --group N reports"
        " on another group, --pool averages all of them, under a watermark."
    )


def unfinished(experiment: Experiment, *, with_reasons: bool) -> Table:
    """Return the runs that failed, were killed or still run; they enter no number.

    A reason may quote a text of the corpus, so a report without texts has none.
    """
    table = TableBuilder(
        "unfinished",
        "Runs that did not finish",
        run=Column("run"),
        name=Column("which"),
        status=Column("status"),
        started=Column("started (UTC)"),
        read=Column("test rows read"),
        **({"reason": Column("reason")} if with_reasons else {}),
    )
    for run in experiment.runs:
        if run.status != "FINISHED":
            table.add(
                run=run_cell(experiment, run),
                name=str(run),
                status=run.status,
                started=run.started,
                read=_read_at(run) or EMPTY.text,
                **({"reason": run.tags.get(names.REASON, EMPTY.text)} if with_reasons else {}),
            )
    return table.build()


def _non_empty(*tables: Table) -> Iterator[Table]:
    yield from (table for table in tables if table.rows)


def _score_cell(measurements: Measurements, run: StoredRun, eval_set: str) -> Cell:
    value = measurements.values.get((run.run_id, EvalSubset(eval_set)), NAN)
    return number(100 * value, runs=(run.run_id,))


def _read_at(run: StoredRun) -> str:
    """Return when the run read the test labels, in ISO 8601; empty if it did not."""
    read = run.tags.get(names.TEST_READ, "")
    return "" if read.startswith("predicted only") else read


def _commit(run: StoredRun) -> str:
    changed = " with changes" if run.tags.get(names.DIRTY) == "true" else ""
    return run.tags.get(names.COMMIT, "") + changed


def _with_digest(name: str, digest: str) -> str:
    return f"{name} ({digest[:16]})" if digest else name


def _tally(group: Group, of: Callable[[StoredRun], str]) -> str:
    """List the different values of the group's runs, with their number if there are several."""
    counts = Counter(text for run in group.runs if (text := of(run)))
    if len(counts) == 1:
        return next(iter(counts))
    listed = "; ".join(f"{text}: {counted(count, 'run')}" for text, count in sorted(counts.items()))
    return listed or EMPTY.text


def _machines(experiment: Experiment, suites: Sequence[StoredSuite]) -> str:
    environments = [read_suite_json(experiment, s, names.ENVIRONMENT_FILE) or {} for s in suites]
    counts = Counter(map(_machine, environments))
    return "; ".join(
        f"{machine} ({counted(count, 'suite')})" for machine, count in sorted(counts.items())
    )


def _counted(count: object, noun: str) -> str:
    """Return the number with its noun, or an unknown number as it was stored."""
    return counted(count, noun) if isinstance(count, int) else f"{count} {noun}s"


def _machine(environment: Mapping[str, object]) -> str:
    if not environment:
        return "not recorded"
    memory = float(str(environment.get("memory_bytes", 0))) / 2**30
    device = environment.get("cuda_device")
    parts = [
        f"{environment.get('host')}: {environment.get('processor')}",
        _counted(environment.get("cores"), "core"),
        f"{memory:.0f} GiB",
        *([str(device)] if device else []),
        str(environment.get("platform")),
        f"Python {environment.get('python')}",
        _counted(environment.get("torch_threads"), "thread"),
    ]
    return ", ".join(parts)
