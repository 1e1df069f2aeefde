"""Compare two experiments, groups of runs or variants, and write the table.

`reports.analysis.head_to_head` has the rules.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from ablation.core.errors import UsageError
from ablation.core.files import write_atomically
from ablation.core.suggest import did_you_mean
from ablation.tracking.store import find_experiment
from reports.analysis import inference
from reports.analysis.collect import open_store_that_exists
from reports.analysis.groups import Group, differing
from reports.analysis.head_to_head import HeadToHead, Side, compare_sides
from reports.analysis.inputs import ReportInputs
from reports.analysis.selection import FLATTERED, are_flattered
from reports.build import ReportRequest, quiet, read_inputs
from reports.seal import count_reading

FILES: Final = ("compare.csv", "compare.json")
_COLUMNS: Final = (
    "first",
    "second",
    "on",
    "rows",
    "paired_on",
    "seeds_first",
    "seeds_second",
    "score_first",
    "score_second",
    "difference",
    "low",
    "high",
    "p",
    "p_holm",
    "why",
)


@dataclass(frozen=True)
class CompareRequest:
    """Two sides to compare.

    Attributes:
        first, second: Each an experiment, `EXPERIMENT#2` (its second group of runs, as in a
            report), `EXPERIMENT:VARIANT`, `EXPERIMENT#2:VARIANT`, or a variant of `experiment`.
        experiment: Where variants without an experiment are looked up.
        tracking_uri: The store; the environment's by default.
    """

    first: str
    second: str
    experiment: str = "ablation"
    tracking_uri: str | None = None


@dataclass(frozen=True)
class ComparedSide:
    """A side as it was found: its group of runs, and its variant unless all are compared."""

    text: str
    inputs: ReportInputs
    variant: str | None

    @property
    def group(self) -> Group:
        return self.inputs.group


@dataclass(frozen=True)
class CompareResult:
    """Both sides with every comparison that could be asked for."""

    sides: tuple[ComparedSide, ComparedSide]
    comparisons: tuple[HeadToHead, ...]
    test_readings: tuple[str, ...] = ()

    @property
    def differ_in(self) -> list[str]:
        """Settings, data, encoder or code in which the sides' groups of runs differ."""
        return differing([side.group for side in self.sides])

    @property
    def notes(self) -> list[str]:
        """Return what has to be known to read the table, a sentence each."""
        notes = [
            "Pearson × 100, means over seeds. The interval is for other rows of these languages"
            " and other seeds (for other rows alone with one seed). Holm's p is over all lines.",
        ]
        if any(
            c.estimate.exists
            and are_flattered((side.variant,), c.subset, side.measurements.group.table)
            for c in self.comparisons
            for side in (c.first, c.second)
        ):
            notes.append(f"An ensemble's development rows are no test of it: {FLATTERED}.")
        if self.differ_in:
            notes.append(f"The runs of A and B differ in: {', '.join(self.differ_in)}.")
        sources = [side.inputs.measurements.test_from for side in self.sides]
        if sources[0] != sources[1]:
            notes.append(f"Test columns: models of {sources[0]} (A) and of {sources[1]} (B).")
        pooled = [s.inputs.measurements for s in self.sides]
        if any(len(measurements.test_splits) > 1 for measurements in pooled):
            averaged = " and ".join(dict.fromkeys(m.tested_models for m in pooled))
            notes.append(
                "Here every split stands by itself; a report's test columns average over the"
                f" models of {averaged}."
            )
        return [*notes, *self.test_readings]

    def to_frame(self) -> pd.DataFrame:
        """Return one row a comparison; scores, differences and bounds are correlations.

        `p_holm` is Holm's over all p of the table. `why` says why there is no difference, or no
        interval.
        """
        p = np.array([c.estimate.p for c in self.comparisons])
        adjusted = np.full(len(p), np.nan)
        if np.isfinite(p).any():
            adjusted[np.isfinite(p)] = inference.holm(p[np.isfinite(p)])
        rows = [_row(c, h) for c, h in zip(self.comparisons, adjusted, strict=True)]
        return pd.DataFrame(rows, columns=_COLUMNS)


