"""Define the command `power`, and print its plan for `plan --power` as well."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablation.cli import completion
from ablation.cli.console import make_console, writable_folder
from ablation.cli.options import TrackingUri
from ablation.cli.parsing import split_list

if TYPE_CHECKING:
    from rich.console import Console

    from reports.planner import PowerPlan


def power(
    experiment: Annotated[
        str,
        typer.Option(
            help="The pilot, name or id: an experiment with two seeds or more.",
            show_default="ablation, or the one that mlflow run chose",
        ),
    ] = "",
    claims: Annotated[
        str,
        typer.Option(
            help="Ids of the paper's claims about scores, with commas.",
            show_default="all",
            autocompletion=completion.CLAIMS,
        ),
    ] = "",
    seeds: Annotated[int, typer.Option(help="Seeds that are planned.")] = 3,
    splits: Annotated[
        int,
        typer.Option(
            help="Splits that are averaged over, 1 for a fixed one.", show_default="the pilot's"
        ),
    ] = 0,
    rows: Annotated[
        int | None, typer.Option(help="Rows to score on.", show_default="the pilot's")
    ] = None,
    effect: Annotated[
        float | None,
        typer.Option(help="Effect to show, in points.", show_default="the paper's"),
    ] = None,
    target: Annotated[float, typer.Option(help="Power wanted.")] = 0.8,
    cautious: Annotated[
        bool,
        typer.Option(
            "--cautious/--as-measured",
            help="Take a pilot's seed variance at its upper 80% limit, or as it came out.",
        ),
    ] = True,
    seed_sd: Annotated[
        float | None,
        typer.Option(
            help="Without a pilot: an effect's standard deviation between seeds, in points."
        ),
    ] = None,
    row_error: Annotated[
        float | None,
        typer.Option(help="Without a pilot: an effect's standard error over --rows, in points."),
    ] = None,
    split_sd: Annotated[
        float,
        typer.Option(
            help="An effect's standard deviation between splits, in points; 0: fixed splits."
        ),
    ] = 0.0,
    out: Annotated[
        str,
        typer.Option(help="Folder for the table and the curves.", show_default="only printed"),
    ] = "",
    group: Annotated[int, typer.Option(help="Group of the pilot's runs, as of `report`.")] = 1,
    tracking_uri: TrackingUri = None,
) -> None:
    """Say how many seeds, splits and rows decide the paper's claims, and where none suffice."""
    folder = writable_folder("--out", Path(out)) if out else None
    from reports.planner import PowerRequest, plan_power, write_plan

    plan = plan_power(
        PowerRequest(
            experiment=experiment or os.environ.get("MLFLOW_EXPERIMENT_ID", "") or "ablation",
            tracking_uri=tracking_uri,
            group=group,
            claims=split_list(claims),
            seeds=seeds,
            splits=splits,
            rows=rows,
            effect=effect,
            target=target,
            cautious=cautious,
            seed_sd=seed_sd,
            row_error=row_error,
            split_sd=split_sd,
        )
    )
    console = make_console()
    print_power(console, plan)
    if folder:
        files = write_plan(plan, folder)
        console.print(f"Written: {', '.join(map(str, files))}", markup=False, soft_wrap=True)


def print_power(console: "Console", plan: "PowerPlan") -> None:
    """Print a plan's table with its notes."""
    import pandas as pd
    from rich.table import Table
    from rich.text import Text

    frame = plan.to_frame()
    with_splits = plan.has_random_splits
    table = Table(title="Seeds, splits and rows that decide the claims", title_justify="left")
    table.add_column("claim", no_wrap=True)
    table.add_column("effect")
    table.add_column("on", no_wrap=True)
    needs = ["takes seeds", *(["or splits"] if with_splits else []), "or rows"]
    for heading in ("to show", "rows", "row error", "seed sd", "power", "of claim", *needs):
        table.add_column(heading, justify="right")
    before = None
    for row in frame.to_dict("records"):
        is_first, before = row["claim"] != before, row["claim"]
        if is_first:
            table.add_section()
        lead = [row["claim"] if is_first else "", row["effect"], row["on"], f"{row['to_show']:.2f}"]
        if pd.isna(row["power"]):
            table.add_row(*lead, row["takes"])
            continue
        sizes = [f"{row['rows']:.0f}", f"{row['row_error']:.2f}", f"{row['seed_sd']:.2f}"]
        powers = [_share(row["power"]), _share(row["claim_power"]) if is_first else ""]
        seeds = Text("none suffices") if pd.isna(row["seeds"]) else Text(_count(row["seeds"]))
        seeds.style = "" if pd.isna(row["seeds"]) else "green"
        others = [_count(row["splits"])] if with_splits else []
        table.add_row(*lead, *sizes, *powers, seeds, *others, _count(row["rows_needed"]))
    console.print(table)
    for note in plan.notes:
        console.print(note, markup=False, highlight=False)


def _share(power: float) -> str:
    """Write a power; a dash for that of a claim of which the pilot lacks an effect."""
    return "–" if power != power else f"{power:.0%}"


def _count(number: float | None) -> str:
    """Write a count; nothing for None and NaN."""
    return "" if number is None or number != number else f"{number:,.0f}"
