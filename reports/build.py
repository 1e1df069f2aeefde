"""Build a report: from an experiment to a folder of pages, tables and figures, and into the store.

report.pdf, report.html
tables/NAME.{csv,md,tex}
figures/NAME.{pdf,svg,png}
numbers.json        every number, with the runs behind it: what `--verify` checks
"""

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast, get_args

from ablation.core.counting import counted
from ablation.core.errors import UsageError
from ablation.core.files import replace_folder, write_atomically
from ablation.core.garbage import collector_paused
from ablation.core.slugs import slug
from ablation.core.suggest import did_you_mean
from ablation.tracking import names
from ablation.tracking.damage import DamagedRunError
from ablation.tracking.store import Store
from reports.analysis.collect import Experiment, collect
from reports.analysis.curve_study import to_json
from reports.analysis.groups import Group, group_runs, pool
from reports.analysis.inputs import ReportInputs
from reports.analysis.scope import LanguagesAre, Scope, SplitsAre
from reports.contents import compose
from reports.rendering import plotting
from reports.rendering.blocks import Report
from reports.rendering.html import write_html
from reports.rendering.pdf import write_pdf
from reports.rendering.tables import FORMS
from reports.seal import count_reading

ARTIFACT_FOLDER: Final = "report"
NUMBERS_FILE: Final = "numbers.json"
#: What a killed command of version 0.1.0 may have left of a report.
_PARTS: Final = frozenset({"tables", "figures", "report.html", "report.pdf", ".typst"})
Echo = Callable[[str], None]


def quiet(line: str) -> None:
    """Drop a progress line."""


@dataclass(frozen=True)
class ReportRequest:
    """A report as it was asked for.

    Attributes:
        experiment: An experiment's name or id.
        tracking_uri: The store; the environment's by default.
        ui_url: Address of the MLflow UI for links; the server's own by default.
        group: Number of the group of runs, from 1, in the order of `group_runs`.
        mixed: Force all groups into one.
        seed: Seed of all resampling.
        sections: Names of the sections to show; all by default.
        texts: Show texts of the corpus; False for a report that can be published.
        bundle: A bundle to read instead of a store; then `experiment` and the store are not read.
        splits: Several splits of a kind, such as Dev2's pairs, as "random" (verdicts are about
            other splits, too) or "fixed"; "auto": random from three on.
        languages: Languages as "fixed" or "random": differences are then means over languages,
            and verdicts are about other languages, too.

    Raises:
        UsageError: `splits` or `languages` is another word.
    """

    experiment: str = "ablation"
    tracking_uri: str | None = None
    ui_url: str | None = None
    group: int = 1
    mixed: bool = False
    seed: int = 0
    sections: tuple[str, ...] = ()
    texts: bool = True
    bundle: Path | None = None
    splits: str = "auto"
    languages: str = "fixed"

    def __post_init__(self) -> None:
        for name, known in (("splits", get_args(SplitsAre)), ("languages", get_args(LanguagesAre))):
            if (word := getattr(self, name)) not in known:
                raise UsageError(f"{name} = {word!r}: {did_you_mean(word, known)}")

    @property
    def scope(self) -> Scope:
        """Return the factors that intervals and verdicts generalise to."""
        return Scope(cast("SplitsAre", self.splits), cast("LanguagesAre", self.languages))


#: What `numbers.json` keeps of a request, so that a report can be recomputed.
KEPT_OF_REQUEST: Final = ("group", "mixed", "seed", "sections", "texts", "splits", "languages")


@dataclass(frozen=True)
class ReportOutput:
    """A written report.

    Attributes:
        folder: Where it is.
        report: Its content.
        suite: The suite that it was logged to; None if it was not.
        test_readings: How often the experiment's test rows were read, this time included; empty
            if they have no scores.
    """

    folder: Path
    report: Report
    suite: str | None
    test_readings: str = ""


