"""Training curves: how fast, how smooth, and whether they collapse (Figures 4 and 5).

A curve is the training Pearson at each logging point, pooled over the rows since the point before.
Nothing is smoothed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pandas as pd

from ablation.config.variants import VARIANTS
from ablation.tracking import names
from reports.analysis import inference as st
from reports.analysis.collect import Experiment, StoredRun, read_tables
from reports.rendering.tables import Cell, Column, Table, number

METRIC: Final = "train/pearson"
#: "Converged" is this share of the final Pearson, which is the mean over the last tenth of the points.
CONVERGED: Final = 0.9
#: Section 4.2's collapse: below zero after having been above this.
HAD_LEARNED: Final = 0.3


@dataclass(frozen=True)
class Curve:
    """One run's training Pearson: `step` and `pearson` (points,), rising steps.

    `gradients` has a row for each step at which they were measured (`names.GRADIENTS`, without the
    prefix): a curve study's runs have them, others have none.
    """

    run: StoredRun
    step: np.ndarray
    pearson: np.ndarray
    gradients: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def final(self) -> float:
        return (
            float(self.pearson[-max(1, len(self.pearson) // 10) :].mean())
            if len(self.pearson)
            else float("nan")
        )

    @property
    def steps_to_converge(self) -> float:
        """The first logged step at or above 90% of the final Pearson; NaN if that is not above zero."""
        if not self.final > 0:
            return float("nan")
        return float(self.step[np.argmax(self.pearson >= CONVERGED * self.final)])

    @property
    def roughness(self) -> float:
        """Mean absolute second difference of the points; NaN below three points."""
        return (
            float(np.abs(np.diff(self.pearson, 2)).mean())
            if len(self.pearson) > 2
            else float("nan")
        )

    @property
    def collapse(self) -> int | None:
        """The step at which it fell below zero after having exceeded 0.3; None if it never did."""
        learned = (
            np.maximum.accumulate(self.pearson) > HAD_LEARNED
            if len(self.pearson)
            else np.empty(0, bool)
        )
        fell = np.flatnonzero(learned & (self.pearson < 0))
        return int(self.step[fell[0]]) if len(fell) else None

    @property
    def gradient_regression(self) -> float:
        """Mean norm of the regression term's gradient; NaN where it was not measured, as with the others."""
        return self._mean("regression")

    @property
    def gradient_contrastive(self) -> float:
        return self._mean("contrastive")

    @property
    def gradient_cosine(self) -> float:
        """Mean cosine between the two terms' gradients, in [-1, 1]."""
        return self._mean("cosine")

    @property
    def gradient_sum(self) -> float:
        return self._mean("sum")

    @property
    def gradient_magnitude(self) -> float:
        """Mean of log10 of the norm of their sum: norms fall by powers of ten, and a mean of them sees only the largest."""
        norms = self.gradients["sum"].to_numpy(float) if "sum" in self.gradients else np.empty(0)
        return float(np.log10(norms[norms > 0]).mean()) if (norms > 0).any() else float("nan")

    @property
    def gradient_cancelling(self) -> float:
        """Mean of log10 of the sum's norm by the regression term's own: 0 where CL adds nothing, below where it cancels."""
        if not {"sum", "regression"} <= set(self.gradients):
            return float("nan")
        ratio = (self.gradients["sum"] / self.gradients["regression"]).to_numpy(float)
        return float(np.log10(ratio[ratio > 0]).mean()) if (ratio > 0).any() else float("nan")

    def _mean(self, name: str) -> float:
        values = self.gradients[name].dropna() if name in self.gradients else pd.Series(dtype=float)
        return float(values.mean()) if len(values) else float("nan")


@dataclass(frozen=True)
class CurveClaim:
    """A claim about `better` against `worse`; `quantity` is an attribute of `Curve`, smaller is what is claimed."""

    text: str
    where: str
    worse: str
    better: str
    quantity: str
    unit: str


CLAIMS: Final = (
    CurveClaim(
        "EPM converges faster than MSE in training.",
        "4.2, Figure 4",
        "mse",
        "epm",
        "steps_to_converge",
        "steps",
    ),
    CurveClaim(
        "EPM's training curve is smoother than MSE's.",
        "4.2, Figure 4",
        "mse",
        "epm",
        "roughness",
        "of Pearson",
    ),
    CurveClaim(
        "CL slows the early training down.",
        "4.2, Figure 5",
        "epm+cl",
        "epm",
        "steps_to_converge",
        "steps",
    ),
)


def read_curves(experiment: Experiment, runs: Sequence[StoredRun]) -> list[Curve]:
    """The curves of the runs that tracked one."""
    frames = read_tables(experiment, runs, names.CURVES)
    curves = []
    for run in runs:
        frame = frames[run.run_id]
        if frame is not None:
            name = frame["name"].to_numpy(dtype=object)
            step, value = (frame[column].to_numpy()[name == METRIC] for column in ("step", "value"))
            order = np.argsort(step, kind="stable")
            curves.append(
                Curve(run, step[order], value[order].astype(np.float64), _gradients(frame, name))
            )
    return curves


def _gradients(frame: pd.DataFrame, name: np.ndarray) -> pd.DataFrame:
    """The points of `frame`, whose names are `name`, that are of gradients: one row a step, one column a norm."""
    measured = np.isin(name, names.GRADIENTS)
    if not measured.any():
        return pd.DataFrame()
    return (
        frame[measured]
        .pivot(index="step", columns="name", values="value")
        .rename(columns=_without_prefix)
    )


