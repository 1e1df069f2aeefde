"""Define the command `push`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablation.cli.console import interruptible, make_console
from ablation.cli.options import TrackingUri
from ablation.core.counting import counted
from ablation.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from ablation.models.hub import HubFile


def push(
    model: Annotated[
        str,
        typer.Argument(
            help="Folder of a model or ensemble, id of a run, or models:/NAME@champion."
        ),
    ],
    repo: Annotated[str, typer.Argument(help="Repository on the Hugging Face Hub, OWNER/NAME.")],
    report: Annotated[
        Path | None, typer.Option(help="Folder of a report without texts, to push as well.")
    ] = None,
    texts: Annotated[
        bool,
        typer.Option("--texts", help="Push a report that shows texts, which may not be yours."),
    ] = False,
    public: Annotated[
        bool, typer.Option("--public", help="Make a new repository public, not private.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the files, and send nothing.")
    ] = False,
    tracking_uri: TrackingUri = None,
) -> None:
    """Push a model with its card, and a report if given, to the Hugging Face Hub.

    The token is that of `hf auth login`, or $HF_TOKEN.
    """
    from ablation.models.hub import check_repo, list_files
    from ablation.models.hub import push as send
    from ablation.runs.publishing import exported_folder

    check_repo(repo)
    if report is not None:
        _check_report(report, texts=texts)
    console = make_console()
    with exported_folder(model, tracking_uri) as folder:
        files = list_files(folder, repo, report)
        if dry_run:
            _print_files(console, repo, files)
            return
        message = f"Add {folder.name} with ablation-suite"
        with interruptible("nothing was committed"):
            address = send(repo, files, message, public=public)
    size = sum(file.size for file in files)
    console.print(
        f"Pushed {counted(len(files), 'file')}, {size / 1e6:.1f} MB: {address}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _check_report(folder: Path, *, texts: bool) -> None:
    """Raise UsageError unless the folder is a report that may be published."""
    from reports.build import NUMBERS_FILE

    try:
        shows_texts = json.loads((folder / NUMBERS_FILE).read_text("utf-8"))["choice"]["texts"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"--report {folder}: not a report that `ablation report` wrote") from error
    if shows_texts and not texts:
        raise UsageError(
            f"--report {folder}: it shows texts of the corpus; make one with"
            " `ablation report --no-texts --out FOLDER`, or give --texts"
        )


def _print_files(console: "Console", repo: str, files: "Sequence[HubFile]") -> None:
    for file in files:
        console.print(f"{file.size:>13,}  {file.path}", markup=False, highlight=False)
    total = sum(file.size for file in files)
    console.print(
        f"{total:>13,}  bytes in {counted(len(files), 'file')} for {repo}; nothing was sent",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
