"""Computing a finished report again: every number from the stored predictions, once more.

Runs that came after the report are left out, so an old report can be checked against a store that
has grown.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ablation.core.errors import RunError, UsageError
from reports.analysis.collect import Experiment, collect
from reports.analysis.groups import Group, group_runs
from reports.analysis.measures import TEST, EvalSubset, Measurements
from reports.build import NUMBERS_FILE, Echo, ReportRequest, chosen, numbers, quiet
from reports.contents import ReportInputs, compose

#: Sums in another order differ in the last digits; a figure that was touched differs in far more.
TOLERANCE = 1e-9


def verify(folder: Path, choice: ReportRequest, tell: Echo = quiet) -> int:
    """Check the report in `folder`; returns how many of its numbers were computed again and found equal.

    `choice` says where the store is; what was asked of the report stands in the report. Raises
    RunError at the first number that differs, naming it, and UsageError if there is no report.
    """
    try:
        then = json.loads((folder / NUMBERS_FILE).read_text("utf-8"))
        asked = replace(
            choice, **{k: v for k, v in then["choice"].items() if k in ("group", "mixed", "seed")}
        )
        known, runs_of_group, tables = set(then["runs"]), set(then["group"]), dict(then["tables"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder}: holds no finished report ({NUMBERS_FILE}): {error}") from error
    experiment = collect(choice.tracking_uri, choice.experiment, choice.ui_url)
    if lost := known - {run.run_id for run in (*experiment.runs, *experiment.curves)}:
        raise RunError(
            f"{len(lost)} runs of the report are no longer in the store, such as {min(lost)}"
        )
    experiment = _as_it_was(experiment, known)
    groups = group_runs(experiment)
    # Groups may stand in another order now; the report's own is the one with its runs.
    group = next((g for g in groups if {r.run_id for r in g.runs} == runs_of_group), None)
    if group is None:
        group = chosen(groups, asked) if groups else Group((), ())
    tell(f"computing the numbers of {len(group.runs or experiment.curves)} runs again")
    found = ReportInputs(experiment, groups, group, asked.seed)
    if group.runs:
        check_records(found.measured)
    now = numbers(compose(found))
    count = 0
    for place, was, is_ in _pairs(tables, now):
        if not _equal(was, is_):
            raise RunError(
                f"{place}: the report says {_shown(was)}, the stored predictions {_shown(is_)}"
            )
        count += was is not None and was["value"] is not None
    return count


def check_records(measured: Measurements) -> None:
    """Raise RunError at the first run whose logged figure is not that of its stored predictions."""
    for run in measured.group.runs:
        record = measured.records[run.run_id]
        for place, figures in ((run.split, record.dev), (TEST, record.test or {})):
            for (run_id, each), value in measured.values.items():
                if run_id != run.run_id or each.place != place:
                    continue
                logged = figures.get(
                    "pearson" if each.subset == "all" else f"pearson_{each.subset}"
                )
                if logged is not None and not (abs(logged - value) <= TOLERANCE):
                    raise RunError(
                        f"run {run.run_id} ({run}): logged {_named(each)} {logged}, its predictions give {value}"
                    )


def _as_it_was(experiment: Experiment, known: set[str]) -> Experiment:
    runs = tuple(run for run in experiment.runs if run.run_id in known)
    suites = {run.suite for run in runs}
    curves = tuple(run for run in experiment.curves if run.run_id in known)
    return replace(
        experiment,
        runs=runs,
        suites=tuple(s for s in experiment.suites if s.run_id in suites),
        curves=curves,
    )


def _pairs(
    then: Mapping[str, Any], now: Mapping[str, Any]
) -> Iterator[tuple[str, dict[str, Any] | None, dict[str, Any] | None]]:
    """Each cell of both, side by side, under its place in words; None where one has no such cell."""
    for table in sorted(
        {*then, *now} - {"groups", "unfinished", "test_reads"}
    ):  # these tell of runs that are in no number
        was, is_ = (
            {(c["row"], c["column"]): c for c in side.get(table, [])} for side in (then, now)
        )
        for row, column in sorted({*was, *is_}):
            yield (
                f"table {table}, row {row + 1}, {column}",
                was.get((row, column)),
                is_.get((row, column)),
            )


def _equal(was: dict[str, Any] | None, is_: dict[str, Any] | None) -> bool:
    if was is None or is_ is None:
        return False
    a, b = was["value"], is_["value"]
    if a is None or b is None or isinstance(a, str):
        return bool(a == b and was["text"] == is_["text"])
    return bool(
        np.isclose(a, b, rtol=TOLERANCE, atol=100 * TOLERANCE)
        and was["runs"] == is_["runs"]
        and was["text"] == is_["text"]
    )


def _shown(cell: dict[str, Any] | None) -> str:
    return (
        "nothing"
        if cell is None
        else f"{cell['text']!r} ({cell['value']})"
        if cell["value"] is not None
        else repr(cell["text"])
    )


def _named(measure_: EvalSubset) -> str:
    return f"Pearson on {measure_}"
