"""The command `ablation bench`. What it needs is loaded when it is called."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablation.cli.console import make_console, writable_folder
from ablation.cli.options import Data, EncoderName, Set, TrackingUri
from ablation.tracking.uris import redact_uri

if TYPE_CHECKING:
    from rich.console import Console

    from ablation.bench.table import Row


def bench(
    only: Annotated[
        str,
        typer.Option(
            help="Sections, with commas: training, frozen, memory, prediction, tracking, suite, startup, growth. [default: all]"
        ),
    ] = "",
    data: Data = "demo",
    profile: Annotated[
        str,
        typer.Option(
            help="As of `ablation run`. [default: small; on a GPU paper, XLM-R large, in bfloat16]"
        ),
    ] = "",
    encoder: EncoderName = "",
    rows: Annotated[int, typer.Option(help="Rows that throughput is measured on, at most.")] = 512,
    rounds: Annotated[int, typer.Option(help="How often each ratio is taken, for its spread.")] = 3,
    out: Annotated[
        Path | None,
        typer.Option(help="Also write the table (bench.md) and its figures (bench.json) there."),
    ] = None,
    set_: Set = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Measure this suite against Hugging Face's Trainer and pipeline on this machine: ratios with their spread.

    All sections take long (`--only` chooses), and are kept as a run of the MLflow experiment
    `bench`. Needs `pip install 'ablation-suite[bench]'`.
    """
    folder = writable_folder("--out", out) if out else None
    from ablation.bench.session import BenchRequest, caption, resolve_bench, run_bench, write
    from ablation.config.schema import parse_overrides

    console = make_console()
    laid = resolve_bench(
        BenchRequest(
            only, data, profile, encoder, rows, rounds, parse_overrides(set_ or ()), tracking_uri
        )
    )
    console.print(caption(laid), markup=False, highlight=False, soft_wrap=True)
    with console.status("bench") as status:
        measured = run_bench(laid, status.update, lambda found: _print(console, found))
    if folder:
        write(folder, measured, laid)
    console.print(f"Tracked in {redact_uri(laid.store.uri)}", markup=False, soft_wrap=True)


def _print(console: "Console", rows: "list[Row]") -> None:
    """The rows of one section, as they come."""
    from rich.table import Table
    from rich.text import Text

    from ablation.bench.table import COLUMNS, cells

    table = Table(show_header=bool(rows))
    for heading in COLUMNS:
        table.add_column(
            heading, justify="right" if heading in ("measured", "to reach") else "left"
        )
    for row in rows:
        style = {True: "green", False: "red", None: ""}[row.is_met]
        table.add_row(
            *(
                Text(cell, style if heading == "" else "")
                for heading, cell in zip(COLUMNS, cells(row), strict=True)
            )
        )
    if rows:
        console.print(table)
