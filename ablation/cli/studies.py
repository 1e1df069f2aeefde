"""Define the commands `sweep` and `curves`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from ablation.cli import completion
from ablation.cli.checks import check_encoder
from ablation.cli.console import (
    interruptible,
    make_console,
    print_placement,
    print_run_header,
    print_store,
    raise_for_failures,
    require_report_folder,
    unsynced_summary,
    writable_folder,
)
from ablation.cli.notify import Notify, notifying
from ablation.cli.options import (
    Checkpoints,
    CpusPerRun,
    Data,
    Experiment,
    Fresh,
    GpusPerRun,
    On,
    Profile,
    Seeds,
    Set,
    Target,
    TrackingUri,
    WithReport,
)
from ablation.cli.parsing import parse_taus, split_list
from ablation.cli.report import build_report
from ablation.cli.runs import run_request
from ablation.core.errors import RunError
from ablation.tracking.uris import redact_uri

if TYPE_CHECKING:
    from studies.study import SweepRequest
    from studies.sweep import SweepResult
    from studies.trial import Echo


def sweep(
    space: Annotated[
        str,
        typer.Option(
            help="tau, freeze, lr, joint, variants, or a TOML file.",
            autocompletion=completion.SPACE,
        ),
    ] = "tau",
    variants: Annotated[
        str,
        typer.Option(
            help="TOML file of variants that the space's are rows of.",
            show_default="the paper's table",
        ),
    ] = "",
    study: Annotated[
        str,
        typer.Option(
            help="The study's name; an existing study is continued.",
            show_default="from space, data and profile",
        ),
    ] = "",
    trials: Annotated[
        int, typer.Option(help="Number of trials in all, those of earlier commands included.")
    ] = 20,
    timeout: Annotated[
        float, typer.Option(help="Start no new trial after this many seconds; 0: no limit.")
    ] = 0.0,
    workers: Annotated[
        int,
        typer.Option(help="Processes that take trials side by side, here or where --on says."),
    ] = 1,
    data: Data = "demo",
    profile: Profile = "demo",
    split: Annotated[
        str,
        typer.Option(
            help="Development rows to tune on; with commas, their mean.",
            autocompletion=completion.SPLITS,
        ),
    ] = "dev1",
    sampler: Annotated[str, typer.Option(help="tpe, grid, or qmc (quasi-random).")] = "tpe",
    pruner: Annotated[str, typer.Option(help="hyperband, median, or none.")] = "hyperband",
    objective: Annotated[
        str, typer.Option(help="pearson, or pearson,seconds for a Pareto front.")
    ] = "pearson",
    seed: Annotated[int, typer.Option(help="Seed of the training, and of the sampler.")] = 0,
    experiment: Annotated[
        str,
        typer.Option(
            help="MLflow experiment.", show_default="studies, or the one that mlflow run chose"
        ),
    ] = "",
    set_: Set = None,
    storage: Annotated[
        str,
        typer.Option(
            help="SQLAlchemy URL, or journal:FILE.", show_default="studies.db beside the store"
        ),
    ] = "",
    out: Annotated[
        str,
        typer.Option(help="Folder for best.toml, trials.csv, plots.", show_default="study-NAME"),
    ] = "",
    then_seeds: Annotated[
        str,
        typer.Option(
            help="For a space of variants: seeds of the run of each at its best; none: no run."
        ),
    ] = "0,1,2",
    notify: Notify = "",
    tracking_uri: TrackingUri = None,
    target: Target = "",
    on: On = "local",
    cpus_per_run: CpusPerRun = None,
    gpus_per_run: GpusPerRun = None,
    checkpoints: Checkpoints = "",
) -> None:
    """Search settings with Optuna on development rows; continue a study by its name.

    A space of variants (such as `variants`) gives each the same number of trials, and then runs
    every row of the table at its own best.
    """
    from ablation.config.overrides import parse_overrides, parse_seeds

    overrides = parse_overrides(set_ or ())
    check_encoder(profile, overrides)
    from ablation.runs.request import mlflow_experiment
    from studies.equal_budget import tunes_variants
    from studies.study import SweepRequest, folder_name

    console = make_console()
    request = SweepRequest(
        space=space,
        variants=variants,
        study=study,
        trials=trials,
        timeout=timeout,
        workers=workers,
        data=data,
        profile=profile,
        splits=split_list(split),
        # `resolve_sweep` refuses unknown names of these three.
        sampler=cast(Any, sampler),
        pruner=cast(Any, pruner),
        objective=cast(Any, objective),
        seed=seed,
        overrides=overrides,
        storage=storage,
        experiment=experiment or mlflow_experiment(tracking_uri),
        tracking_uri=tracking_uri,
        target=target,
        on=on,
        cpus_per_run=cpus_per_run,
        gpus_per_run=gpus_per_run,
        checkpoints=checkpoints,
    )
    folder = writable_folder("--out", Path(out or folder_name(request)))
    by_variant = tunes_variants(space, variants)
    seeds = parse_seeds(then_seeds) if by_variant and then_seeds != "none" else ()

    def echo(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    with notifying(notify, "ablation sweep"):
        with interruptible("the same command continues the study"):
            results = _sweep_and_conclude(request, folder, echo, by_variant=by_variant)
        _print_best(results, echo)
        rows = f" --target {target}" if target else ""
        rows += f" --variants {variants}" if variants else ""
        echo(f"Run it with: ablation run --profile {folder / 'best.toml'} --data {data}{rows}")
        echo(f"Browse it with: optuna-dashboard {redact_uri(results[0].resolved.storage_url)}")
        if seeds:
            from ablation import RunRequest

            best = RunRequest(
                data=data,
                profile=folder / "best.toml",
                variants=_rows_to_run(results, variants),
                seeds=seeds,
                tracking_uri=tracking_uri,
                target=target,
                on=on,
                cpus_per_run=cpus_per_run,
                gpus_per_run=gpus_per_run,
                checkpoints=checkpoints,
            )
            run_request(console, best, with_report=True)


def curves(
    figures: Annotated[str, typer.Option(help="4 (MSE, EPM), 5 (both with CL), or both.")] = "4,5",
    signs: Annotated[
        str, typer.Option(help="Readings of Eq. 9: as_printed, attract, or both.")
    ] = "as_printed,attract",
    taus: Annotated[str, typer.Option(help="Temperatures of Eq. 9, with commas.")] = "0.02,0.2,2",
    variants: Annotated[
        str,
        typer.Option(
            help="Rows to study instead of the figures, with commas, or a TOML file of variants.",
            show_default="the figures'",
            autocompletion=completion.VARIANTS,
        ),
    ] = "",
    seeds: Seeds = "0,1,2",
    data: Data = "demo",
    profile: Profile = "demo",
    split: Annotated[
        str,
        typer.Option(help="Split to train on; one.", autocompletion=completion.SPLITS),
    ] = "dev1",
    experiment: Experiment = "",
    set_: Set = None,
    fresh: Fresh = False,
    report: WithReport = True,
    notify: Notify = "",
    tracking_uri: TrackingUri = None,
    target: Target = "",
    on: On = "local",
    cpus_per_run: CpusPerRun = None,
    gpus_per_run: GpusPerRun = None,
    checkpoints: Checkpoints = "",
) -> None:
    """Train Figures 4 and 5, measure gradients, and test the paper's claims on the curves."""
    if report:
        require_report_folder()
    from ablation.config.overrides import parse_overrides, parse_seeds

    overrides = parse_overrides(set_ or ())
    check_encoder(profile, overrides)
    from ablation import ReportRequest
    from ablation.runs.progress import Progress
    from ablation.runs.request import mlflow_experiment
    from studies.curves import CurvesRequest, resolve_curves, run_curves

    console = make_console()
    laid = resolve_curves(
        CurvesRequest(
            figures=split_list(figures),
            signs=split_list(signs),
            variants=split_list(variants),
            taus=parse_taus(taus),
            seeds=parse_seeds(seeds),
            data=data,
            profile=profile,
            split=split,
            overrides=overrides,
            experiment=experiment or mlflow_experiment(tracking_uri),
            fresh=fresh,
            tracking_uri=tracking_uri,
            target=target,
            on=on,
            cpus_per_run=cpus_per_run,
            gpus_per_run=gpus_per_run,
            checkpoints=checkpoints,
        )
    )
    with notifying(notify, "ablation curves"):
        print_run_header(console, laid.corpus, len(laid.curves))
        print_placement(console, on, laid.resources)
        with interruptible("finished runs are kept and will be reused"):
            outcomes = run_curves(laid, Progress(console))
        print_store(console, laid.store)
        if report and any(outcome.record for outcome in outcomes) and not unsynced_summary():
            build_report(
                console,
                ReportRequest(
                    experiment=laid.request.experiment or "ablation", tracking_uri=laid.store.uri
                ),
            )
        raise_for_failures(console, outcomes)


