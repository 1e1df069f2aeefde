"""Print what the commands say: headers, tables, errors, and where to look next."""

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import typer

from ablation.core.counting import counted
from ablation.core.errors import RunError, UsageError, first_line, one_line
from ablation.tracking.uris import is_http, redact_uri, strip_credentials

if TYPE_CHECKING:
    from rich.console import Console

    from ablation.config.variant_table import VariantTable
    from ablation.data.corpus import Corpus
    from ablation.executors.protocol import Resources
    from ablation.runs.results import RunOutcome
    from ablation.tracking.store import Store
    from ablation.training.records import RunRecord

_INTERRUPTED: Final = 130
#: The address at which `mlflow ui` serves.
LOCAL_UI: Final = "http://127.0.0.1:5000"
#: The base of the errors that typer raises for arguments that it can't read.
_USAGE_ERROR: Final = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])


def make_console() -> "Console":
    """Write to standard output, with colours and live tables if it is a terminal."""
    from rich.console import Console

    # In a log, tables are not folded at 80 columns.
    return Console() if sys.stdout.isatty() else Console(width=160)


def print_run_header(
    console: "Console", corpus: "Corpus", runs: int, splits: Sequence[str] = ()
) -> None:
    """Print the number of runs, the splits chosen for the corpus, and what to know about it."""
    from ablation.data.splits import AUTO, default_splits

    lines = [f"{counted(runs, 'run')} on corpus {corpus.name}", *corpus.remarks]
    if AUTO in splits:
        lines.append(f"Splits: {default_splits(corpus)[1]}.")
    if corpus.synthetic:
        lines.append(
            "The demo corpus is synthetic: its scores are its authors' judgement, no benchmark."
        )
    if not corpus.has_test_labels:
        lines.append("No test labels were given: test rows are predicted, not scored.")
    for line in lines:
        console.print(line, markup=False)


def print_placement(console: "Console", on: str, resources: "Resources") -> None:
    """Print where runs are trained, unless this process does it, and what each of them gets."""
    from ablation.executors.choose import parse_on

    if not parse_on(on).is_here:
        line = f"On {on}: each run gets {resources}."
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_warnings(console: "Console", warnings: Sequence[str]) -> None:
    """Print a line for each stored run that can't be read."""
    for warning in warnings:
        console.print(warning, style="yellow", markup=False, highlight=False, soft_wrap=True)


def print_store(console: "Console", store: "Store", experiment: str | None = None) -> None:
    """Print where the runs are tracked, the command that browses them, and the table's address."""
    console.print(
        f"Tracked in {redact_uri(store.uri)}; browse with: {ui_command(store.uri)}",
        soft_wrap=True,
        markup=False,
    )
    if experiment is not None:
        from ablation.tracking.views import has_views, view_fragment

        address = redact_uri(store.uri) if store.uri.startswith("http") else LOCAL_UI
        key = "results" if has_views() else ""
        title = "Results by row (other views in the menu at the top right)" if key else "Runs"
        page = f"{address.rstrip('/')}/{view_fragment(experiment, key)}"
        console.print(f"{title}: {page}", soft_wrap=True, markup=False, highlight=False)


def print_comparison(
    console: "Console",
    records: "list[RunRecord]",
    corpus: "Corpus",
    rows: "VariantTable",
    *,
    unsealed: bool,
) -> None:
    """Print the table of these runs, with the printed figures if they apply to the data.

    Its test columns are left out unless they are `unsealed`.
    """
    from rich.table import Table
    from rich.text import Text

    from ablation.runs.comparison import (
        TEST_COLUMNS,
        as_text,
        caption,
        compare,
        prints_for,
    )

    table = compare(records, rows=rows)
    if table.empty:
        console.print("No run finished, so there is nothing to compare.", markup=False)
        return
    sealed = corpus.has_test_labels and not unsealed
    scored = corpus.has_test_labels and unsealed
    printed_figures = prints_for(rows, corpus)
    has_test_columns = scored or (printed_figures and not sealed)
    if not has_test_columns:
        table = table[~table["column"].isin(list(TEST_COLUMNS))]
    text = as_text(table, with_paper=printed_figures)
    best = {column: rows["mean"].max() for column, rows in table.groupby("column")}
    means = dict(
        zip(zip(table["variant"], table["column"], strict=True), table["mean"], strict=True)
    )
    heading = caption(records, corpus, rows, has_test_columns=has_test_columns)
    console.print(heading, markup=False, highlight=False)
    note = "Test scores are sealed: the report has them, and --unseal shows them here."
    legend = "bold: best of these runs on test rows" if scored else None
    printed = Table(caption=note if sealed else legend, caption_justify="left")
    for column in text.columns:
        printed.add_column(column, no_wrap=True)
    for variant, row in text.iterrows():
        cells = [Text(str(row["Method"]))]
        for column in text.columns[1:]:
            is_best = column in TEST_COLUMNS and means[(str(variant), column)] == best[column]
            cells.append(Text(str(row[column]), "bold" if is_best else ""))
        printed.add_row(*cells)
    console.print(printed)


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
            f"{len(failed)} of {counted(len(outcomes), 'run')} failed; the same command trains"
            f" {'it' if len(failed) == 1 else 'them'} again"
        )