def _without_prefix(name: str) -> str:
    return name.rpartition("/")[2]


def by_variant(curves: Sequence[Curve], split: str) -> dict[str, dict[int, Curve]]:
    """Variant to seed to curve, for one split."""
    found: dict[str, dict[int, Curve]] = {}
    for curve in curves:
        if curve.run.split == split:
            found.setdefault(curve.run.variant, {})[curve.run.seed] = curve
    return found


def mean_curve(curves: Sequence[Curve]) -> pd.Series:
    """The mean over runs at the steps that all of them logged."""
    series = [pd.Series(curve.pearson, index=curve.step) for curve in curves]
    return (
        pd.concat(series, axis=1, join="inner").mean(axis=1) if series else pd.Series(dtype=float)
    )


@dataclass(frozen=True)
class Difference:
    """Paired by seed, `better` minus `worse`: the mean, Student's interval over seeds, and how many seeds."""

    mean: float
    interval: st.Interval
    seeds: int


def compare(curves: Mapping[str, Mapping[int, Curve]], claim: CurveClaim) -> Difference:
    """The claim's quantity, paired by seed; NaN where a variant has no curve."""
    a, b = curves.get(claim.worse, {}), curves.get(claim.better, {})
    values = np.array(
        [
            getattr(b[s], claim.quantity) - getattr(a[s], claim.quantity)
            for s in sorted(a.keys() & b.keys())
        ]
    )
    values = values[np.isfinite(values)]
    if not len(values):
        return Difference(float("nan"), st.NO_INTERVAL, 0)
    return Difference(float(values.mean()), st.seed_interval(values), len(values))


def rule(
    claim: CurveClaim, difference: Difference, *, comparable: bool, why_not: str
) -> tuple[str, str]:
    """Outcome and one sentence: supported, not supported or not decidable."""
    if not difference.seeds:
        return "not decidable", "Not decidable with these runs: not both variants have curves."
    interval = difference.interval
    said = f"Measured: {difference.mean:+.4g} {claim.unit}".replace("-", "−")
    if np.isfinite(interval.low):
        said += f" (95% over {difference.seeds} seeds: {interval.low:.4g} to {interval.high:.4g})".replace(
            "-", "−"
        )
    if not comparable:
        return "not decidable", f"Not decidable with these runs: {why_not}. {said}."
    if difference.seeds < 2:
        return "not decidable", f"Not decidable with these runs: one seed. {said}."
    if interval.high < 0:
        return "supported", f"Supported: {said}."
    if interval.low > 0:
        return "not supported", f"Not supported: the opposite holds. {said}."
    return (
        "not decidable",
        f"Not decidable with these runs: the interval over seeds holds zero. {said}.",
    )


def rule_on_collapse(
    curves: Mapping[str, Mapping[int, Curve]], *, comparable: bool, why_not: str
) -> tuple[str, str]:
    """Figure 5: training collapses with MSE + CL, and does not with EPM + CL."""
    counts = {
        v: (sum(c.collapse is not None for c in curves.get(v, {}).values()), len(curves.get(v, {})))
        for v in ("mse+cl", "epm+cl")
    }
    (mse, of_mse), (epm, of_epm) = counts["mse+cl"], counts["epm+cl"]
    said = f"MSE + CL collapsed in {mse} of {of_mse} runs, EPM + CL in {epm} of {of_epm}"
    if not of_mse or not of_epm:
        return (
            "not decidable",
            f"Not decidable with these runs: not both variants have curves ({said}).",
        )
    if not comparable:
        return "not decidable", f"Not decidable with these runs: {why_not}. {said}."
    if mse and not epm:
        outcome = "supported" if min(of_mse, of_epm) >= st.FEW_RUNS else "not decidable"
    else:
        outcome = "not supported" if min(of_mse, of_epm) >= st.FEW_RUNS else "not decidable"
    start = {
        "supported": "Supported",
        "not supported": "Not supported",
        "not decidable": "Not decidable with so few runs",
    }[outcome]
    return outcome, f"{start}: {said}."


def table(by_variant: Mapping[str, Mapping[int, Curve]]) -> Table:
    """Each variant's curves in numbers, means over seeds."""
    rows = []
    for variant, by_seed in by_variant.items():
        runs = tuple(curve.run.run_id for curve in by_seed.values())
        each = list(by_seed.values())
        collapses = [
            f"seed {seed} at step {c.collapse}"
            for seed, c in by_seed.items()
            if c.collapse is not None
        ]
        rows.append(
            (
                Cell(VARIANTS[variant].title if variant in VARIANTS else variant),
                Cell(str(len(each)), len(each)),
                number(float(np.mean([c.final for c in each])), 3, runs=runs),
                number(float(np.mean([c.steps_to_converge for c in each])), 0, runs=runs),
                number(float(np.mean([c.roughness for c in each])), 4, runs=runs),
                Cell(", ".join(collapses) or "none"),
            )
        )
    heads = (
        Column("Method"),
        Column("seeds", True),
        Column("final", True),
        Column("steps to 90%", True),
        Column("roughness", True),
        Column("collapses"),
    )
    note = (
        "Means over seeds. Final: mean of the last tenth of the points. Roughness: mean absolute second difference. Collapse:"
        f" below zero after having exceeded {HAD_LEARNED}."
    )
    return Table("curves", "Training curves in numbers", heads, tuple(rows), (note,))