@collector_paused()
def build(
    request: ReportRequest,
    folder: Path | None = None,
    *,
    log: bool = True,
    echo: Echo = quiet,
    when: datetime | None = None,
) -> ReportOutput:
    """Write the report and log it to the group's newest suite.

    Args:
        request: What to report on.
        folder: Where to write; `report-EXPERIMENT` in the working folder by default.
        log: Whether to log the report, and the verdicts of a curve study, to the store; a bundle
            has none.
        echo: Receives a line for each stage.
        when: The time that the pages state; now by default.

    Raises:
        UsageError: There is nothing to report on, or `folder` holds something else.
        RunError: An artifact of a run is lost.
    """
    inputs, report = _compose_without_damaged(request, echo)
    report = replace(report, readings=count_reading(inputs.experiment, "report"))
    folder = (folder or folder_for(inputs.experiment)).resolve()
    pictures = counted(len(report.pictures), "figure")
    echo(f"writing {counted(len(report.tables), 'table')} and {pictures}")
    write(inputs, report, request, folder, when or datetime.now(UTC))
    suite = None
    store = inputs.experiment.source.store
    if log and store is not None:
        suite = _newest_suite(inputs)
        if suite is not None:
            echo(f"logging to suite {suite}")
            store.client.log_artifacts(suite, str(folder), ARTIFACT_FOLDER)
        log_verdicts(inputs, store)
    return ReportOutput(folder, report, suite, report.readings)


def _compose_without_damaged(request: ReportRequest, echo: Echo) -> tuple[ReportInputs, Report]:
    """Compose the report of the runs that can be read; the others are found when they are read."""
    damaged: dict[str, str] = {}
    while True:
        try:
            inputs = read_inputs(request, echo, damaged)
            return inputs, compose(inputs, request.sections)
        except DamagedRunError as error:
            if error.run_id in damaged:
                raise
            damaged[error.run_id] = str(error)
            echo(f"{error}; going on without it")


def read_inputs(
    request: ReportRequest, echo: Echo = quiet, damaged: Mapping[str, str] | None = None
) -> ReportInputs:
    """Read the experiment and choose the group of runs; raises as `build` does.

    Args:
        request: What to report on.
        echo: Receives a line for each stage.
        damaged: Runs to leave out, by id, with a line on why.
    """
    experiment = collect_requested(request, damaged)
    echo(f"{counted(len(experiment.runs), 'run')} in experiment {experiment.name!r}")
    groups = group_runs(experiment)
    if not groups and not any(run.status == "FINISHED" for run in experiment.curves):
        raise UsageError(
            f"experiment {experiment.name!r} has no finished run{_states_text(experiment)}"
            + "".join(f"; {line}" for line in experiment.damaged[:3])
        )
    group = choose_group(groups, request) if groups else Group((), ())
    echo(f"reading the artifacts of {len(group.runs or experiment.curves)} of them")
    return ReportInputs(experiment, groups, group, request.seed, request.texts, request.scope)


def collect_requested(
    request: ReportRequest, damaged: Mapping[str, str] | None = None
) -> Experiment:
    """Read the request's experiment from its store or bundle; raises as `collect` does.

    Args:
        request: What to report on.
        damaged: Runs to leave out, by id, with a line on why.
    """
    return collect(
        request.tracking_uri, request.experiment, request.ui_url, damaged, bundle=request.bundle
    )


def write(
    inputs: ReportInputs, report: Report, request: ReportRequest, folder: Path, when: datetime
) -> None:
    """Write all forms of the report.

    Equal reports give equal bytes, but for the stated time and count of readings.
    """
    if folder.exists() and not _may_replace(folder):
        raise UsageError(f"{folder}: is not empty and holds no report; give another --out")
    with replace_folder(folder) as draft:
        _write(inputs, report, request, draft, when)


def _may_replace(folder: Path) -> bool:
    """Return whether a folder holds a report, what a killed command left of one, or nothing."""
    if not folder.is_dir():
        return False
    entries = {entry.name for entry in folder.iterdir()}
    return NUMBERS_FILE in entries or entries <= _PARTS


