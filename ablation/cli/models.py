"""Define the commands that use trained models: `predict`, `register` and `submit`."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablation.cli.checks import check_encoder, check_model_name
from ablation.cli.console import (
    interruptible,
    make_console,
    print_run_header,
    print_store,
    unsynced_summary,
    writable_folder,
)
from ablation.cli.options import (
    Data,
    EncoderName,
    Experiment,
    Fresh,
    Profile,
    Set,
    TrackingUri,
)
from ablation.cli.parsing import split_list
from ablation.core.counting import counted

if TYPE_CHECKING:
    from rich.console import Console

    from ablation.runs.registering import Champion
    from ablation.runs.submission import Submission


def predict(
    model: Annotated[
        str,
        typer.Argument(help="Folder of a model or ensemble, runs:/ID or models:/NAME@champion."),
    ],
    file: Annotated[
        str, typer.Argument(help="CSV, TSV, JSON lines, JSON, Parquet or Excel; - for stdin.")
    ],
    out: Annotated[
        str, typer.Option(help="File to write, its ending says how.", show_default="CSV to stdout")
    ] = "",
    text: Annotated[str, typer.Option(help="Column of the texts.", show_default="text")] = "",
    second_text: Annotated[
        str, typer.Option(help="Column of a pair's second text.", show_default="single texts")
    ] = "",
    precision: Annotated[
        str,
        typer.Option(
            help="float32, bfloat16 (moves scores by up to 0.007), or auto: bfloat16 where this"
            " machine is faster with it."
        ),
    ] = "float32",
    tracking_uri: TrackingUri = None,
) -> None:
    """Score the texts of a file with a trained model: the same rows with a `prediction`."""
    from ablation.models.rows_file import (
        check_writable,
        delimited,
        read_stream,
        read_texts,
        scored_rows,
        write_rows,
    )

    target = Path(out) if out else None
    if target is not None:
        check_writable(target)
        writable_folder("--out", target.parent)
    rows = (
        read_stream(sys.stdin.buffer.read(), text, second_text)
        if file == "-"
        else read_texts(Path(file), text, second_text)
    )
    from ablation.runs.model_source import open_model
    from ablation.runs.precision import parse_precision

    chosen = parse_precision(precision)
    with (
        interruptible("nothing was written"),
        open_model(model, tracking_uri) as predictor,
        _bar(len(rows.texts) * len(predictor.members)) as on_scored,
    ):
        predictor = replace(predictor, precision=chosen)
        prediction = predictor.score(rows.texts, rows.second_texts, on_scored)
    columns, scored = scored_rows(rows, prediction)
    if target is None:
        sys.stdout.write(delimited(columns, scored))
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_rows(target, columns, scored)
        print(f"{target}: {counted(len(scored), 'row')}", file=sys.stderr)


def register(
    run: Annotated[
        str,
        typer.Argument(
            help="Id of a run, or runs:/ID.", show_default="the best by development rows"
        ),
    ] = "",
    name: Annotated[str, typer.Option(help="Name of the registered model.")] = "intimacy",
    split: Annotated[str, typer.Option(help="The split whose rows choose the best run.")] = "dev1",
    experiment: Experiment = "",
    tracking_uri: TrackingUri = None,
) -> None:
    """Log the best model with its weights, and register it in MLflow with the alias champion."""
    check_model_name("--name", name)
    from ablation.core.errors import UsageError
    from ablation.runs.model_source import run_id_of
    from ablation.runs.registering import register_best, register_run
    from ablation.runs.request import DEFAULT_EXPERIMENT
    from ablation.tracking.store import find_experiment, open_store

    store, wanted = open_store(tracking_uri), experiment or DEFAULT_EXPERIMENT
    if run:
        champion = register_run(
            store, run_id_of(run) or run, name, "Chosen by name, with `ablation register RUN`."
        )
    elif (found := find_experiment(store, wanted)) is None:
        raise UsageError(f"experiment {wanted!r}: there is none in this store; see --experiment")
    else:
        champion = register_best(store, found, split, name)
    print_champion(make_console(), champion)


def print_champion(console: "Console", champion: "Champion") -> None:
    """Print a registered version, the reason for it, and how it is used."""
    version = champion.version
    for line in (
        f"{version.name} version {version.version}, run {champion.run_id}: {champion.reason}",
        f"score a file with it: ablation predict {version.uri} FILE",
        f"serve it: mlflow models serve -m {version.uri} --env-manager local",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _bar(total: int) -> "Iterator[Callable[[int], None]]":
    """Show a progress bar on standard error if that is a terminal, and yield what advances it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("scored", total=total)
        yield lambda count: bar.advance(task, count)


