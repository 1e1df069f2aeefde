"""Define the commands `report`, `bundle` and `unbundle`."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablation.cli.console import make_console, print_store, writable_folder
from ablation.cli.options import Experiment, TrackingUri
from ablation.cli.parsing import split_list
from ablation.core.counting import counted

if TYPE_CHECKING:
    from rich.console import Console

    from ablation import ReportRequest


def report(
    bundle: Annotated[
        str,
        typer.Argument(
            help="Bundle to read instead of a store (see `ablation bundle`).", show_default=False
        ),
    ] = "",
    experiment: Annotated[
        str,
        typer.Option(help="Name or id.", show_default="ablation, or the one that mlflow run chose"),
    ] = "",
    out: Annotated[
        str, typer.Option(help="Folder to write to.", show_default="report-EXPERIMENT")
    ] = "",
    group: Annotated[
        int,
        typer.Option(
            help="Group of runs to report on, if they differ in data, encoder, code or settings."
        ),
    ] = 1,
    pool: Annotated[
        bool, typer.Option("--pool", help="Average all groups of runs, under a watermark.")
    ] = False,
    sections: Annotated[
        str,
        typer.Option(help="Sections to show, such as results,errors.", show_default="all"),
    ] = "",
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Compute a finished report's numbers again, and compare."),
    ] = False,
    log: Annotated[
        bool, typer.Option("--log/--no-log", help="Log the report to MLflow as well.")
    ] = True,
    texts: Annotated[
        bool,
        typer.Option(
            "--texts/--no-texts", help="Show texts of the corpus; leave them out to publish."
        ),
    ] = True,
    splits: Annotated[
        str,
        typer.Option(
            help="Several splits of a kind, such as Dev2's pairs, in intervals and verdicts: random"
            " (about other splits, too), fixed, or auto (random from three on)."
        ),
    ] = "auto",
    languages: Annotated[
        str,
        typer.Option(
            help="Languages in intervals and verdicts: fixed, or random (about other languages,"
            " too; each counts alike)."
        ),
    ] = "fixed",
    ui_url: Annotated[
        str,
        typer.Option(help="Address of the MLflow UI, for links.", show_default="an http store's"),
    ] = "",
    tracking_uri: TrackingUri = None,
) -> None:
    """Write the report on an experiment or a bundle: PDF, HTML, tables, figures. Never trains."""
    from ablation import ReportRequest

    request = ReportRequest(
        experiment=experiment or experiment_of_environment(),
        tracking_uri=tracking_uri,
        ui_url=ui_url or None,
        group=group,
        mixed=pool,
        sections=split_list(sections),
        texts=texts,
        bundle=Path(bundle).expanduser() if bundle else None,
        splits=splits,
        languages=languages,
    )
    console = make_console()
    if verify:
        _verify(console, request, out)
    else:
        folder = writable_folder("--out", Path(out)) if out else None
        build_report(console, request, folder, log=log)


def bundle(
    experiment: Experiment = "",
    out: Annotated[
        str, typer.Option(help="File to write.", show_default="EXPERIMENT.ablation.zip")
    ] = "",
    texts: Annotated[
        bool,
        typer.Option("--texts", help="Keep the corpus's texts, which may not be yours to share."),
    ] = False,
    tracking_uri: TrackingUri = None,
) -> None:
    """Pack an experiment into one file, from which its report can be rebuilt and verified."""
    import ablation

    console = make_console()
    with console.status("bundle"):
        summary = ablation.bundle(
            experiment or experiment_of_environment(),
            Path(out) if out else None,
            tracking_uri=tracking_uri,
            texts=texts,
        )
    content = "with texts" if texts else "without texts"
    console.print(
        "".join(f"{line}. It is not in the bundle.\n" for line in summary.left_out)
        + f"Bundle: {summary.file} ({counted(summary.runs, 'run')}, {content},"
        f" {summary.size / 1e6:.2f} MB, SHA-256 of its contents {summary.digest})\n"
        f"Rebuild its report with: ablation report {shlex.quote(str(summary.file))}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def unbundle(
    bundle: Annotated[str, typer.Argument(help="File that `ablation bundle` wrote.")],
    experiment: Annotated[
        str, typer.Option(help="Experiment to write to.", show_default="the bundle's own")
    ] = "",
    tracking_uri: TrackingUri = None,
) -> None:
    """Write a bundle's runs into a tracking store, so that `run` and `report` go on from them."""
    import ablation
    from ablation.tracking.store import find_experiment, open_store

    console = make_console()
    with console.status("unbundle") as status:
        done = ablation.unbundle(
            Path(bundle).expanduser(),
            experiment,
            tracking_uri=tracking_uri,
            progress=lambda done, total: status.update(f"unbundle: {done} of {total}"),
        )
    present = f"; {done.present} had been there" if done.present else ""
    console.print(
        f"Experiment {done.experiment!r}: {counted(done.runs, 'run')} written{present}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    store = open_store(tracking_uri)
    print_store(console, store, find_experiment(store, done.experiment))


def experiment_of_environment() -> str:
    """Return the experiment that `mlflow run` chose, else the default one."""
    return os.environ.get("MLFLOW_EXPERIMENT_ID", "") or "ablation"


def build_report(
    console: "Console", request: "ReportRequest", out: Path | None = None, *, log: bool = True
) -> None:
    """Build a report, and print where it is."""
    import ablation

    with console.status("report") as status:
        output = ablation.report(
            request, out, log=log, echo=lambda line: status.update(f"report: {line}")
        )
    for warning in output.report.warnings:
        console.print(warning, markup=False, highlight=False, style="yellow")
    if output.test_readings:
        console.print(output.test_readings, markup=False, highlight=False, soft_wrap=True)
    logged = f", and among the artifacts of suite {output.suite}" if output.suite else ""
    console.print(
        f"Report: {output.folder / 'report.html'}, report.pdf beside it{logged}",
        markup=False,
        soft_wrap=True,
    )


def _verify(console: "Console", request: "ReportRequest", out: str) -> None:
    from reports.build import default_folder
    from reports.verify import verify

    folder = Path(out).expanduser() if out else default_folder(request)
    count = verify(folder, request, lambda line: console.print(line, markup=False))
    console.print(
        f"{count} numbers computed again, all as {folder} has them", markup=False, soft_wrap=True
    )
