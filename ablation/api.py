"""The public Python API. Import it as `import ablation`; heavy libraries load when they are used.

import ablation

request = ablation.RunRequest(profile="smoke", variants=["mse", "epm"], seeds=[0, 1])
ablation.plan(request).to_frame()
ablation.run(request)
ablation.load_results("ablation").groupby(["variant", "subset"])["value"].mean()
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pandas as pd

from ablation.runs.request import ResolvedRun, RunRequest, resolve_run

if TYPE_CHECKING:
    from rich.console import Console

    from ablation.runs.results import RunOutcome
    from ablation.runs.unbundling import Unbundled
    from ablation.tracking.bundle import BundleSummary
    from reports.build import ReportOutput, ReportRequest
    from reports.compare import CompareResult
    from reports.planner import PowerPlan, PowerRequest


_COLUMNS: Final = (
    "variant",
    "split",
    "seed",
    "rows",
    "metric",
    "subset",
    "value",
    "identity",
    "run_id",
)
_METRICS: Final = ("mean_pearson", "pearson", "spearman", "concordance", "rmse", "mae")


def plan(request: RunRequest) -> ResolvedRun:
    """Check a request and decide for each of its runs if it is trained or reused.

    Args:
        request: The runs that are wanted.

    Returns:
        The plan: its `runs` in order, and `to_frame()` for a table of them. Nothing is trained or
        written, and `run` takes it.

    Raises:
        UsageError: The data, a setting, a name or the store can't be used.

    Example:
        >>> request = ablation.RunRequest(variants=["mse", "epm"], splits=["dev1"])
        >>> ablation.plan(request).to_frame()
    """
    return resolve_run(request)


def run(
    plan_or_request: ResolvedRun | RunRequest, console: "Console | None" = None
) -> "list[RunOutcome]":
    """Train the runs that can't be reused, and track them in MLflow.

    Args:
        plan_or_request: What `plan` returned, or a request, which is planned first.
        console: A `rich.console.Console` to show progress on; None shows nothing.

    Returns:
        The outcome of every run in the plan's order. A run that failed is among them, with
        `state` "failed" and a `reason`; the others go on.

    Raises:
        UsageError: The request or its encoder can't be used; nothing was written.

    Example:
        >>> outcomes = ablation.run(ablation.RunRequest(profile="smoke", variants=["mse"]))
        >>> [(str(outcome.key), outcome.state) for outcome in outcomes]
    """
    from rich.console import Console

    from ablation.runs.progress import Progress
    from ablation.runs.runner import run_plan

    if isinstance(plan_or_request, RunRequest):
        plan_or_request = plan(plan_or_request)
    unsealed = plan_or_request.request.unseal
    return run_plan(plan_or_request, Progress(console or Console(quiet=True), unsealed))


def load_results(
    experiment: str = "ablation", tracking_uri: str | None = None, *, test: bool = True
) -> pd.DataFrame:
    """Load the scores of every finished run of an experiment as a tidy table.

    Args:
        experiment: The MLflow experiment's name or id.
        tracking_uri: The MLflow store; None for $MLFLOW_TRACKING_URI, or mlflow.db in this folder.
        test: Load test scores as well, which counts as a reading of the test rows: the table's
            `attrs["test_readings"]` says how many there were.

    Returns:
        One row a run x subset x metric, with the columns variant, split, seed, rows ("dev" or
        "test"), subset ("all", "seen", "unseen", or a language such as "fr"), metric ("pearson",
        "spearman", "concordance", "rmse" and "mae" pooled over rows, "mean_pearson" over
        languages), value (errors on the labels' scale), identity (equal for runs that must give
        equal results) and run_id. A score that does not exist, such as that of constant
        predictions, has no row.

    Raises:
        UsageError: There is no such store or experiment, or it has no run of an ablation.

    Example:
        >>> results = ablation.load_results("ablation")
        >>> test = results.query("rows == 'test' and metric == 'pearson' and subset == 'unseen'")
        >>> test.groupby("variant")["value"].agg(["mean", "std"])
    """
    from reports.analysis.collect import collect, read_records
    from reports.seal import count_reading

    stored = collect(tracking_uri, experiment)
    records = read_records(stored, stored.finished)
    counted = count_reading(stored, "load_results") if test else ""
    rows = [
        (record.variant, record.split, record.seed, rows, *_score(name), value, record.identity, i)
        for i, record in records.items()
        for rows, scores in (("dev", record.dev), ("test", record.test or {} if test else {}))
        for name, value in scores.items()
    ]
    frame = pd.DataFrame(rows, columns=_COLUMNS)
    frame.attrs["test_readings"] = counted
    return frame


def report(
    request: "ReportRequest | None" = None,
    out: Path | None = None,
    *,
    log: bool = True,
    echo: Callable[[str], None] | None = None,
) -> "ReportOutput":
    """Write the report on an experiment: PDF, HTML, and each table and figure.

    Args:
        request: The experiment and the group of runs; None for the experiment "ablation".
        out: The folder to write to; None for report-EXPERIMENT in this folder.
        log: Log the report to MLflow as well.
        echo: Called with a line for each step.

    Returns:
        The folder, the report's content, and the suite that it was logged to.

    Raises:
        UsageError: There is nothing to report on, or `out` holds other files.
        RunError: An artifact of a run is lost.

    Example:
        >>> ablation.report(ablation.ReportRequest(experiment="ablation")).folder
    """
    from reports.build import ReportRequest, build, quiet

    return build(request or ReportRequest(), out, log=log, echo=echo or quiet)


def bundle(
    experiment: str = "ablation",
    out: Path | None = None,
    *,
    tracking_uri: str | None = None,
    texts: bool = False,
) -> "BundleSummary":
    """Write an experiment to one file, from which its report can be rebuilt and verified.

    Args:
        experiment: The MLflow experiment's name or id.
        out: The file to write; None for EXPERIMENT.ablation.zip in this folder.
        tracking_uri: The MLflow store; None for $MLFLOW_TRACKING_URI, or mlflow.db in this folder.
        texts: Keep the corpus's texts too. Labels, languages and predictions are always in it.

    Returns:
        The file, its number of runs, its size in bytes, the SHA-256 of its contents, and a line for
        each damaged run that was left out.

    Raises:
        UsageError: There is no such store or experiment, or `out` can't be written.

    Example:
        >>> file = ablation.bundle("ablation").file
        >>> ablation.report(ablation.ReportRequest(bundle=file)).folder
    """
    from ablation.core.slugs import slug
    from ablation.tracking.bundle import SUFFIX, write_bundle
    from reports.analysis.collect import open_source

    source = open_source(tracking_uri, experiment)
    file = out or Path(f"{slug(source.experiment) or 'experiment'}{SUFFIX}")
    return write_bundle(source, file.expanduser(), texts=texts)


def unbundle(
    file: Path,
    experiment: str = "",
    *,
    tracking_uri: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> "Unbundled":
    """Write a bundle's runs into a store, so that `run` reuses them and `report` reads them.

    Args:
        file: The bundle.
        experiment: The MLflow experiment to write to; the bundle's own by default.
        tracking_uri: The MLflow store; None for $MLFLOW_TRACKING_URI, or mlflow.db in this folder.
        progress: Called with the number of suites and runs written so far, and of all.

    Returns:
        The experiment, and how many runs were written and how many it had already.

    Raises:
        UsageError: The file is no bundle or damaged, or the store can't be used.
        RunError: The server is unreachable.

    Example:
        >>> ablation.unbundle(ablation.bundle("ablation").file, "copy").runs
    """
    from ablation.runs.unbundling import unbundle as write_runs
    from ablation.tracking.bundle import BundleSource
    from ablation.tracking.store import open_store

    source = BundleSource(file)  # refused before a new store is made
    return write_runs(source, open_store(tracking_uri), experiment, progress)


def power(request: "PowerRequest | None" = None) -> "PowerPlan":
    """Plan how many seeds, splits and rows decide the paper's claims about scores.

    Args:
        request: The pilot experiment or the stated variances, and the planned size; None for the
            experiment "ablation" and three seeds.

    Returns:
        The plan: `to_frame()` has a row for each effect of each claim.

    Raises:
        UsageError: A claim is unknown, or neither a pilot nor stated variances can be used.

    Example:
        >>> request = ablation.PowerRequest(seed_sd=2.0, row_error=0.6, rows=1900)
        >>> ablation.power(request).to_frame()[["claim", "on", "seeds", "rows_needed"]]
    """
    from reports.planner import PowerRequest, plan_power

    return plan_power(request or PowerRequest())


def compare(
    first: str, second: str, experiment: str = "ablation", tracking_uri: str | None = None
) -> "CompareResult":
    """Compare two experiments, groups of runs or variants on every column that both have.

    Args:
        first: An experiment, "EXPERIMENT#2" (its second group of runs), "EXPERIMENT:VARIANT", or
            a variant of `experiment`.
        second: The other side; differences are `second` minus `first`.
        experiment: Where variants without an experiment are looked up.
        tracking_uri: The MLflow store; None for $MLFLOW_TRACKING_URI, or mlflow.db in this folder.

    Returns:
        The comparisons: `to_frame()` has a row for each, paired on the rows and, where the sides
        share seeds, on seeds; `differ_in` names the settings in which the sides differ.

    Raises:
        UsageError: A side is unknown, or nothing of the two sides matches.

    Example:
        >>> result = ablation.compare("mse", "epm")
        >>> result.to_frame()[["on", "difference", "low", "high", "paired_on"]]
    """
    from reports.compare import CompareRequest
    from reports.compare import compare as compare_sides

    return compare_sides(CompareRequest(first, second, experiment, tracking_uri))


def _score(name: str) -> tuple[str, str]:
    """Split a score's name, such as "mean_pearson_unseen", into metric and subset."""
    metric = next((m for m in _METRICS if name == m or name.startswith(f"{m}_")), name)
    return metric, name.removeprefix(metric).removeprefix("_") or "all"
