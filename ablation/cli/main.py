"""Assemble the console script. Each command imports what is heavy when it is called."""

import atexit
import contextlib
import gc
import io
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

import ablation
from ablation.cli.bench import bench
from ablation.cli.compare import compare
from ablation.cli.console import main_with_exit_code
from ablation.cli.models import predict, register, submit
from ablation.cli.options import MARKUP, Command, Commands, Debug
from ablation.cli.power import power
from ablation.cli.push import push
from ablation.cli.report import bundle, report, unbundle
from ablation.cli.runs import data, plan, run
from ablation.cli.studies import curves, sweep
from ablation.cli.upkeep import doctor, sync
from ablation.tracking.names import MLFLOW_RUN_ID

_COMMANDS: Final[tuple[Callable[..., None], ...]] = (
    run,
    plan,
    data,
    report,
    bundle,
    unbundle,
    power,
    compare,
    predict,
    register,
    submit,
    push,
    sweep,
    curves,
    bench,
    doctor,
    sync,
)

app = typer.Typer(
    cls=Commands,
    help="Run, track and compare the ablation of a multilingual tweet intimacy system.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=MARKUP,
)
for _command in _COMMANDS:
    app.command(cls=Command)(_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"ablation {ablation.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Debug = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Accept the options that stand before a command; `main` reads --debug itself."""


def work_in_callers_folder() -> None:
    """Leave the temporary folder that `mlflow run` on a git address starts this command in.

    Relative paths then mean what the caller meant, and the report lands beside the store.
    """
    if MLFLOW_RUN_ID not in os.environ:
        return
    here, temporary = Path.cwd(), Path(tempfile.gettempdir()).resolve()
    if here == temporary or not here.is_relative_to(temporary) or not (here / "MLproject").exists():
        return
    import psutil

    from ablation.tracking.orphans import mlflow_run_process

    with contextlib.suppress(OSError, psutil.Error):
        if (caller := mlflow_run_process()) is not None:
            os.chdir(caller.cwd())


def main() -> NoReturn:
    """Run the command line; errors become one line each on standard error and an exit code."""
    # Commands end soon and keep what they make: at Python's own thresholds, collecting garbage
    # takes a fifteenth of the time of a large report.
    gc.set_threshold(50_000, 20, 20)
    # Python would look through everything once more and free it piece by piece before the process
    # ends: over a second with a thousand runs.
    atexit.register(gc.freeze)
    # What a terminal or a pipe can't show ends no command: tables keep their widths, errors their
    # texts.
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the caller has closed it
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    for stream, errors in ((sys.stdout, "replace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    work_in_callers_folder()
    sys.exit(
        main_with_exit_code(
            lambda: app(prog_name="ablation", standalone_mode=False), debug="--debug" in sys.argv
        )
    )
