"""Define the command `compare`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablation.cli.console import make_console, writable_folder
from ablation.cli.options import TrackingUri

if TYPE_CHECKING:
    from rich.console import Console

    from reports.compare import CompareResult


def compare(
    first: Annotated[
        str,
        typer.Argument(
            help="A variant, an experiment, EXPERIMENT#2 (its second group), EXPERIMENT:VARIANT."
        ),
    ],
    second: Annotated[
        str, typer.Argument(help="The other side, B; differences are B minus A, the first.")
    ],
    experiment: Annotated[
        str,
        typer.Option(
            help="The experiment of variants that name none.",
            show_default="ablation, or the one that mlflow run chose",
        ),
    ] = "",
    out: Annotated[
        str,
        typer.Option(help="Folder for compare.csv and compare.json.", show_default="only printed"),
    ] = "",
    tracking_uri: TrackingUri = None,
) -> None:
    """Compare two experiments, groups of runs or variants, paired on the rows and seeds of both."""
    folder = writable_folder("--out", Path(out)) if out else None
    from reports.compare import CompareRequest, write_comparison
    from reports.compare import compare as compare_sides

    default = experiment or os.environ.get("MLFLOW_EXPERIMENT_ID", "") or "ablation"
    result = compare_sides(CompareRequest(first, second, default, tracking_uri))
    console = make_console()
    print_comparison(console, result)
    if folder:
        files = write_comparison(result, folder)
        console.print(f"Written: {', '.join(map(str, files))}", markup=False, soft_wrap=True)


def print_comparison(console: "Console", result: "CompareResult") -> None:
    """Print the comparisons as a table, and under it what they rest on."""
    from rich.table import Table

    first, second = result.sides
    table = Table(title=f"A: {first.text}   B: {second.text}", title_justify="left")
    table.add_column("variant")
    table.add_column("on", no_wrap=True)
    for heading in ("A", "B", "B − A", "95%", "p", "p (Holm)", "rows", "seeds"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("paired on")
    for row in result.to_frame().to_dict("records"):
        a, b = row["first"], row["second"]
        lead = [a if a == b else f"{a} → {b}", row["on"]]
        if row["difference"] != row["difference"]:
            table.add_row(*lead, *[""] * 8, f"not compared: {row['why']}")
            continue
        seeds = (row["seeds_first"], row["seeds_second"])
        is_paired = row["paired_on"] == "rows and seeds"
        table.add_row(
            *lead,
            f"{100 * row['score_first']:.2f}",
            f"{100 * row['score_second']:.2f}",
            f"{100 * row['difference']:+.2f}",
            _interval(row["low"], row["high"]),
            _p(row["p"]),
            _p(row["p_holm"]),
            str(row["rows"]),
            str(seeds[0]) if is_paired else f"{seeds[0]} + {seeds[1]}",
            row["paired_on"] + (f"; {row['why']}" if row["why"] else ""),
        )
    console.print(table)
    for note in result.notes:
        console.print(note, markup=False, highlight=False)


def _interval(low: float, high: float) -> str:
    return f"[{100 * low:.2f}, {100 * high:.2f}]" if low == low else "–"


def _p(value: float) -> str:
    return f"{value:.4f}" if value == value else "–"
