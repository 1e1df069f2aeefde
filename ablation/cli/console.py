"""What the commands print: who they are for, what came out, and where to look next."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import typer

from ablation.core.errors import RunError, UsageError, one_line
from ablation.tracking.uris import redact_uri

if TYPE_CHECKING:
    from rich.console import Console

    from ablation.runs.results import RunOutcome
    from ablation.training.records import RunRecord

_INTERRUPTED: Final = 130
#: What the parser of the command line raises for arguments that it can't read.
_UNREADABLE: Final = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])


def make_console() -> "Console":
    """Standard output, with colours and live tables where it is a terminal."""
    from rich.console import Console

    # Away from a terminal lines are not folded at 80 columns: tables stay whole in logs.
    return Console() if sys.stdout.isatty() else Console(width=160)


def print_run_header(
    console: "Console", corpus: str, synthetic: bool, has_test_labels: bool, runs: int
) -> None:
    """How many runs on which data, and what is to be known of the data."""
    console.print(f"{runs} runs on corpus {corpus}", markup=False)
    if synthetic:
        console.print(
            "The demo corpus is synthetic: its scores are its authors' judgement, no benchmark.",
            markup=False,
        )
    if not has_test_labels:
        console.print(
            "No test labels were given: test rows are predicted, not scored.", markup=False
        )


def print_comparison(console: "Console", records: "list[RunRecord]", synthetic: bool) -> None:
    """Table 3 as these runs have it, beside the paper's unless the data are synthetic."""
    from rich.table import Table
    from rich.text import Text

    from ablation.runs.comparison import as_text, caption, compare

    table = compare(records)
    if table.empty:
        console.print("No run finished: there is nothing to compare.", markup=False)
        return
    text = as_text(table, with_paper=not synthetic)
    best = {column: rows["mean"].max() for column, rows in table.groupby("column")}
    means = dict(
        zip(zip(table["variant"], table["column"], strict=True), table["mean"], strict=True)
    )
    console.print(caption(records, synthetic=synthetic), markup=False, highlight=False)
    drawn = Table(caption="bold: best of these runs", caption_justify="left")
    for column in text.columns:
        drawn.add_column(column, no_wrap=True)
    for variant, row in text.iterrows():
        cells = [Text(str(row["Method"]))]
        for column in text.columns[1:]:
            is_best = means[(str(variant), column)] == best[column]
            cells.append(Text(str(row[column]), "bold" if is_best else ""))
        drawn.add_row(*cells)
    console.print(drawn)


def raise_for_failures(console: "Console", outcomes: "list[RunOutcome]") -> None:
    """Print a line for each failed run. Raises RunError if there is one."""
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    for outcome in failed:
        console.print(
            f"failed: {outcome.key}: {outcome.reason} (run {outcome.run_id})",
            style="red",
            markup=False,
            soft_wrap=True,
        )
    if failed:
        raise RunError(
            f"{len(failed)} of {len(outcomes)} runs failed; the same command trains them again"
        )


@contextmanager
def interruptible(kept: str) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the command with a line that says what is `kept`, and with the exit code that shells give them."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"ablation: interrupted; {kept}", file=sys.stderr)
        raise typer.Exit(_INTERRUPTED) from None


def main_with_exit_code(command: Callable[[], int | None], *, debug: bool) -> int | str:
    """Carry out a command line; its exit code. Errors, and what a tracking server has not got, become lines."""
    code: int | str | None = 0
    try:
        code = command()
    except SystemExit as ended:
        code = ended.code
    except Exception as error:
        if debug:
            raise
        code = report_error(error)
    if line := unsynced_summary():
        print(f"ablation: {line}", file=sys.stderr)
    return code or (RunError.exit_code if line else 0)


def unsynced_summary() -> str:
    """One line on what this command wrote and a tracking server has not got, and how to send it; empty for nothing."""
    from ablation.tracking.spool import pending_uploads

    left = pending_uploads()
    if not left:
        return ""
    folders = ", ".join(str(one.folder) for one in left)
    writes, runs = sum(one.writes for one in left), sum(one.runs for one in left)
    return (
        f"{writes} writes of {runs} runs have not reached {left[0].server} ({left[0].reason}); "
        f"they are kept in {folders}, send them with: ablation sync"
    )


def ui_command(uri: str) -> str:
    """What opens the MLflow UI on a tracking store."""
    return uri if uri.startswith("http") else f"mlflow ui --backend-store-uri {redact_uri(uri)}"


def report_error(error: Exception) -> int:
    """Say on standard error, in one line for each problem, why the command ended; returns its exit code."""
    code = 1
    if isinstance(error, UsageError | RunError):
        code, problems = (
            error.exit_code,
            getattr(error, "problems", None) or str(error).splitlines(),
        )
    elif isinstance(error, _UNREADABLE):
        code, context = 2, getattr(error, "ctx", None)
        hint = f"; see {context.command_path} --help" if context else ""
        told = error.format_message().rstrip(
            "."
        )  # nothing where the help was shown, for want of arguments
        problems = [f"{told}{hint}"] if told else []
    elif type(error).__module__ == "mlflow.exceptions":  # a server that went away, or refuses
        from ablation.tracking.retry import describe_error

        problems = [f"tracking store: {describe_error(error)}"]
    elif isinstance(error, OSError) and error.filename is not None:
        problems = [f"{error.filename}: {error.strerror}"]
    else:
        first = (str(error).strip().splitlines() or ["no message"])[0]
        problems = [f"{type(error).__name__}: {first[:200]} (ablation --debug ... shows where)"]
    for problem in problems:
        print(f"ablation: {one_line(problem)}", file=sys.stderr)
    return code


def writable_folder(option: str, folder: Path) -> Path:
    """`folder`, there or not, as one that can be written to. Raises UsageError, so that no work is done for nothing."""
    try:
        folder = folder.expanduser()
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        what = (
            "is no folder"
            if not there.is_dir()
            else None
            if os.access(there, os.W_OK | os.X_OK)
            else "can't be written to"
        )
    except (
        OSError,
        RuntimeError,
    ) as error:  # a name that is too long; a home folder that nobody has
        raise UsageError(
            f"{option} {str(folder)[:80]}: {getattr(error, 'strerror', None) or error}"
        ) from error
    if what:
        raise UsageError(f"{option} {folder}: {there} {what}; give another folder")
    return folder
