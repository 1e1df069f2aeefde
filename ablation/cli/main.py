"""The console script. Arguments are parsed here and nowhere else; heavy modules load when needed."""

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import typer

from ablation.cli.bench import bench
from ablation.cli.console import (
    interruptible,
    main_with_exit_code,
    make_console,
    print_comparison,
    print_run_header,
    raise_for_failures,
    ui_command,
    unsynced_summary,
    writable_folder,
)
from ablation.cli.options import (
    Data,
    Debug,
    EncoderName,
    Experiment,
    Fresh,
    Measure,
    Profile,
    Seeds,
    Set,
    Splits,
    TrackingUri,
    Variants,
    true_or_false,
)
from ablation.core.errors import RunError
from ablation.tracking.uris import redact_uri

if TYPE_CHECKING:
    from rich.console import Console

    from ablation.runs.request import RunRequest

app = typer.Typer(
    help="Run, track and compare the ablation of a multilingual tweet intimacy system.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _options(context: typer.Context, debug: Debug = False) -> None:
    context.obj = debug


@app.command()
def run(
    data: Data = "demo",
    profile: Profile = "demo",
    variants: Variants = "table3",
    splits: Splits = "dev1,dev2",
    seeds: Seeds = "0",
    encoder: EncoderName = "",
    experiment: Experiment = "",
    set_: Set = None,
    fresh: Fresh = "false",
    tracking_uri: TrackingUri = None,
    export: Annotated[
        Path | None, typer.Option(help="Also write each run's best model to this folder.")
    ] = None,
    report: Annotated[
        str, typer.Option(help="false leaves the report at the end out.", metavar="true|false")
    ] = "true",
) -> None:
    """Train every variant on every split with every seed, track it all in MLflow, and report on it."""
    with_report = true_or_false("--report", report)
    export = writable_folder("--export", export) if export else None
    request = _request(
        data,
        profile,
        variants,
        splits,
        seeds,
        encoder,
        experiment,
        set_,
        fresh,
        tracking_uri,
        export,
    )
    from ablation.runs.progress import Progress
    from ablation.runs.request import resolve_run
    from ablation.runs.runner import run_plan

    console = make_console()
    planned = resolve_run(request)
    print_run_header(
        console,
        planned.corpus.name,
        planned.corpus.synthetic,
        planned.corpus.has_test_labels,
        len(planned.runs),
    )
    with interruptible("what had finished is kept and will be reused"):
        outcomes = run_plan(planned, Progress(console))
    print_comparison(console, [o.record for o in outcomes if o.record], planned.corpus.synthetic)
    console.print(
        f"Tracked in {redact_uri(planned.store.uri)}; browse with: {ui_command(planned.store.uri)}",
        soft_wrap=True,
        markup=False,
    )
    run_id = next((o.run_id for o in outcomes if o.record and o.run_id), None)
    if with_report and run_id and not unsynced_summary():  # a report is on what the store holds
        experiment = planned.store.client.get_run(run_id).info.experiment_id
        _build_report(console, experiment=experiment, tracking_uri=planned.store.uri)
    raise_for_failures(console, outcomes)


@app.command()
def plan(
    data: Data = "demo",
    profile: Profile = "demo",
    variants: Variants = "table3",
    splits: Splits = "dev1,dev2",
    seeds: Seeds = "0",
    encoder: EncoderName = "",
    experiment: Experiment = "",
    set_: Set = None,
    fresh: Fresh = "false",
    tracking_uri: TrackingUri = None,
    measure: Measure = None,
) -> None:
    """Show what `run` would do with the same arguments, what it would reuse, and what it would take."""
    request = _request(
        data, profile, variants, splits, seeds, encoder, experiment, set_, fresh, tracking_uri, None
    )
    from rich.table import Table
    from rich.text import Text

    from ablation.runs.estimate import estimate_all
    from ablation.runs.request import resolve_run

    console = make_console()
    planned = resolve_run(request)
    estimates = None if measure is False else estimate_all(planned, anew=bool(measure))
    seconds = estimates.seconds if estimates else {}
    table = Table(title=f"{len(planned.runs)} runs", title_justify="left")
    for heading in ("variant", "split", "seed", "state", "estimate", "why"):
        table.add_column(heading, justify="right" if heading in ("seed", "estimate") else "left")
    for run in planned.runs:
        why = f"reused: run {run.run_id}" if run.is_reused else run.reason
        time_text = f"{seconds[run.key] / 60:.1f} min" if run.key in seconds else ""
        table.add_row(
            Text(run.key.variant),
            Text(run.key.split),
            str(run.key.seed),
            run.state,
            time_text,
            Text(why),
        )
    console.print(table)
    to_do = sum(not run.is_reused for run in planned.runs)
    summary = f"{to_do} to do, {len(planned.runs) - to_do} reused"
    if estimates and estimates.costs:
        memory = estimates.memory_bytes / 2**30
        summary += f"; about {sum(seconds.values()) / 60:.0f} minutes and {memory:.1f} GiB, measured from a few steps on this machine"
        if estimates.from_earlier:
            summary += f" for an earlier plan ({estimates.oldest}); --measure does it again"
    console.print(summary, markup=False)


@app.command()
def data(
    path: Annotated[
        str, typer.Argument(help="'demo', or a folder with train.csv and test.csv.")
    ] = "demo",
) -> None:
    """Check a corpus; print its Table 2 and Figure 1, and where they differ from the paper's."""
    from ablation.data.corpus import load_corpus
    from ablation.data.description import print_description

    print_description(load_corpus(path), make_console())


@app.command()
def report(
    experiment: Annotated[
        str, typer.Option(help="Name or id. [default: ablation, or the one of mlflow run]")
    ] = "",
    out: Annotated[str, typer.Option(help="Folder to write to. [default: report-EXPERIMENT]")] = "",
    group: Annotated[
        int,
        typer.Option(
            help="Which group of runs, where they differ in data, encoder, code or settings."
        ),
    ] = 1,
    mix: Annotated[
        str, typer.Option(help="true averages all groups, under a watermark.", metavar="true|false")
    ] = "false",
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Compute a finished report's numbers again, and compare."),
    ] = False,
    log: Annotated[
        str, typer.Option(help="false keeps the report out of MLflow.", metavar="true|false")
    ] = "true",
    ui_url: Annotated[
        str,
        typer.Option(help="Address of the MLflow UI, for links. [default: the store's, if http]"),
    ] = "",
    tracking_uri: TrackingUri = None,
) -> None:
    """Write the report on an experiment: PDF, HTML, and each table and figure. Never trains."""
    name = experiment or os.environ.get("MLFLOW_EXPERIMENT_ID", "") or "ablation"
    wanted: dict[str, Any] = {"tracking_uri": tracking_uri, "ui_url": ui_url or None}
    if verify:
        from reports.build import ReportRequest, default_folder
        from reports.verify import verify as verify_report

        folder = (
            Path(out).expanduser()
            if out
            else default_folder(ReportRequest(experiment=name, **wanted))
        )
        count = verify_report(
            folder,
            ReportRequest(experiment=name, **wanted),
            lambda line: make_console().print(line, markup=False),
        )
        make_console().print(
            f"{count} numbers computed again, all as {folder} has them",
            markup=False,
            soft_wrap=True,
        )
        return
    _build_report(
        make_console(),
        experiment=name,
        out=writable_folder("--out", Path(out)) if out else None,
        log=true_or_false("--log", log),
        group=group,
        mixed=true_or_false("--mix", mix),
        **wanted,
    )


