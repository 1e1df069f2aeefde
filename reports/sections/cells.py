"""Make the table cells that several sections share."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd

from reports.analysis.collect import Experiment, StoredRun
from reports.analysis.curves import Curve
from reports.analysis.estimates import Estimate
from reports.analysis.inference import Interval
from reports.analysis.verdicts import Assessment
from reports.rendering.tables import EMPTY, Cell, interval_text, number

#: Smaller p values are not told apart.
LEAST_P: Final = 0.001
#: Characters of an id or a hash that a page shows.
SHORT: Final = 8


def quoted_text(row: pd.Series) -> str:
    """Return the text of a row of the corpus, of a pair both."""
    texts = [str(row["text"]), *([str(row["second_text"])] if "second_text" in row else [])]
    return " | ".join(texts)


def percent_cell(value: float, estimate: Estimate | None = None) -> Cell:
    """Return a correlation times 100."""
    return number(100 * value, runs=estimate.runs if estimate else ())


def difference_cell(value: float, estimate: Estimate | None = None) -> Cell:
    """Return a difference of correlations times 100, with its sign."""
    return number(100 * value, signed=True, runs=estimate.runs if estimate else ())


def interval_cell(interval: Interval, estimate: Estimate | None = None) -> Cell:
    """Return an interval of correlations times 100; its value is the lower end."""
    text = interval_text(100 * interval.low, 100 * interval.high)
    value = 100 * interval.low if text != EMPTY.text else None
    return Cell(text, value, runs=estimate.runs if estimate else ())


def p_cell(value: float) -> Cell:
    """Return a p value to three digits; a dash for one that does not exist."""
    if np.isfinite(value) and value < LEAST_P:
        return Cell(f"< {LEAST_P:g}", value)
    return number(value, 3)


def unit_cell(estimate: Estimate) -> Cell:
    """Return the things that the estimate's interval ranges over."""
    return Cell(estimate.unit.replace(" and ", ", ") or EMPTY.text)


def run_cell(experiment: Experiment, run: StoredRun, *, anchor: bool = False) -> Cell:
    """Return a run's shortened id that links to its page.

    With `anchor`, numbers that come from the run lead here.
    """
    return Cell(
        run.run_id[:SHORT],
        runs=(run.run_id,),
        anchor=run.run_id if anchor else "",
        link=experiment.run_url(run.run_id),
    )


def collapses_text(by_seed: Mapping[int, Curve]) -> str:
    """List the seeds whose training collapsed, with the step."""
    collapses = {seed: curve.collapse for seed, curve in by_seed.items()}
    listed = [f"seed {seed} at step {c}" for seed, c in collapses.items() if c is not None]
    return ", ".join(listed) or "none"


def why(assessment: Assessment) -> str:
    """Return a verdict's reason and, if it is undecided, what would decide it."""
    if not assessment.need:
        return assessment.reason
    return f"{assessment.reason}; to decide: {assessment.need}"


def time_text(moment: str) -> str:
    """Write an ISO 8601 time to the minute; a dash for an empty one."""
    return moment[:16].replace("T", " ") or EMPTY.text


def finite_mean(values: Sequence[float]) -> float:
    """Return the mean of the values that exist; NaN without any."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