def _write(
    inputs: ReportInputs, report: Report, request: ReportRequest, folder: Path, when: datetime
) -> None:
    for part in ("tables", "figures"):
        (folder / part).mkdir(parents=True)
    printed_format, *other_formats = plotting.FORMATS
    for picture in report.pictures:
        plotting.fix_layout(picture.figure)
        plotting.save(picture.figure, folder / "figures", picture.id, printed_format)
    built = when.strftime("%Y-%m-%d %H:%M UTC")
    # typst does not hold the interpreter's lock, so the rest is written beside it.
    with ThreadPoolExecutor(1) as pool:
        pdf = pool.submit(write_pdf, report, folder, built=built)
        for picture, form in itertools.product(report.pictures, other_formats):
            plotting.save(picture.figure, folder / "figures", picture.id, form)
        for table, (suffix, text) in itertools.product(report.tables, FORMS.items()):
            (folder / "tables" / f"{table.id}.{suffix}").write_text(text(table), "utf-8")
        write_html(report, folder, built=built)
    pdf.result()
    all_runs = (*inputs.experiment.runs, *inputs.experiment.curves)
    content = {
        "choice": {name: asdict(request)[name] for name in KEPT_OF_REQUEST}
        | {"texts": inputs.shows_texts},
        "group": [run.run_id for run in inputs.group.runs],
        "runs": [run.run_id for run in all_runs],
        "tables": list_numbers(report),
    }
    write_atomically(folder / NUMBERS_FILE, _as_lines(content), durable=False)


def _as_lines(content: Mapping[str, Any]) -> str:
    """Return JSON with a line for each cell, so that a changed number is one line of a diff."""
    # With indents, Python's slow encoder would write it: seconds for a thousand runs.
    encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True).encode
    tables = ",\n".join(
        f"{encode(name)}: [\n" + ",\n".join(map(encode, cells)) + "\n]"
        for name, cells in sorted(content["tables"].items())
    )
    others = {name: value for name, value in content.items() if name != "tables"}
    return f'{encode(others)[:-1]}, "tables": {{\n{tables}\n}}}}\n'


def list_numbers(report: Report) -> dict[str, list[dict[str, Any]]]:
    """Return by table every cell's text, its value in full, and the runs behind it."""
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


def log_verdicts(inputs: ReportInputs, store: Store) -> None:
    """Log the newest curve study's verdicts to its run: a file, and metrics of mean and bounds."""
    study = inputs.curve_study
    if study is None or study.newest is None:
        return
    client, run_id = store.client, study.newest.run_id
    client.log_dict(run_id, {"verdicts": to_json(study)}, names.VERDICTS_FILE)
    for claim, contrast, assessment in study.assessments:
        condition = f" {contrast.sign} tau {contrast.tau:g}" if contrast else ""
        mean, interval = assessment.estimate.mean, assessment.estimate.over_seeds
        for part, value in (("mean", mean), ("low", interval.low), ("high", interval.high)):
            if math.isfinite(value):
                client.log_metric(run_id, f"verdict/{claim.id}{condition}/{part}", value)


def default_folder(request: ReportRequest) -> Path:
    """Return the folder that `build` writes to if none is given; UsageError if no experiment."""
    return folder_for(collect_requested(request))


def choose_group(groups: Sequence[Group], request: ReportRequest) -> Group:
    """Return the requested group; raise UsageError if there are not so many."""
    if request.mixed:
        return pool(groups) if len(groups) > 1 else groups[0]
    if not 1 <= request.group <= len(groups):
        raise UsageError(
            f"--group {request.group}: give a number from 1 on; the runs make"
            f" {counted(len(groups), 'group')}"
        )
    return groups[request.group - 1]


def _newest_suite(inputs: ReportInputs) -> str | None:
    """Return the newest suite that trained a run of the group."""
    suites = {run.suite for run in inputs.group.runs or inputs.experiment.curves}
    all_suites = (*inputs.experiment.suites, *inputs.experiment.curve_studies)
    newest = [suite.run_id for suite in all_suites if suite.run_id in suites]
    return newest[-1] if newest else None


def _states_text(experiment: Experiment) -> str:
    """List the runs' states and up to three reasons of failures."""
    runs = (*experiment.runs, *experiment.curves)
    counts = sorted(Counter(run.status for run in runs).items())
    listed = ", ".join(f"{count} {status}" for status, count in counts)
    reasons = sorted({reason for run in runs if (reason := run.tags.get(names.REASON))})
    return f": {listed}" + (f" ({'; '.join(reasons[:3])})" if reasons else "")


def folder_for(experiment: Experiment) -> Path:
    """Return the folder below the working folder that an experiment's report goes to."""
    return Path(f"report-{slug(experiment.name) or 'experiment'}")