@app.command()
def sweep(
    space: Annotated[
        str, typer.Option(help="tau, freeze, lr, joint, variants, or a TOML file.")
    ] = "tau",
    study: Annotated[
        str,
        typer.Option(help="The study's name: an existing one goes on. [default: from the others]"),
    ] = "",
    trials: Annotated[int, typer.Option(help="How many in all, those done before counted.")] = 20,
    timeout: Annotated[
        float, typer.Option(help="Take no new trial after so many seconds; 0: no limit.")
    ] = 0.0,
    workers: Annotated[
        int, typer.Option(help="Processes on this machine, each with its share of the cores.")
    ] = 1,
    data: Data = "demo",
    profile: Profile = "demo",
    split: Annotated[
        str, typer.Option(help="Development rows to tune on; with commas, their mean.")
    ] = "dev1",
    sampler: Annotated[str, typer.Option(help="tpe, grid, or qmc (quasi-random).")] = "tpe",
    pruner: Annotated[str, typer.Option(help="hyperband, median, or none.")] = "hyperband",
    objective: Annotated[
        str, typer.Option(help="pearson, or pearson,seconds for a Pareto front.")
    ] = "pearson",
    seed: Annotated[int, typer.Option(help="Of the training, and of the sampler.")] = 0,
    experiment: Annotated[
        str, typer.Option(help="MLflow experiment. [default: studies, or the one of mlflow run]")
    ] = "",
    set_: Set = None,
    storage: Annotated[
        str,
        typer.Option(
            help="SQLAlchemy URL, or journal:FILE. [default: studies.db beside the store]"
        ),
    ] = "",
    out: Annotated[
        str, typer.Option(help="Folder for best.toml, trials.csv, plots. [default: study-NAME]")
    ] = "",
    then_seeds: Annotated[
        str,
        typer.Option(help="Space of variants: seeds of the run at each one's best; none: no run."),
    ] = "0,1,2",
    tracking_uri: TrackingUri = None,
) -> None:
    """Search settings with Optuna on development rows; resumes a study by its name.

    A space of variants (such as `variants`) gives each the same number of trials, and then runs every
    row of the table at its own best.
    """
    from ablation.config.schema import parse_overrides, parse_seeds
    from ablation.runs.request import mlflow_experiment
    from studies.equal_budget import conclude_equal_budget, sweep_variants, tunes_variants
    from studies.outcome import best_trials, conclude
    from studies.study import SweepRequest, folder_name, resolve_sweep
    from studies.sweep import sweep

    console = make_console()
    request = SweepRequest(
        space=space,
        study=study,
        trials=trials,
        timeout=timeout,
        workers=workers,
        data=data,
        profile=profile,
        splits=tuple(part.strip() for part in split.split(",") if part.strip()),
        # `resolve_sweep` refuses unknown names of these three.
        sampler=cast(Any, sampler),
        pruner=cast(Any, pruner),
        objective=cast(Any, objective),
        seed=seed,
        overrides=parse_overrides(set_ or ()),
        storage=storage,
        experiment=experiment or mlflow_experiment(tracking_uri),
        tracking_uri=tracking_uri,
    )

    def echo(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    folder = writable_folder("--out", Path(out or folder_name(request)))
    by_variant = tunes_variants(space)
    if by_variant and then_seeds != "none":
        parse_seeds(then_seeds)
    with interruptible("the same command goes on with the study"):
        tuned = sweep_variants(request, echo) if by_variant else None
        results = list(tuned.results.values()) if tuned else [sweep(resolve_sweep(request), echo)]
    if tuned:
        conclude_equal_budget(tuned, folder)
    else:
        conclude(results[0], folder)
    for result in results:
        for trial in best_trials(result.study):
            values = " and ".join(f"{value:.4f}" for value in trial.values)
            variant = result.resolved.space.variant
            echo(f"best of {variant}: trial {trial.number}: {values}: {trial.params}")
    if stopped := [result.stopped for result in results if result.stopped]:
        raise RunError(f"{stopped[0]}; fix the reason, and the same command goes on with the study")
    if not any(best_trials(result.study) for result in results):
        raise RunError("no trial was completed; the reasons stand above, and in MLflow")
    echo(f"Run it with: ablation run --profile {folder / 'best.toml'} --data {data}")
    echo(f"Browse it with: optuna-dashboard {redact_uri(results[0].resolved.storage_url)}")
    if tuned and then_seeds != "none":
        rows = ",".join([*tuned.results, "ensemble"])
        run(data, str(folder / "best.toml"), rows, seeds=then_seeds, tracking_uri=tracking_uri)


@app.command()
def curves(
    figures: Annotated[str, typer.Option(help="4 (MSE, EPM), 5 (both with CL), or both.")] = "4,5",
    signs: Annotated[
        str, typer.Option(help="Readings of Eq. 9: as_printed, attract, or both.")
    ] = "as_printed,attract",
    taus: Annotated[str, typer.Option(help="Temperatures of Eq. 9, with commas.")] = "0.02,0.2,2",
    seeds: Seeds = "0,1,2",
    data: Data = "demo",
    profile: Profile = "demo",
    split: Annotated[
        str, typer.Option(help="Whose training rows are trained on; one split.")
    ] = "dev1",
    experiment: Experiment = "",
    set_: Set = None,
    fresh: Fresh = "false",
    report: Annotated[
        str, typer.Option(help="false leaves the report at the end out.", metavar="true|false")
    ] = "true",
    tracking_uri: TrackingUri = None,
) -> None:
    """Train Figures 4 and 5 with their gradients measured, and say what the curves say of the paper's claims."""
    with_report = true_or_false("--report", report)
    from ablation.runs.progress import Progress
    from ablation.runs.request import mlflow_experiment
    from studies.curves import CurvesRequest, resolve_curves, run_curves

    console = make_console()
    laid = resolve_curves(
        CurvesRequest(
            figures=figures,
            signs=signs,
            taus=taus,
            seeds=seeds,
            data=data,
            profile=profile,
            split=split,
            overrides=tuple(set_ or ()),
            experiment=experiment or mlflow_experiment(tracking_uri),
            fresh=true_or_false("--fresh", fresh),
            tracking_uri=tracking_uri,
        )
    )
    print_run_header(console, laid.corpus.name, laid.corpus.synthetic, True, len(laid.curves))
    with interruptible("what had finished is kept and will be reused"):
        outcomes = run_curves(laid, Progress(console))
    console.print(
        f"Tracked in {redact_uri(laid.store.uri)}; browse with: {ui_command(laid.store.uri)}",
        soft_wrap=True,
        markup=False,
    )
    if with_report and any(o.record for o in outcomes) and not unsynced_summary():
        _build_report(
            console, experiment=laid.request.experiment or "ablation", tracking_uri=laid.store.uri
        )
    raise_for_failures(console, outcomes)


app.command()(bench)


@app.command()
def doctor(tracking_uri: TrackingUri = None) -> None:
    """Name and mend what processes that died left behind: runs, checkpoints, lost artifacts."""
    from ablation.runs.doctor import examine
    from ablation.tracking.store import open_store

    found = list(examine(open_store(tracking_uri)))
    for line in [*found, "nothing else was amiss" if found else "nothing was amiss"]:
        make_console().print(line, markup=False, highlight=False, soft_wrap=True)


@app.command()
def sync(
    spool: Annotated[
        Path | None,
        typer.Option(help="[default: spool in $ABLATION_STATE, or in your state folder]"),
    ] = None,
    tracking_uri: Annotated[
        str | None, typer.Option(help="The same server, with credentials. [default: as it was]")
    ] = None,
) -> None:
    """Send what was kept while a tracking server was away, in the order in which it was written."""
    from ablation.tracking.delivery import sync as send

    send(spool, tracking_uri, print)


def main() -> NoReturn:
    """Run the command line; errors become one line each on standard error and an exit code."""
    # Commands end soon and hold much that stays: looking for garbage as often as Python does is a fifteenth of a large report.
    gc.set_threshold(50_000, 20, 20)
    sys.exit(
        main_with_exit_code(
            lambda: app(prog_name="ablation", standalone_mode=False), debug="--debug" in sys.argv
        )
    )


def _request(
    data: str,
    profile: str,
    variants: str,
    splits: str,
    seeds: str,
    encoder: str,
    experiment: str,
    set_: list[str] | None,
    fresh: str,
    tracking_uri: str | None,
    export: Path | None,
) -> "RunRequest":
    from ablation.runs.request import RunRequest

    return RunRequest(
        data=data,
        profile=profile,
        variants=variants,
        splits=splits,
        seeds=seeds,
        encoder=encoder,
        experiment=experiment,
        overrides=tuple(set_ or ()),
        fresh=true_or_false("--fresh", fresh),
        tracking_uri=tracking_uri,
        export=export,
    )


def _build_report(
    console: "Console", *, out: Path | None = None, log: bool = True, **choice: Any
) -> None:
    """Build a report and say where it is."""
    from reports.build import ReportRequest, build

    with console.status("report") as status:
        built = build(
            ReportRequest(**choice),
            out,
            log=log,
            tell=lambda line: status.update(f"report: {line}"),
        )
    for warning in built.report.warnings:
        console.print(warning, markup=False, highlight=False, style="yellow")
    where = f", and among the artifacts of suite {built.suite}" if built.suite else ""
    console.print(
        f"Report: {built.folder / 'report.html'}, report.pdf beside it{where}",
        markup=False,
        soft_wrap=True,
    )
