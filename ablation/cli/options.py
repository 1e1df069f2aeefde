"""Define the options that several commands share, and how switches are read."""

from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from ablation.cli import completion
from ablation.cli.console import interruptible
from ablation.cli.parsing import switches_from_text
from ablation.core.errors import UsageError
from ablation.core.interrupts import signals_as_interrupt
from ablation.core.suggest import did_you_mean

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Data = Annotated[
    str,
    typer.Option(
        help="'demo', a folder (corpus.toml, or train.csv and test.csv), a file of rows, or"
        " hub:org/name."
    ),
]
Target = Annotated[
    str, typer.Option(help="The label column to predict, if the corpus has several.")
]
Targets = Annotated[
    str,
    typer.Option(
        help="The label column to predict, if the corpus has several; more with commas, or all:"
        " a suite each, and one report."
    ),
]
Profile = Annotated[
    str,
    typer.Option(
        help="smoke, demo, small, paper, or a TOML file with what it changes.",
        autocompletion=completion.PROFILE,
    ),
]
Variants = Annotated[
    str,
    typer.Option(
        help="Rows of the table, with commas, e.g. mse,epm; table3, figure5, factorial, readings,"
        " readings-all, all; or a TOML file of variants, alone or with names of its rows.",
        autocompletion=completion.VARIANTS,
    ),
]
Splits = Annotated[
    str,
    typer.Option(
        help="dev1, dev2, dev2:fr+it, dev2:all, hold:3, leave-one-out, kfold:5, given; auto."
        " dev1@0-4: five draws, averaged over; dev2 and hold alike.",
        autocompletion=completion.SPLITS,
    ),
]
Seeds = Annotated[str, typer.Option(help="Whole numbers: 0,1,2 or 0-4.")]
EncoderName = Annotated[
    str,
    typer.Option(help="bundled, a Hugging Face Hub id, or a folder.", show_default="the profile's"),
]
Experiment = Annotated[
    str,
    typer.Option(
        help="MLflow experiment.", show_default="ablation, or the one that mlflow run chose"
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a field, e.g. loss.tau=0.1; repeatable."),
]
Keep = Annotated[
    str,
    typer.Option(
        help="Weights to keep, by development rows: rows (the best seed of each), best (of each"
        " split), all, none."
    ),
]
SelectBy = Annotated[
    str,
    typer.Option(
        help="Choose each run's epoch by pearson, spearman, concordance, rmse or mae.",
        show_default="pearson, or the profile's",
    ),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Train runs again that have finished before.")]
On = Annotated[
    str,
    typer.Option(
        help="Train here (local), in processes side by side (local:4; run and plan: local:auto for"
        " as many as are fastest), on a Ray cluster (ray, ray:ADDRESS), or as SLURM jobs (slurm,"
        " slurm:partition=gpu,time=120)."
    ),
]
CpusPerRun = Annotated[
    int | None,
    typer.Option(help="Cores and threads of a run.", show_default="this machine's, or a share"),
]
GpusPerRun = Annotated[
    float | None,
    typer.Option(
        help="GPUs of a run; 0.25 trains four on a GPU.", show_default="1 if this machine has any"
    ),
]
Checkpoints = Annotated[
    str,
    typer.Option(
        help="Copy checkpoints to this URL while training (s3://bucket/folder, or any that fsspec"
        " knows), so that another machine goes on from them."
    ),
]
WithReport = Annotated[bool, typer.Option("--report/--no-report", help="End with a report.")]
TrackingUri = Annotated[
    str | None,
    typer.Option(help="MLflow store.", show_default="$MLFLOW_TRACKING_URI, or ./mlflow.db"),
]

#: Keeps square brackets in help texts, which Rich's own markup would take for styles.
MARKUP: Final = "markdown"


class Command(TyperCommand):
    """A command whose switches also take true or false, as MLproject passes them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        switches = {
            name: next(iter(option.secondary_opts), None)
            for option in self.params
            if getattr(option, "is_flag", False)
            for name in option.opts
        }
        takes_arguments = any(param.param_type_name == "argument" for param in self.params)
        arguments = switches_from_text(args, switches, takes_arguments=takes_arguments)
        return super().parse_args(ctx, arguments)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; end it on Ctrl-C and SIGTERM with one line, wherever it is."""
        with interruptible("the same command starts again"), signals_as_interrupt():
            return super().invoke(ctx)


class Commands(TyperGroup):
    """The command line; an unknown command raises UsageError with the nearest known one."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is None and not cmd_name.startswith("-"):
            hint = did_you_mean(cmd_name, self.list_commands(ctx))
            raise UsageError(f"unknown command {cmd_name!r}: {hint}")
        return command