def _sweep_and_conclude(
    request: "SweepRequest", folder: Path, echo: "Echo", *, by_variant: bool
) -> "list[SweepResult]":
    """Carry out a study, or one for each variant of the space, and write what came out."""
    from studies.equal_budget import conclude_equal_budget, sweep_variants
    from studies.outcome import conclude
    from studies.study import resolve_sweep
    from studies.sweep import sweep

    if by_variant:
        tuned = sweep_variants(request, echo)
        conclude_equal_budget(tuned, folder)
        return list(tuned.results.values())
    result = sweep(resolve_sweep(request), echo)
    conclude(result, folder)
    return [result]


def _rows_to_run(results: "list[SweepResult]", variants: str) -> tuple[str, ...]:
    """Return the tuned rows with the table's ensemble, if it has one, and the file they are from.

    The file comes first, if there is one.
    """
    table = results[0].resolved.table
    tuned = [result.resolved.space.variant for result in results]
    ensembles = [name for name, row in table.variants.items() if row.combines_runs]
    return (*([variants] if variants else []), *tuned, *ensembles)


def _print_best(results: "list[SweepResult]", echo: "Echo") -> None:
    """Print the best trials. Raises RunError if a study was stopped or has no completed trial."""
    from studies.outcome import best_trials

    best = [(result, trial) for result in results for trial in best_trials(result.study)]
    for result, trial in best:
        values = " and ".join(f"{value:.4f}" for value in trial.values)
        variant = result.resolved.space.variant
        echo(f"best of {variant}: trial {trial.number}: {values}: {trial.params}")
    if stopped := [result.stopped for result in results if result.stopped]:
        raise RunError(f"{stopped[0]}; fix the reason, and the same command continues the study")
    if not best:
        raise RunError("no trial was completed; see the reasons above, and in MLflow")