def submit(
    data: Data = "demo",
    profile: Profile = "demo",
    variants: Annotated[
        str,
        typer.Option(
            help="Rows to refit or to choose from, with commas.",
            show_default="mse,epm; with --from-runs: all",
        ),
    ] = "",
    split: Annotated[
        str,
        typer.Option(
            help="The split whose rows choose the epochs; of --from-runs, one or several, or"
            " their kind, such as leave-one-out.",
            show_default="dev1; with --from-runs: all",
        ),
    ] = "",
    seeds: Annotated[
        str,
        typer.Option(help="Whole numbers: 0,1,2 or 0-4.", show_default="0; with --from-runs: all"),
    ] = "",
    from_runs: Annotated[
        bool,
        typer.Option(
            "--from-runs",
            help="Train nothing: average the experiment's finished runs that forward selection"
            " chooses on development rows; --experiment may name several.",
        ),
    ] = False,
    encoder: EncoderName = "",
    experiment: Experiment = "",
    set_: Set = None,
    fresh: Fresh = False,
    tracking_uri: TrackingUri = None,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("submission.csv"),
) -> None:
    """Refit rows on all labelled rows, average them, and write the task's submission file."""
    if from_runs:
        _submit_finished(
            experiment, tracking_uri, (split_list(split), split_list(variants), seeds), out
        )
        return
    from ablation.config.overrides import parse_overrides, parse_seeds

    overrides = parse_overrides(set_ or ())
    check_encoder(profile, overrides, encoder)
    from ablation import RunRequest
    from ablation.runs.progress import Progress
    from ablation.runs.submission import make_submission, resolve_submission

    planned = resolve_submission(
        RunRequest(
            data=data,
            profile=profile,
            variants=split_list(variants or "mse,epm"),
            splits=(split or "dev1",),
            seeds=parse_seeds(seeds or "0"),
            encoder=encoder or None,
            overrides=overrides,
            experiment=experiment or None,
            tracking_uri=tracking_uri,
            fresh=fresh,
        )
    )
    console = make_console()
    print_run_header(console, planned.corpus, len(planned.runs))
    with interruptible("finished runs and refits are kept and will be reused"):
        submission = make_submission(planned, out, Progress(console), Progress(console))
    _print_submission(console, submission)
    tracked_in = None
    if not unsynced_summary():
        tracked_in = planned.store.client.get_run(submission.run_id).info.experiment_id
    print_store(console, planned.store, tracked_in)


def _submit_finished(
    experiment: str,
    tracking_uri: str | None,
    which: tuple[Sequence[str], Sequence[str], str],
    out: Path,
) -> None:
    """Write a submission from finished runs of these splits, rows and seeds; say which."""
    from ablation.config.overrides import parse_seeds
    from ablation.core.errors import UsageError
    from ablation.runs.ensemble_submission import submit_finished
    from ablation.runs.request import DEFAULT_EXPERIMENT
    from ablation.tracking.store import find_experiment, open_store

    store, experiments = open_store(tracking_uri), {}
    for wanted in split_list(experiment or DEFAULT_EXPERIMENT):
        found = find_experiment(store, wanted)
        if found is None:
            raise UsageError(
                f"experiment {wanted!r}: there is none in this store; see --experiment"
            )
        experiments[wanted] = found
    splits, variants, seeds = which
    chosen_seeds = parse_seeds(seeds) if seeds else ()
    submission = submit_finished(store, experiments, out, splits, variants, chosen_seeds)
    console = make_console()
    lines = [f"{out}: {counted(submission.rows, 'row')}, from finished runs; nothing was trained"]
    for chosen in submission.selections:
        lines += [
            f"{chosen.split}: {len(chosen.members)} of {counted(chosen.candidates, 'run')}"
            f" selected; development foretells r = {chosen.nested:.3f} on its"
            f" {counted(chosen.rows, 'row')} by nested halves ({chosen.apparent:.3f} on the rows"
            f" that selected; {chosen.single:.3f} alone, on average)",
            *(f"  {times} x {name}" for name, times in chosen.members.items()),
        ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    print_store(console, store, next(iter(experiments.values())))


def _print_submission(console: "Console", submission: "Submission") -> None:
    score, count = submission.development, len(submission.keys)
    lines = [
        f"{submission.file}: {counted(submission.rows, 'row')}, the average of"
        f" {counted(count, 'refit')} on all rows",
        f"development foretells r = {score.average:.3f} on its"
        f" {counted(score.rows, 'row')}: the average of {counted(count, 'run')} before the"
        f" refit (alone {min(score.single):.3f} to {max(score.single):.3f})",
        f"its optimism: selecting the epoch on these rows gained {score.optimism:.3f} a run over"
        " the last epoch; choosing among rows by these figures would add to that",
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
