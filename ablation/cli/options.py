"""The options that several commands share, as typer takes them."""

from typing import Annotated

import typer

from ablation.core.errors import UsageError

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Data = Annotated[
    str, typer.Option(help="'demo', or a folder with train.csv and test.csv (text,label,language).")
]
Profile = Annotated[
    str, typer.Option(help="smoke, demo, small, paper, or a TOML file with what it changes.")
]
Variants = Annotated[
    str,
    typer.Option(
        help="Rows of the table, with commas, e.g. mse,epm; table3, figure5, factorial, all."
    ),
]
Splits = Annotated[
    str, typer.Option(help="dev1, dev2 (two seeded languages held out), dev2:fr+it, dev2:all.")
]
Seeds = Annotated[str, typer.Option(help="Whole numbers: 0,1,2 or 0-4.")]
EncoderName = Annotated[
    str, typer.Option(help="bundled, a Hugging Face Hub id, or a folder. [default: the profile's]")
]
Experiment = Annotated[
    str, typer.Option(help="MLflow experiment. [default: ablation, or the one of mlflow run]")
]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="Override a field, e.g. loss.tau=0.1; repeatable.")
]
Fresh = Annotated[
    str, typer.Option(help="true trains again what had finished before.", metavar="true|false")
]
Measure = Annotated[
    bool | None,
    typer.Option(
        "--measure/--no-measure",
        help="Measure a few steps anew, or leave time and memory out. [default: measure what no earlier plan has]",
        show_default=False,
    ),
]
TrackingUri = Annotated[
    str | None, typer.Option(help="MLflow store. [default: $MLFLOW_TRACKING_URI, or ./mlflow.db]")
]


def true_or_false(option: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise UsageError(f"{option} {text!r}: say true or false")
    return text.lower() == "true"
