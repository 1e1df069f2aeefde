"""Compare the whole demo ablation in one command with its runs started one by one."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ablation.bench.subprocesses import run_command
from ablation.bench.table import Row
from ablation.config.variants import TABLE_3
from ablation.tracking.store import open_store

TARGET: Final = 0.6
SPLITS: Final = ("dev1", "dev2")


def measure_suite(
    data: str, profile: str, rounds: int, variants: str = "table3", splits: Sequence[str] = SPLITS
) -> list[Row]:
    """Return the seconds of the whole over the sum of the single commands'.

    Whole and single commands have their own stores and state folders.

    Args:
        data: The corpus.
        profile: The profile.
        rounds: The number of measurements.
        variants: The variants, with commas.
        splits: The splits.
    """
    rows = TABLE_3.select(variants.split(","))
    single = [name for name in rows if not TABLE_3.variants[name].combines_runs]
    wholes, sums = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            wholes.append(
                _seconds(Path(folder) / "whole", data, profile, [(variants, ",".join(splits))])
            )
            one_by_one = [(variant, split) for split in splits for variant in single]
            sums.append(_seconds(Path(folder) / "single", data, profile, one_by_one))
    parts = {"whole_s": wholes, "one_by_one_s": sums}
    ratio = tuple(whole / total for whole, total in zip(wholes, sums, strict=True))
    what = "the whole demo ablation against its runs started one by one"
    whole = "the whole demo ablation (Table 3 on both splits, no report)"
    return [
        Row("suite", what, ratio, "x", "at most", TARGET, parts=parts),
        Row("suite", whole, tuple(wholes), "s"),
    ]


def _seconds(folder: Path, data: str, profile: str, commands: Sequence[tuple[str, str]]) -> float:
    """Return the seconds of the commands for (variants, splits), one after the other."""
    folder.mkdir()
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    open_store(uri)  # creates the tables, which are not measured
    return sum(
        run_command(
            [
                "run",
                "--data",
                data,
                "--profile",
                profile,
                "--variants",
                variants,
                "--splits",
                splits,
                "--report",
                "false",
            ],
            folder,
            uri,
        )
        for variants, splits in commands
    )