def compare(request: CompareRequest) -> CompareResult:
    """Compare two sides, `second` minus `first`, on every column of Table 3 that both have.

    Raises:
        UsageError: A side is unknown, the sides are the same, or nothing of them matches.
    """
    if request.first == request.second:
        raise UsageError(f"{request.first!r} against itself: name two sides")
    first, second = _find_sides(request)
    pairs = _pairs(first, second)
    columns = list(
        dict.fromkeys(
            (
                *first.inputs.measurements.single_columns,
                *second.inputs.measurements.single_columns,
            )
        )
    )
    comparisons = tuple(
        compare_sides(
            Side(first.inputs.measurements, a), Side(second.inputs.measurements, b), subset
        )
        for a, b in pairs
        for subset in columns
    )
    if not any(c.estimate.exists for c in comparisons):
        reasons = dict.fromkeys(f"{c.subset}: {c.obstacle}" for c in comparisons)
        raise UsageError(
            f"{first.text!r} and {second.text!r} can't be compared: {'; '.join(reasons)}"
        )
    experiments = {s.inputs.experiment.name: s.inputs.experiment for s in (first, second)}
    counted = [count_reading(experiment, "compare") for experiment in experiments.values()]
    return CompareResult((first, second), comparisons, tuple(filter(None, counted)))


def write_comparison(result: CompareResult, folder: Path) -> list[Path]:
    """Write the table as CSV and JSON; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    frame = result.to_frame()
    content = {
        "first": result.sides[0].text,
        "second": result.sides[1].text,
        "differ_in": result.differ_in,
        "comparisons": json.loads(frame.to_json(orient="records")),
    }
    files = [folder / name for name in FILES]
    write_atomically(files[0], frame.to_csv(index=False), durable=False)
    write_atomically(files[1], json.dumps(content, indent=1) + "\n", durable=False)
    return files


def _find_sides(request: CompareRequest) -> tuple[ComparedSide, ComparedSide]:
    """Find both sides; each group of runs is read once."""
    store = open_store_that_exists(request.tracking_uri)

    @cache
    def inputs_of(experiment: str, group: int) -> ReportInputs:
        asked = ReportRequest(experiment, request.tracking_uri, group=group)
        return read_inputs(asked, quiet)

    def is_experiment(name: str) -> bool:
        return bool(name) and find_experiment(store, name) is not None

    sides = [
        _find_side(text, request.experiment, is_experiment, inputs_of)
        for text in (request.first, request.second)
    ]
    return sides[0], sides[1]


def _find_side(
    text: str,
    default: str,
    is_experiment: Callable[[str], bool],
    inputs_of: Callable[[str, int], ReportInputs],
) -> ComparedSide:
    """Read a side's text: an experiment or a variant as a whole, else in its parts."""
    if is_experiment(text):
        return ComparedSide(text, inputs_of(text, 1), None)
    if is_experiment(default) and text in inputs_of(default, 1).group.variants:
        return ComparedSide(text, inputs_of(default, 1), text)
    name, colon, variant = text.rpartition(":")
    if not colon:
        name, variant = text, ""
    group = 1
    if not is_experiment(name):
        name, hash_, number = name.rpartition("#")
        if not (hash_ and number.isdecimal() and is_experiment(name)):
            raise UsageError(f"{text!r}: {_unknown(text, default, is_experiment, inputs_of)}")
        group = int(number)
    inputs = inputs_of(name, group)
    if colon and variant not in inputs.group.variants:
        hint = did_you_mean(variant, inputs.group.variants)
        raise UsageError(f"{text!r}: no finished run of variant {variant!r}; {hint}")
    return ComparedSide(text, inputs, variant if colon else None)


def _unknown(
    text: str,
    default: str,
    is_experiment: Callable[[str], bool],
    inputs_of: Callable[[str, int], ReportInputs],
) -> str:
    if not is_experiment(default):
        return f"no such experiment, and none called {default!r} whose variants it could be among"
    hint = did_you_mean(text, inputs_of(default, 1).group.variants)
    return f"neither an experiment nor a variant of {default!r}; {hint}"


def _pairs(first: ComparedSide, second: ComparedSide) -> list[tuple[str, str]]:
    """Return the variants to compare: those named, else all that both sides have."""
    if first.variant and second.variant:
        return [(first.variant, second.variant)]
    named = first.variant or second.variant
    common = [v for v in first.group.variants if v in second.group.variants]
    if named:
        common = [v for v in common if v == named]
    if not common:
        raise UsageError(
            f"{first.text!r} and {second.text!r} have no variant in common: name one on each side,"
            f" such as {first.text.partition(':')[0]}:{first.group.variants[0]}"
        )
    return [(v, v) for v in common]


def _row(found: HeadToHead, holm: float) -> tuple[object, ...]:
    estimate = found.estimate
    interval = estimate.interval
    return (
        found.first.variant,
        found.second.variant,
        str(found.subset),
        estimate.rows,
        found.paired_on,
        *found.seeds,
        *found.means,
        estimate.mean,
        interval.low,
        interval.high,
        estimate.p,
        holm,
        found.obstacle or estimate.obstacle,
    )
