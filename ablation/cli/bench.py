"""The command `ablation bench`; its modules are imported when it is called."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablation.cli import completion
from ablation.cli.console import make_console, writable_folder
from ablation.cli.options import Data, EncoderName, Set, TrackingUri
from ablation.cli.parsing import split_list
from ablation.tracking.uris import redact_uri

if TYPE_CHECKING:
    from rich.console import Console

    from ablation.bench.table import Row


def bench(
    only: Annotated[
        str,
        typer.Option(
            help="Sections, with commas: training, frozen, memory, prediction, tracking, "
            "startup, growth, suite.",
            show_default="all",
        ),
    ] = "",
    data: Data = "demo",
    profile: Annotated[
        str,
        typer.Option(
            help="A profile, as of `ablation run`.",
            show_default="small; on a GPU paper, in bfloat16",
            autocompletion=completion.PROFILE,
        ),
    ] = "",
    encoder: EncoderName = "",
    rows: Annotated[int, typer.Option(help="The most rows to measure throughput on.")] = 512,
    rounds: Annotated[int, typer.Option(help="Measurements of each ratio.")] = 3,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Also write the table (bench.md) and its figures (bench.json) to this folder."
        ),
    ] = None,
    set_: Set = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Measure this suite against Hugging Face's Trainer and pipeline on this machine.

    Ratios come with their spread over rounds. All sections take long (`--only` chooses some), and
    are tracked as a run of the MLflow experiment `bench`.

    Needs `pip install 'ablation-suite[bench]'`.
    """
    folder = writable_folder("--out", out) if out else None
    from ablation.bench.session import BenchRequest, caption, resolve_bench, run_bench, write
    from ablation.config.overrides import parse_overrides

    console = make_console()
    resolved = resolve_bench(
        BenchRequest(
            sections=split_list(only),
            data=data,
            profile=profile,
            encoder=encoder,
            rows=rows,
            rounds=rounds,
            overrides=parse_overrides(set_ or ()),
            tracking_uri=tracking_uri,
        )
    )
    console.print(caption(resolved), markup=False, highlight=False, soft_wrap=True)
    with console.status("bench") as status:
        measured = run_bench(resolved, status.update, lambda section: _print(console, section))
    if folder:
        write(folder, measured, resolved)
    console.print(f"Tracked in {redact_uri(resolved.store.uri)}", markup=False, soft_wrap=True)


def _print(console: "Console", rows: "list[Row]") -> None:
    """Print the rows of one section."""
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
