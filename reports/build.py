"""Building a report: from an experiment to a folder of pages, tables and figures, and into the store.

report.pdf, report.html
tables/NAME.{csv,md,tex}
figures/NAME.{pdf,svg,png}
numbers.json        every number, with the runs behind it: what `--verify` checks
"""

import itertools
import json
import math
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ablation.core.errors import UsageError
from ablation.tracking import names
from reports.analysis.collect import Experiment, collect
from reports.analysis.groups import Group, group_runs, pool
from reports.contents import ReportInputs, compose
from reports.rendering import figures
from reports.rendering.blocks import Report
from reports.rendering.html import write_html
from reports.rendering.pdf import write_pdf
from reports.rendering.tables import FORMS
from reports.sections.curve_study import as_json

ARTIFACT_FOLDER: Final = "report"
NUMBERS_FILE: Final = "numbers.json"
Echo = Callable[[str], None]


def quiet(line: str) -> None:
    """For who need not be told what is being done."""


@dataclass(frozen=True)
class ReportRequest:
    """What was asked for. `group` counts from 1, in the order of `group_runs`; `mixed` forces all groups into one."""

    experiment: str = "ablation"
    tracking_uri: str | None = None
    ui_url: str | None = None
    group: int = 1
    mixed: bool = False
    seed: int = 0


@dataclass(frozen=True)
class ReportOutput:
    """Where the report is, and the suite that it was logged to (None where it was not)."""

    folder: Path
    report: Report
    suite: str | None


def build(
    choice: ReportRequest,
    folder: Path | None = None,
    *,
    log: bool = True,
    tell: Echo = quiet,
    when: datetime | None = None,
) -> ReportOutput:
    """Write the report to `folder` (default: `report-EXPERIMENT` here) and log it to the group's newest suite.

    `when` is the time that the pages state, now by default.

    Raises UsageError where there is nothing to report on, RunError for an artifact that is lost.
    """
    found = find(choice, tell)
    report = compose(found)
    folder = (folder or _folder_of(found.experiment)).resolve()
    tell(f"writing {len(report.tables)} tables and {len(report.pictures)} figures")
    write(found, report, choice, folder, when or datetime.now(UTC))
    suite = None
    if log:
        suite = _newest_suite(found)
        if suite is not None:
            tell(f"logging to suite {suite}")
            found.experiment.store.client.log_artifacts(suite, str(folder), ARTIFACT_FOLDER)
        log_verdicts(found)
    return ReportOutput(folder, report, suite)


def log_verdicts(found: ReportInputs) -> None:
    """Put what the curves say of the paper's claims on the newest curve study's run: a file, and metrics of means and bounds."""
    study = found.curve_study
    if study is None or study.newest is None:
        return
    client, run_id = found.experiment.store.client, study.newest.run_id
    client.log_dict(run_id, {"verdicts": as_json(study)}, names.VERDICTS_FILE)
    for verdict in study.verdicts:
        where = f" {verdict.contrast.sign} tau {verdict.contrast.tau:g}" if verdict.contrast else ""
        figures = {"mean": verdict.mean, "low": verdict.interval.low, "high": verdict.interval.high}
        for part, value in figures.items():
            if math.isfinite(value):
                client.log_metric(run_id, f"verdict/{verdict.claim.id}{where}/{part}", value)


def default_folder(choice: ReportRequest) -> Path:
    """Where `build` writes if no folder is given. Raises UsageError if there is no such experiment."""
    return _folder_of(collect(choice.tracking_uri, choice.experiment))


def find(choice: ReportRequest, tell: Echo = quiet) -> ReportInputs:
    """Read the experiment, choose the group of runs, and measure it. Raises as `build` does."""
    experiment = collect(choice.tracking_uri, choice.experiment, choice.ui_url)
    tell(f"{len(experiment.runs)} runs in experiment {experiment.name!r}")
    groups = group_runs(experiment)
    if not groups and not any(run.status == "FINISHED" for run in experiment.curves):
        raise UsageError(
            f"experiment {experiment.name!r} has no finished run{_reasons(experiment)}"
        )
    group = chosen(groups, choice) if groups else Group((), ())
    tell(f"reading what {len(group.runs or experiment.curves)} of them left")
    return ReportInputs(experiment, groups, group, choice.seed)


