"""Verify a finished report: recompute every number from the stored predictions.

Runs that came after the report are left out, so an old report can be checked against a store that
has grown.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from ablation.core.counting import counted
from ablation.core.errors import RunError, UsageError, first_line
from ablation.tracking.reused import reused_runs
from reports.analysis.collect import Experiment
from reports.analysis.groups import Group, group_runs
from reports.analysis.inputs import ReportInputs
from reports.analysis.measures import Measurements
from reports.analysis.subsets import TEST
from reports.build import (
    KEPT_OF_REQUEST,
    NUMBERS_FILE,
    Echo,
    ReportRequest,
    choose_group,
    collect_requested,
    list_numbers,
    quiet,
)
from reports.contents import compose

#: Sums in another order differ in the last digits; an altered figure differs in far more.
TOLERANCE: Final = 1e-9
#: Tables of runs that are in no number.
_NOT_CHECKED: Final = frozenset({"groups", "unfinished", "test_reads"})
#: Tables that show texts of the corpus, which a bundle need not have.
_OF_TEXTS: Final = frozenset({"table1", "worst"})

NumberCell = dict[str, Any]
NumberTables = Mapping[str, list[NumberCell]]


@dataclass(frozen=True)
class _Written:
    """The content of a report's `numbers.json`."""

    request: dict[str, Any]
    group: set[str]
    runs: set[str]
    tables: NumberTables


def verify(folder: Path, request: ReportRequest, echo: Echo = quiet) -> int:
    """Recompute the report in `folder`.

    Args:
        folder: The report's folder.
        request: The store and the experiment; the rest stands in the report.
        echo: Receives a line for each stage.

    Returns:
        The number of values that were recomputed and found equal.

    Raises:
        RunError: A number differs; the message names the first one.
        UsageError: There is no report.
    """
    written = _read(folder)
    request = replace(request, **written.request)
    experiment = collect_requested(request)
    if lost := written.runs - {run.run_id for run in (*experiment.runs, *experiment.curves)}:
        raise RunError(
            f"the store no longer holds {counted(len(lost), 'run')} of the report, such as"
            f" {min(lost)}"
        )
    experiment = _restrict(experiment, written.runs)
    groups = group_runs(experiment)
    # Groups may have another order now; the report's own is the one with its runs.
    own = [group for group in groups if {run.run_id for run in group.runs} == written.group]
    fallback = choose_group(groups, request) if groups else Group((), ())
    group = own[0] if own else fallback
    echo(f"recomputing the numbers of {counted(len(group.runs or experiment.curves), 'run')}")
    inputs = ReportInputs(experiment, groups, group, request.seed, request.texts, request.scope)
    if group.runs:
        check_records(inputs.measurements)
    count = 0
    recomputed = list_numbers(compose(inputs, request.sections))
    skipped = _NOT_CHECKED
    if request.texts and not inputs.shows_texts:
        echo("the report shows texts, which are not here: their tables are not compared")
        skipped |= _OF_TEXTS
    for location, stored, computed in _pairs(written.tables, recomputed, skipped):
        if not _equal(stored, computed):
            raise RunError(
                f"{location}: the report says {_cell_text(stored)}, the stored predictions"
                f" {_cell_text(computed)}"
            )
        count += stored is not None and stored["value"] is not None
    return count


def check_records(measurements: Measurements) -> None:
    """Raise RunError at the first run whose logged score differs from its stored predictions'."""
    runs = {run.run_id: run for run in measurements.group.runs}
    for (run_id, subset), value in measurements.values.items():
        record = measurements.records[run_id]
        scores = (record.test or {}) if subset.eval_set == TEST else record.dev
        name = "pearson" if subset.languages == "all" else f"pearson_{subset.languages}"
        logged = scores.get(name)
        if logged is not None and not abs(logged - value) <= TOLERANCE:
            raise RunError(
                f"run {run_id} ({runs[run_id]}): logged Pearson on {subset} {logged}, its"
                f" predictions give {value}"
            )
    for run_id, run in runs.items():
        record = measurements.records[run_id]
        sets = {"best/dev_": record.dev, "test/": record.test or {}}
        recorded = {f"{p}{name}": value for p, each in sets.items() for name, value in each.items()}
        for metric, value in recorded.items():
            shown = run.metrics.get(metric)
            if shown is not None and not abs(shown - value) <= TOLERANCE:
                raise RunError(
                    f"run {run_id} ({run}): MLflow shows {metric} {shown}, its record says {value};"
                    " the metric was edited"
                )


def _read(folder: Path) -> _Written:
    try:
        content = json.loads((folder / NUMBERS_FILE).read_text("utf-8"))
        request = {k: v for k, v in content["choice"].items() if k in KEPT_OF_REQUEST}
        request["sections"] = tuple(request.get("sections", ()))
        tables = dict(content["tables"])
        return _Written(request, set(content["group"]), set(content["runs"]), tables)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{folder}: holds no finished report ({NUMBERS_FILE}): {first_line(error)}"
        ) from error


def _restrict(experiment: Experiment, known: set[str]) -> Experiment:
    """Return the experiment with the known runs and their suites only."""
    runs = tuple(run for run in experiment.runs if run.run_id in known)
    suites = {run.suite for run in runs} | {
        suite.run_id for suite in experiment.suites if known & reused_runs(suite.tags)
    }
    return replace(
        experiment,
        runs=runs,
        suites=tuple(suite for suite in experiment.suites if suite.run_id in suites),
        curves=tuple(run for run in experiment.curves if run.run_id in known),
    )


def _pairs(
    stored: NumberTables, computed: NumberTables, skipped: frozenset[str]
) -> Iterator[tuple[str, NumberCell | None, NumberCell | None]]:
    """Yield each cell's location in words and both its contents; None if one has no such cell."""
    for table in sorted({*stored, *computed} - skipped):
        a, b = (
            {(cell["row"], cell["column"]): cell for cell in side.get(table, [])}
            for side in (stored, computed)
        )
        for key in sorted({*a, *b}):
            row, column = key
            yield f"table {table}, row {row + 1}, {column}", a.get(key), b.get(key)


def _equal(stored: NumberCell | None, computed: NumberCell | None) -> bool:
    if stored is None or computed is None or stored["text"] != computed["text"]:
        return False
    a, b = stored["value"], computed["value"]
    if a is None or b is None or isinstance(a, str):
        return bool(a == b)
    close = np.isclose(a, b, rtol=TOLERANCE, atol=100 * TOLERANCE)
    return bool(close and stored["runs"] == computed["runs"])


def _cell_text(cell: NumberCell | None) -> str:
    if cell is None:
        return "nothing"
    value = "" if cell["value"] is None else f" ({cell['value']})"
    return f"{cell['text']!r}{value}"