@contextmanager
def interruptible(kept: str) -> Iterator[None]:
    """End the command on Ctrl-C and SIGTERM with one line, which names what is `kept`, and 130."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"ablation: interrupted; {kept}", file=sys.stderr)
        raise typer.Exit(_INTERRUPTED) from None


def main_with_exit_code(command: Callable[[], int | None], *, debug: bool) -> int | str:
    """Run a command and return its exit code; print errors and unsynced writes, a line each."""
    code: int | str | None = 0
    try:
        code = command()
    except SystemExit as ended:
        code = ended.code
    except Exception as error:
        if debug:
            print(redact_uri("".join(traceback.format_exception(error))), file=sys.stderr)
        code = report_error(error)
    if line := unsynced_summary():
        print(f"ablation: {line}", file=sys.stderr)
    return code or (RunError.exit_code if line else 0)


def unsynced_summary() -> str:
    """Say in one line what an unreachable server has not received, and how to send it.

    Return "" if everything was sent.
    """
    # What was not loaded has kept nothing, and loading it takes a tenth of the time of `--help`.
    if "ablation.tracking.spool" not in sys.modules:
        return ""
    from ablation.tracking.spool import pending_uploads

    left = pending_uploads()
    if not left:
        return ""
    folders = ", ".join(str(one.folder) for one in left)
    writes, runs = sum(one.writes for one in left), sum(one.runs for one in left)
    return (
        f"{left[0].server} has not received {counted(writes, 'write')} of {counted(runs, 'run')}"
        f" ({left[0].reason}), kept in {folders}; to send what is kept: ablation sync"
    )


def ui_command(uri: str) -> str:
    """Return the command that opens the MLflow UI on a store, or the address of a server."""
    return (
        strip_credentials(uri)
        if is_http(uri)
        else f"mlflow ui --backend-store-uri {redact_uri(uri)}"
    )


def report_error(error: Exception) -> int:
    """Print an error to standard error, a line for each problem, and return the exit code."""
    code = 1
    if isinstance(error, UsageError | RunError):
        code, problems = (
            error.exit_code,
            getattr(error, "problems", None) or str(error).splitlines(),
        )
    elif isinstance(error, _USAGE_ERROR):
        code, context = 2, getattr(error, "ctx", None)
        hint = f"; see {context.command_path} --help" if context else ""
        message = error.format_message().rstrip(".")
        problems = [f"{message}{hint}"] if message else []  # it is empty if help was shown
    elif type(error).__module__ == "mlflow.exceptions":  # an unreachable server, or a refusal
        from ablation.tracking.retry import describe_error, failed_store

        store = " ".join(["tracking store", failed_store(error)]).rstrip()
        problems = [f"{store}: {describe_error(error)}"]
    elif isinstance(error, OSError) and error.filename is not None:
        hint = "; /proc is hidden here: mount it" if str(error.filename)[:6] == "/proc/" else ""
        problems = [f"{error.filename}: {error.strerror}{hint}"]
    elif isinstance(error, OSError) and _was_printing(error):
        problems = [f"standard output: can't be written: {error.strerror}; send it elsewhere"]
    else:
        problems = [
            f"{type(error).__name__}: {first_line(error)} (ablation --debug ... shows where)"
        ]
    for problem in problems:
        print(f"ablation: {one_line(redact_uri(problem))}", file=sys.stderr)
    return code


def _was_printing(error: BaseException) -> bool:
    """Return whether an error came while something was printed."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__") == "rich.console" for frame, _ in frames)


def require_report_folder() -> None:
    """Raise UsageError if a report can't be written below the working folder when training ends."""
    folder = Path.cwd()
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(
            f"{folder}: can't be written to, and the report would go there; run this in another"
            " folder, or give --no-report"
        )


def writable_folder(option: str, folder: Path) -> Path:
    """Return `folder`, which need not exist yet. Raises UsageError if it can't be written to."""
    try:
        folder = folder.expanduser()
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        is_folder = existing.is_dir()
        is_writable = os.access(existing, os.W_OK | os.X_OK)
    except (OSError, RuntimeError) as error:  # a name that is too long, or an unknown ~user
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{option} {str(folder)[:80]}: {reason}") from error
    if not is_folder:
        raise UsageError(f"{option} {folder}: {existing} is no folder; give another folder")
    if not is_writable:
        raise UsageError(f"{option} {folder}: {existing} can't be written to; give another folder")
    return folder