def write(
    found: ReportInputs, report: Report, choice: ReportRequest, folder: Path, when: datetime
) -> None:
    """All forms of the report. Equal reports give equal bytes but for what states the time."""
    if folder.exists() and not (folder / NUMBERS_FILE).is_file() and any(folder.iterdir()):
        raise UsageError(f"{folder}: is not empty and holds no report; give another --out")
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("tables", "figures"):
        (folder / part).mkdir(parents=True)
    printed_form, *other_forms = figures.FORMATS
    for picture in report.pictures:
        figures.lay_out(picture.figure)
        figures.save(picture.figure, folder / "figures", picture.id, printed_form)
    built = when.strftime("%Y-%m-%d %H:%M UTC")
    content = {
        "choice": {"group": choice.group, "mixed": choice.mixed, "seed": choice.seed},
        "group": [run.run_id for run in found.group.runs],
        "runs": [run.run_id for run in (*found.experiment.runs, *found.experiment.curves)],
        "tables": numbers(report),
    }
    with ThreadPoolExecutor(1) as pool:
        printed = pool.submit(
            write_pdf, report, folder, built=built
        )  # typst does not hold the interpreter's lock
        for picture, form in itertools.product(report.pictures, other_forms):
            figures.save(picture.figure, folder / "figures", picture.id, form)
        for table, (suffix, text) in itertools.product(report.tables, FORMS.items()):
            (folder / "tables" / f"{table.id}.{suffix}").write_text(text(table), "utf-8")
        write_html(report, folder, built=built)
        counted = json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    printed.result()
    (folder / NUMBERS_FILE).write_text(counted, "utf-8")  # last: it tells that the report is whole


def numbers(report: Report) -> dict[str, list[dict[str, Any]]]:
    """By table: every cell's text, its value in full, and the runs behind it."""
    return {
        table.id: [
            {
                "row": i,
                "column": column.full_title,
                "text": cell.whole,
                "value": cell.value,
                "runs": list(cell.runs),
            }
            for i, row in enumerate(table.rows)
            for column, cell in zip(table.columns, row, strict=True)
        ]
        for table in report.tables
    }


def chosen(groups: Sequence[Group], choice: ReportRequest) -> Group:
    """The group that was asked for. Raises UsageError if there are not so many."""
    if choice.mixed:
        return pool(groups) if len(groups) > 1 else groups[0]
    if not 1 <= choice.group <= len(groups):
        raise UsageError(f"--group {choice.group}: there are {len(groups)} groups of runs")
    return groups[choice.group - 1]


def _newest_suite(found: ReportInputs) -> str | None:
    """The newest suite with a run of the group; reused runs count for the suite that trained them."""
    suites = {run.suite for run in found.group.runs or found.experiment.curves}
    all_suites = (*found.experiment.suites, *found.experiment.curve_studies)
    newest = [suite.run_id for suite in all_suites if suite.run_id in suites]
    return newest[-1] if newest else None


def _reasons(experiment: Experiment) -> str:
    states: dict[str, int] = {}
    for run in (*experiment.runs, *experiment.curves):
        states[run.status] = states.get(run.status, 0) + 1
    told = ", ".join(f"{count} {status}" for status, count in sorted(states.items()))
    reasons = {
        reason
        for run in (*experiment.runs, *experiment.curves)
        if (reason := run.tags.get("ablation.reason"))
    }
    return f": {told}" + (f" ({'; '.join(sorted(reasons)[:3])})" if reasons else "")


def _folder_of(experiment: Experiment) -> Path:
    return Path(f"report-{_slug(experiment.name)}")


def _slug(name: str) -> str:
    return (
        "".join(c if c.isalnum() or c in "-_" else "-" for c in name)[:60].strip("-")
        or "experiment"
    )
