"""Define the commands `doctor` and `sync`."""

from pathlib import Path
from typing import Annotated

import typer

from ablation.cli.console import make_console
from ablation.cli.options import TrackingUri


def doctor(
    tracking_uri: TrackingUri = None,
    max_weights: Annotated[
        float | None,
        typer.Option(
            help="Remove the oldest kept weights until the rest take this many GB.", min=0
        ),
    ] = None,
) -> None:
    """Find and fix what dead processes left behind: runs, checkpoints, lost artifacts."""
    from ablation.runs.doctor import describe_weights, examine, prune_weights
    from ablation.tracking.store import open_store

    console, end = make_console(), "no problems found"
    for problem in examine(open_store(tracking_uri)):
        console.print(problem, markup=False, highlight=False, soft_wrap=True)
        end = "no other problems found"
    if max_weights is not None:
        for line in prune_weights(max_weights * 1e9):
            console.print(line, highlight=False, soft_wrap=True)
    if weights := describe_weights():
        console.print(weights, markup=False, highlight=False, soft_wrap=True)
    console.print(end, highlight=False)


def sync(
    spool: Annotated[
        Path | None,
        typer.Option(
            help="Folder of what was not sent.",
            show_default="spool in $ABLATION_STATE, or in your state folder",
        ),
    ] = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option(
            help="Address of the same server, with credentials.", show_default="as it was"
        ),
    ] = None,
    restore: Annotated[
        list[str] | None,
        typer.Option(help="Restore this run if it was deleted on the server; or all; repeatable."),
    ] = None,
    elsewhere: Annotated[
        list[str] | None,
        typer.Option(help="Write this run anew if it was deleted there; or all; repeatable."),
    ] = None,
    discard: Annotated[
        list[str] | None,
        typer.Option(help="Drop what is unsent of this run; or all that is refused; repeatable."),
    ] = None,
) -> None:
    """Send what could not be sent to an unreachable tracking server, in the order of writing."""
    from ablation.tracking.sync import SyncRequest
    from ablation.tracking.sync import sync as send

    send(SyncRequest(spool, tracking_uri, restore or (), discard or (), elsewhere or ()), print)
