"""Define the commands `run`, `plan` and `data`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, cast

import typer

from ablation.cli.checks import check_encoder, check_model_name
from ablation.cli.console import (
    interruptible,
    make_console,
    print_comparison,
    print_placement,
    print_run_header,
    print_store,
    print_warnings,
    raise_for_failures,
    require_report_folder,
    unsynced_summary,
    writable_folder,
)
from ablation.cli.models import print_champion
from ablation.cli.notify import Notify, notifying
from ablation.cli.options import (
    Checkpoints,
    CpusPerRun,
    Data,
    EncoderName,
    Experiment,
    Fresh,
    GpusPerRun,
    Keep,
    On,
    Profile,
    Seeds,
    SelectBy,
    Set,
    Splits,
    Target,
    Targets,
    TrackingUri,
    Variants,
    WithReport,
)
from ablation.cli.parsing import parse_range, split_list
from ablation.cli.report import build_report
from ablation.core.counting import counted, number_ranges
from ablation.core.errors import RunError, UsageError
from ablation.core.slugs import slug

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console
    from rich.table import Table

    from ablation import ResolvedRun, RunRequest
    from ablation.data.draft import Choices
    from ablation.runs.estimate import Estimates
    from ablation.runs.plan import PlannedRun
    from ablation.runs.proposal import Share
    from ablation.runs.request import Keep as KeepRule
    from ablation.runs.scaling import SideBySide

#: A plan of more runs has a line for all seeds of a row and split.
_MOST_LINES: Final = 200

Measure = Annotated[
    bool | None,
    typer.Option(
        "--measure/--no-measure",
        help="Measure a few steps again, or leave time and memory out.",
        show_default="measure only what no earlier plan has",
    ),
]


def run(
    data: Data = "demo",
    profile: Profile = "demo",
    variants: Variants = "table3",
    splits: Splits = "auto",
    seeds: Seeds = "0",
    encoder: EncoderName = "",
    experiment: Experiment = "",
    set_: Set = None,
    select_by: SelectBy = "",
    fresh: Fresh = False,
    tracking_uri: TrackingUri = None,
    target: Targets = "",
    export: Annotated[
        Path | None, typer.Option(help="Also write each run's best model to this folder.")
    ] = None,
    keep: Keep = "rows",
    register: Annotated[
        str,
        typer.Option(
            help="Register the best run by development rows in MLflow under this name, as champion."
        ),
    ] = "",
    energy: Annotated[
        str,
        typer.Option(
            help="Measure electricity, with the CO2 of this country's: an ISO code such as FRA."
        ),
    ] = "",
    notify: Notify = "",
    report: WithReport = True,
    unseal: Annotated[
        bool,
        typer.Option(
            "--unseal", help="Show test scores as runs end; counted as a reading of the test rows."
        ),
    ] = False,
    on: On = "local",
    cpus_per_run: CpusPerRun = None,
    gpus_per_run: GpusPerRun = None,
    checkpoints: Checkpoints = "",
) -> None:
    """Train every variant on every split with every seed, track all in MLflow, and report."""
    export = writable_folder("--export", export) if export else None
    if register:
        check_model_name("--register", register)
    if register and keep == "none":
        raise UsageError("--register needs weights: give --keep best, rows or all")
    if report:
        require_report_folder()
    from ablation.config.overrides import parse_overrides, parse_seeds

    overrides = parse_overrides(set_ or ()) | _selection(select_by)
    check_encoder(profile, overrides, encoder)
    from ablation import RunRequest

    request = RunRequest(
        data=data,
        profile=profile,
        variants=split_list(variants),
        splits=split_list(splits),
        seeds=parse_seeds(seeds),
        encoder=encoder or None,
        overrides=overrides,
        experiment=experiment or None,
        tracking_uri=tracking_uri,
        fresh=fresh,
        export=export,
        keep=cast("KeepRule", keep),  # checked by the request
        unseal=unseal,
        energy=energy.upper(),
        on=on,
        cpus_per_run=cpus_per_run,
        gpus_per_run=gpus_per_run,
        checkpoints=checkpoints,
    )
    with notifying(notify, "ablation run"):
        _run_targets(make_console(), request, target, with_report=report, register=register)


def _run_targets(
    console: "Console", request: "RunRequest", target: str, *, with_report: bool, register: str
) -> None:
    """Run a request on each target, and report on all of them after the last.

    Models of several targets are exported and registered under a name for each. Raises RunError if
    a run failed, once every target was tried.
    """
    from ablation.data.corpus import list_targets

    targets = list_targets(str(request.data), target)
    problems: list[str] = []
    for name in targets:
        export, model = request.export, register
        if len(targets) > 1:
            export = export and export / slug(name)
            model = register and f"{register}-{slug(name)}"
        try:
            run_request(
                console,
                replace(request, target=name, export=export),
                with_report=with_report and name == targets[-1],
                register=model,
            )
        except RunError as error:
            problems.append(f"{name}: {error}" if len(targets) > 1 else str(error))
    if problems:
        raise RunError("; ".join(problems))


def _selection(select_by: str) -> dict[str, str]:
    """Return the override that `--select-by` stands for, if it is given."""
    return {"optimisation.select_by": select_by} if select_by else {}


def run_request(
    console: "Console", request: "RunRequest", *, with_report: bool, register: str = ""
) -> None:
    """Run a request, print its comparison table and report, and register its best model.

    Args:
        console: The console to print on.
        request: The runs that are wanted.
        with_report: End with a report.
        register: The name to register the best run under, if any.

    Raises:
        RunError: A run failed.
        UsageError: The request or the name can't be used.
    """
    import ablation
    from ablation.tracking.seal import readings

    planned = ablation.plan(request)
    print_run_header(console, planned.corpus, len(planned.runs), request.splits)
    if planned.scaling:
        console.print(_scaling_line(planned.scaling), markup=False, highlight=False)
    print_placement(console, planned.request.on, planned.resources)
    print_warnings(console, planned.warnings)
    with interruptible("finished runs are kept and will be reused"):
        outcomes = ablation.run(planned, console)
    records = [outcome.record for outcome in outcomes if outcome.record]
    print_comparison(console, records, planned.corpus, planned.table, unsealed=request.unseal)
    run_id = next((o.run_id for o in outcomes if o.record and o.run_id), None)
    experiment = None
    if run_id and not unsynced_summary():  # what follows reads what the store holds
        experiment = planned.store.client.get_run(run_id).info.experiment_id
    print_store(console, planned.store, experiment)
    if experiment is not None and request.unseal and not with_report:
        console.print(str(readings(planned.store, experiment)), markup=False, highlight=False)
    if with_report and experiment is not None:
        build_report(
            console,
            ablation.ReportRequest(experiment=experiment, tracking_uri=planned.store.uri),
        )
    raise_for_failures(console, outcomes)
    if register:
        _register(console, planned, experiment, register)


def _register(
    console: "Console", planned: "ResolvedRun", experiment: str | None, name: str
) -> None:
    """Register the best run of the split that the test columns are from."""
    from ablation.runs.comparison import test_split
    from ablation.runs.registering import register_best

    if experiment is None:
        raise RunError(f"{name} was not registered: the tracking server has not got the runs yet")
    split = test_split(list(dict.fromkeys(run.key.split for run in planned.runs)))
    print_champion(console, register_best(planned.store, experiment, split, name))


def plan(
    data: Data = "demo",
    profile: Profile = "demo",
    variants: Variants = "table3",
    splits: Splits = "auto",
    seeds: Seeds = "0",
    encoder: EncoderName = "",
    experiment: Experiment = "",
    set_: Set = None,
    select_by: SelectBy = "",
    fresh: Fresh = False,
    tracking_uri: TrackingUri = None,
    target: Targets = "",
    keep: Keep = "rows",
    on: On = "local",
    cpus_per_run: CpusPerRun = None,
    gpus_per_run: GpusPerRun = None,
    measure: Measure = None,
    power: Annotated[
        bool,
        typer.Option(
            "--power", help="Also say what decides the paper's claims, from the runs so far."
        ),
    ] = False,
) -> None:
    """Show what `run` would train with the same arguments, what it would reuse, and the time."""
    from ablation.config.overrides import parse_overrides, parse_seeds

    overrides = parse_overrides(set_ or ()) | _selection(select_by)
    check_encoder(profile, overrides, encoder)
    import ablation
    from ablation.data.corpus import list_targets

    request = ablation.RunRequest(
        data=data,
        profile=profile,
        variants=split_list(variants),
        splits=split_list(splits),
        seeds=parse_seeds(seeds),
        encoder=encoder or None,
        overrides=overrides,
        experiment=experiment or None,
        tracking_uri=tracking_uri,
        fresh=fresh,
        keep=cast("KeepRule", keep),  # checked by the request
        on=on,
        cpus_per_run=cpus_per_run,
        gpus_per_run=gpus_per_run,
    )
    console = make_console()
    for name in list_targets(data, target):
        planned = ablation.plan(replace(request, target=name))
        _print_plan(console, planned, measure=measure, power=power)


def _print_plan(
    console: "Console", planned: "ResolvedRun", *, measure: bool | None, power: bool
) -> None:
    """Print what would be trained, and what it takes."""
    from ablation.runs.estimate import estimate_all

    estimates = None if measure is False else estimate_all(planned, anew=bool(measure))
    if planned.request.target:
        console.print(f"Target {planned.request.target}:", markup=False, highlight=False)
    print_warnings(console, planned.warnings)
    console.print(_plan_table(planned, estimates))
    console.print(_plan_summary(planned, estimates), markup=False)
    if planned.scaling:
        console.print(_scaling_line(planned.scaling), markup=False, highlight=False)
    if not planned.place.is_here:
        for line in _shares(planned, estimates):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    if power:
        _print_power(console, planned)


def data(
    path: Annotated[
        str,
        typer.Argument(
            help="'demo', a folder, a corpus.toml or a file of rows; init: draft a corpus.toml."
        ),
    ] = "demo",
    folder: Annotated[str, typer.Argument(help="After init: the folder or file to look at.")] = "",
    target: Target = "",
    text: Annotated[str, typer.Option(help="init: column of the texts.")] = "",
    second_text: Annotated[str, typer.Option(help="init: column of a pair's second text.")] = "",
    label: Annotated[str, typer.Option(help="init: column of the labels; with commas.")] = "",
    label_range: Annotated[
        str, typer.Option("--range", help="init: the scale's ends, such as 0..3.")
    ] = "",
    group: Annotated[str, typer.Option(help="init: column of the groups.")] = "",
    group_kind: Annotated[str, typer.Option(help="init: language, domain or none.")] = "",
    weight: Annotated[str, typer.Option(help="init: column of the rows' weights.")] = "",
    out: Annotated[
        str,
        typer.Option(
            help="init: the file to write; - prints it.", show_default="corpus.toml there"
        ),
    ] = "",
) -> None:
    """Check a corpus and print its rows and labels; `data init FOLDER` drafts its description.

    A corpus in MINT's format is shown beside the paper's Table 2 and Figure 1.
    """
    if path != "init":
        if folder:
            raise UsageError(f"data {path} {folder}: give one corpus, or `data init {folder}`")
        from ablation.data.corpus import load_corpus
        from ablation.data.description import print_description

        print_description(load_corpus(path, target), make_console())
        return
    from ablation.data.draft import Choices

    choices = Choices(
        text=text or None,
        second_text=second_text or None,
        label=split_list(label),
        group=group or None,
        group_kind=group_kind or None,
        weight=weight or None,
        label_range=parse_range("--range", label_range) if label_range else None,
    )
    _write_draft(make_console(), folder, choices, out)


def _write_draft(console: "Console", source: str, choices: "Choices", out: str) -> None:
    """Draft a corpus.toml and print what is left to decide. An existing file is not replaced."""
    from ablation.data.draft import draft_layout
    from ablation.data.hub import fetch, is_hub
    from ablation.data.layout import CORPUS_FILE

    path, hub = Path(source).expanduser(), ""
    if is_hub(source):
        path, hub = fetch(source)
        folder = Path()
    elif not source or not path.exists():
        raise UsageError(
            f"data init {source}: give the folder, the file of rows or the hub:ORGANISATION/NAME"
            " to look at"
        )
    else:
        folder = path if path.is_dir() else path.parent
    file = Path(out).expanduser() if out else folder / CORPUS_FILE
    draft = draft_layout(path, choices, beside=path if hub else file.parent, hub=hub)
    if out == "-":
        console.print(draft.text, end="", markup=False, highlight=False, soft_wrap=True)
        return
    if file.exists():
        raise UsageError(f"{file}: exists; remove it, or name another file with --out")
    file.write_text(draft.text, "utf-8")
    for line in (*draft.sentences, *(f"decide: {question}" for question in draft.open_questions)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    check = "complete it, then check it" if draft.open_questions else "check it"
    console.print(
        f"Wrote {file}; {check} with: ablation data {file}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _print_power(console: "Console", planned: "ResolvedRun") -> None:
    """Print what decides the claims that the planned variants can answer."""
    from ablation.cli.power import print_power
    from reports.planner import plan_power_of

    try:
        plan = plan_power_of(planned)
    except UsageError as error:
        console.print(f"No power: {error}", markup=False, highlight=False)
    else:
        print_power(console, plan)


def _plan_table(planned: "ResolvedRun", estimates: "Estimates | None") -> "Table":
    """Return a line for each run; if there are many, for all seeds of a row and split."""
    from rich.table import Table
    from rich.text import Text

    seconds = estimates.seconds if estimates else {}
    one_by_one = len(planned.runs) <= _MOST_LINES
    lines: dict[tuple[object, ...], list[PlannedRun]] = {}
    for run in planned.runs:
        alike = (run.key.variant, run.key.split, run.state, run.reason)
        lines.setdefault((*alike, run.key.seed) if one_by_one else alike, []).append(run)
    table = Table(title=counted(len(planned.runs), "run"), title_justify="left")
    for heading in ("variant", "split", "seed", "state", "estimate", "why"):
        table.add_column(heading, justify="right" if heading in ("seed", "estimate") else "left")
    for runs in lines.values():
        first = runs[0]
        known = [seconds[run.key] for run in runs if run.key in seconds]
        reused = f"reused: run {first.run_id}" if len(runs) == 1 else f"reused: {len(runs):,} runs"
        table.add_row(
            Text(first.key.variant),
            Text(first.key.split),
            number_ranges([run.key.seed for run in runs]),
            first.state,
            f"{sum(known) / 60:.1f} min" if known else "",
            Text(reused if first.is_reused else first.reason),
        )
    return table


def _scaling_line(scaling: "Mapping[int, SideBySide]") -> str:
    """Say how much faster several runs side by side are than one, as it was measured."""
    alone = scaling[1].tokens_per_s
    parts = [
        f"{count}: {side.tokens_per_s / alone:.2f}" if side.tokens_per_s else f"{count}: no memory"
        for count, side in sorted(scaling.items())
    ]
    return f"Runs side by side, and their tokens a second against one run's: {', '.join(parts)}."


def _shares(planned: "ResolvedRun", estimates: "Estimates | None") -> list[str]:
    """Say what each run gets, how that goes on a machine like this one, and what is better."""
    given = f"On {planned.request.on}: each run gets {planned.resources}"
    if estimates is None or not estimates.seconds:
        return [f"{given}."]
    from ablation.runs.estimate import estimate_all
    from ablation.runs.machine import this_machine
    from ablation.runs.proposal import present_share, propose

    machine = this_machine()
    present = present_share(planned, estimates, machine)
    lines = [f"{given}; {present.at_once} at a time on a machine like this one{_minutes(present)}."]
    proposed = propose(planned, estimates, machine, lambda other: estimate_all(other, anew=False))
    if proposed is None:
        return lines
    if proposed.seconds is None:
        return [
            *lines,
            f"Proposed: --gpus-per-run {proposed.resources.gpus:g}. There is memory for"
            f" {counted(proposed.at_once, 'run')} at a time; it pays as far as one"
            " leaves its GPU idle, which was not measured.",
        ]
    return [
        *lines,
        f"Proposed: --cpus-per-run {proposed.resources.cpus}; {proposed.at_once} at a"
        f" time{_minutes(proposed)}.",
    ]


def _minutes(share: "Share") -> str:
    return "" if share.seconds is None else f", about {share.seconds / 60:.1f} minutes in all"


def _plan_summary(planned: "ResolvedRun", estimates: "Estimates | None") -> str:
    to_do = sum(not run.is_reused for run in planned.runs)
    summary = f"{to_do} to do, {len(planned.runs) - to_do} reused"
    if estimates and estimates.costs:
        minutes, memory = sum(estimates.seconds.values()) / 60, estimates.memory_bytes / 2**30
        summary += f"; about {counted(round(minutes), 'minute')} and {memory:.1f} GiB"
        summary += ", measured on this machine"
        if estimates.from_earlier:
            summary += f" for an earlier plan ({estimates.oldest}); --measure measures again"
        if kept := estimates.kept_bytes(planned):
            summary += f"; up to {kept / 1e9:.2f} GB of weights are kept (--keep)"
    return summary
