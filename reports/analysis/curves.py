"""Read training curves and compute their speed, smoothness and collapse (Figures 4 and 5).

A curve is the training Pearson at each logging point, pooled over the rows since the point before.
Nothing is smoothed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pandas as pd

from ablation.tracking import names
from reports.analysis.collect import Experiment, StoredRun, read_columns

METRIC: Final = "train/pearson"
#: "Converged" is this share of the final Pearson.
CONVERGED: Final = 0.9
#: Section 4.2's collapse: below zero after having been above this.
HAD_LEARNED: Final = 0.3


@dataclass(frozen=True)
class Curve:
    """One run's training Pearson.

    Attributes:
        run: The run.
        step: (points,), rising optimizer steps.
        pearson: (points,).
        gradients: A row for each step at which they were measured, a column for each of
            `names.GRADIENTS` without its prefix; empty but for the runs of a curve study.
    """

    run: StoredRun
    step: np.ndarray
    pearson: np.ndarray
    gradients: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def final(self) -> float:
        """Mean of the last tenth of the points; NaN without any."""
        if not len(self.pearson):
            return float("nan")
        return float(self.pearson[-max(1, len(self.pearson) // 10) :].mean())

    @property
    def steps_to_converge(self) -> float:
        """First step at 90% of the final Pearson or above; NaN if that is not above zero."""
        if not self.final > 0:
            return float("nan")
        return float(self.step[np.argmax(self.pearson >= CONVERGED * self.final)])

    @property
    def roughness(self) -> float:
        """Mean absolute second difference of the points; NaN below three points."""
        if len(self.pearson) < 3:
            return float("nan")
        return float(np.abs(np.diff(self.pearson, 2)).mean())

    @property
    def collapse(self) -> int | None:
        """Step at which it fell below zero after having exceeded 0.3; None if it never did."""
        if not len(self.pearson):
            return None
        learned = np.maximum.accumulate(self.pearson) > HAD_LEARNED
        fell = np.flatnonzero(learned & (self.pearson < 0))
        return int(self.step[fell[0]]) if len(fell) else None

    @property
    def gradient_regression(self) -> float:
        """Mean norm of the regression term's gradient; NaN if not measured, like the others."""
        return self._mean("regression")

    @property
    def gradient_contrastive(self) -> float:
        """Mean norm of the contrastive term's gradient, with its weight in Eq. 10."""
        return self._mean("contrastive")

    @property
    def gradient_cosine(self) -> float:
        """Mean cosine between the two terms' gradients, in [-1, 1]."""
        return self._mean("cosine")

    @property
    def gradient_sum(self) -> float:
        """Mean norm of the sum of the two terms' gradients."""
        return self._mean("sum")

    @property
    def gradient_magnitude(self) -> float:
        """Mean of log10 of the norm of the terms' sum: a mean of norms sees only the largest."""
        if "sum" not in self.gradients:
            return float("nan")
        return _mean_log10(self.gradients["sum"])

    @property
    def gradient_cancelling(self) -> float:
        """Mean of log10 of the sum's norm by the regression term's: below 0 where CL cancels it."""
        if not {"sum", "regression"} <= set(self.gradients):
            return float("nan")
        return _mean_log10(self.gradients["sum"] / self.gradients["regression"])

    def _mean(self, name: str) -> float:
        values = self.gradients[name].dropna() if name in self.gradients else pd.Series(dtype=float)
        return float(values.mean()) if len(values) else float("nan")


def _mean_log10(values: pd.Series) -> float:
    positive = values[values > 0].to_numpy(float)
    return float(np.log10(positive).mean()) if len(positive) else float("nan")


def read_curves(experiment: Experiment, runs: Sequence[StoredRun]) -> list[Curve]:
    """Return the curves of the runs that tracked one."""
    points = read_columns(experiment, runs, names.CURVES, ("step", "name", "value"))
    curves = []
    for run in runs:
        if run.run_id in points:
            columns = points[run.run_id]
            name = columns["name"].astype(object)
            step, value = (columns[column][name == METRIC] for column in ("step", "value"))
            order = np.argsort(step, kind="stable")
            curves.append(
                Curve(run, step[order], value[order].astype(np.float64), _gradients(columns, name))
            )
    return curves


def _gradients(columns: Mapping[str, np.ndarray], name: np.ndarray) -> pd.DataFrame:
    """Return the gradients' points of the curves, whose names are `name`, by step and norm."""
    # Most runs have none, and to look for each name in an array of objects takes long.
    present = set(name.tolist()).intersection(names.GRADIENTS)
    if not present:
        return pd.DataFrame()
    frame = pd.DataFrame({**columns, "name": name})
    wide = frame[np.isin(name, list(present))].pivot(index="step", columns="name", values="value")
    return wide.rename(columns=_without_prefix)


def _without_prefix(name: str) -> str:
    return name.rpartition("/")[2]


def curves_by_variant(curves: Sequence[Curve], split: str) -> dict[str, dict[int, Curve]]:
    """Return the curves of one split by variant, then by seed."""
    by_variant: dict[str, dict[int, Curve]] = {}
    for curve in curves:
        if curve.run.split == split:
            by_variant.setdefault(curve.run.variant, {})[curve.run.seed] = curve
    return by_variant


def mean_curve(curves: Sequence[Curve]) -> pd.Series:
    """Return the mean over runs at the steps that all of them logged."""
    return mean_of([pd.Series(curve.pearson, index=curve.step) for curve in curves])


def mean_of(series: Sequence[pd.Series]) -> pd.Series:
    """Return the mean of several series at the steps that all of them have."""
    if not series:
        return pd.Series(dtype=float)
    return pd.concat(series, axis=1, join="inner").mean(axis=1)
