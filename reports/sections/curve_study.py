"""The curve study: losses, signs of Eq. 9 and temperatures trained on the same batches, and what they say of Section 4.2.

A run of it belongs to a condition. Two conditions are compared over the seeds that both have.
Intervals are Student's over seeds; p values are corrected by Holm over a claim's conditions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from scipy import stats

from ablation.config.variants import VARIANTS
from reports.analysis import inference as st
from reports.analysis.collect import Experiment, StoredRun, StoredSuite
from reports.analysis.groups import study_key
from reports.analysis.verdicts import SYNTHETIC
from reports.rendering.tables import Cell, Column, Mark, Table, interval_text, number
from reports.sections.curves import Curve, read_curves
from reports.sections.origin import run_cell

MARKS: Final[dict[str, Mark]] = {
    "supported": "good",
    "not supported": "bad",
    "not decidable": "unsure",
}
_SIGNS: Final = {"as_printed": "as printed", "attract": "attract"}


@dataclass(frozen=True, order=True)
class Contrast:
    """How Eq. 9 is read and at which temperature."""

    sign: str
    tau: float

    def __str__(self) -> str:
        return f"Eq. 9 {_SIGNS[self.sign]}, τ = {self.tau:g}"


@dataclass(frozen=True)
class Condition:
    """What was trained: a loss (mse or epm), with Eq. 9 or without."""

    regression: str
    contrast: Contrast | None = None

    def __str__(self) -> str:
        name = self.regression.upper()
        return f"{name} + CL ({self.contrast})" if self.contrast else name


Curves = Mapping[Condition, Mapping[int, Curve]]


@dataclass(frozen=True)
class CurveStudy:
    """The newest study of an experiment with the runs that it may be compared with; `others` differ in their settings."""

    curves: Curves
    newest: StoredSuite | None
    others: int
    synthetic: bool

    @property
    def runs(self) -> tuple[StoredRun, ...]:
        return tuple(curve.run for by_seed in self.curves.values() for curve in by_seed.values())

    @cached_property
    def contrasts(self) -> list[Contrast]:
        return sorted(
            {c.contrast for c in self.curves if c.contrast},
            key=lambda c: (list(_SIGNS).index(c.sign), c.tau),
        )

    @cached_property
    def verdicts(self) -> list["Verdict"]:
        return [verdict for claim in CLAIMS for verdict in judge(claim, self)]


@dataclass(frozen=True)
class Claim:
    """A claim of Section 4.2: that `quantity` of a seed is below -`margin`; given the study's curves, a seed and a contrast.

    A margin is the least that a reader would call by the claim's word: many seeds tell any trifle from zero.
    """

    id: str
    text: str
    where: str
    unit: str
    quantity: Callable[[Curves, int, Contrast | None], float]
    of_contrasts: bool
    margin: float = 0.0


def _less(
    better: str, worse: str, quantity: str, *, with_contrast: tuple[bool, bool]
) -> Callable[..., float]:
    """The quantity of `better` minus that of `worse` for a seed; NaN where one of them has no curve."""

    def difference(curves: Curves, seed: int, contrast: Contrast | None) -> float:
        pair = [
            curves.get(Condition(regression, contrast if has else None), {}).get(seed)
            for regression, has in zip((better, worse), with_contrast, strict=True)
        ]
        if pair[0] is None or pair[1] is None:
            return float("nan")
        return float(getattr(pair[0], quantity) - getattr(pair[1], quantity))

    return difference


def _cancelling(regression: str) -> Callable[..., float]:
    """The norm of the terms' sum against the regression term's own, in the same run."""

    def mean(curves: Curves, seed: int, contrast: Contrast | None) -> float:
        curve = curves.get(Condition(regression, contrast), {}).get(seed)
        return float("nan") if curve is None else curve.gradient_cancelling

    return mean


#: Half or twice, as a power of ten.
_FACTOR_2: Final = float(np.log10(2))
_BOTH: Final = (True, True)
_NEITHER: Final = (False, False)
#: What Section 4.2 says of Figures 4 and 5, as a quantity that is claimed to be below zero.
CLAIMS: Final = (
    Claim(
        "faster",
        "EPM converges faster than MSE on the training data.",
        "4.2, Figure 4",
        "steps to 90%",
        _less("epm", "mse", "steps_to_converge", with_contrast=_NEITHER),
        False,
    ),
    Claim(
        "smoother",
        "EPM's curve is smoother than MSE's.",
        "4.2, Figure 4",
        "roughness",
        _less("epm", "mse", "roughness", with_contrast=_NEITHER),
        False,
    ),
    Claim(
        "slower",
        "With CL on top, EPM converges more slowly than alone.",
        "4.2, Figure 5",
        "steps to 90%, EPM − (EPM + CL)",
        _less("epm", "epm", "steps_to_converge", with_contrast=(False, True)),
        True,
    ),
    Claim(
        "cancelling",
        "The gradients of MSE and CL add up to a small amount.",
        "4.2",
        "log10 of the sum's norm by the MSE term's own",
        _cancelling("mse"),
        True,
        _FACTOR_2,
    ),
    Claim(
        "vanishing",
        "Adding CL makes MSE's gradient vanish.",
        "4.2",
        "log10 of the sum's norm, (MSE + CL) − MSE",
        _less("mse", "mse", "gradient_magnitude", with_contrast=(True, False)),
        True,
        _FACTOR_2,
    ),
    Claim(
        "amplified",
        "EPM's penalty amplifies the gradient of the sum.",
        "4.2",
        "log10 of the sum's norm, (MSE + CL) − (EPM + CL)",
        _less("mse", "epm", "gradient_magnitude", with_contrast=_BOTH),
        True,
        _FACTOR_2,
    ),
)
COLLAPSE: Final = "With MSE + CL the training Pearson collapses; with EPM + CL it does not."


@dataclass(frozen=True)
class Verdict:
    """One claim under one condition: mean over seeds, interval, Holm's p, and what follows."""

    claim: Claim
    contrast: Contrast | None
    mean: float
    interval: st.Interval
    p: float
    seeds: int
    outcome: str
    why: str
    runs: tuple[str, ...]


def find_study(experiment: Experiment) -> CurveStudy | None:
    """The curves of the newest study's settings; a later run replaces an earlier one of its place. None without any."""
    finished = [run for run in experiment.curves if run.status == "FINISHED"]
    if not finished:
        return None
    newest = experiment.curve_studies[-1] if experiment.curve_studies else None
    key = study_key(finished[-1])
    mine = [run for run in finished if study_key(run) == key]
    found: dict[Condition, dict[int, Curve]] = {}
    for curve in read_curves(experiment, mine):
        found.setdefault(_condition(curve.run), {})[curve.run.seed] = curve
    return CurveStudy(found, newest, len(finished) - len(mine), any(run.synthetic for run in mine))


def judge(claim: Claim, study: CurveStudy) -> list[Verdict]:
    """The claim under each condition that it speaks of."""
    contrasts: list[Contrast | None] = [*study.contrasts] if claim.of_contrasts else [None]
    seeds = sorted({seed for by_seed in study.curves.values() for seed in by_seed})
    values = [
        np.array([claim.quantity(study.curves, seed, contrast) for seed in seeds])
        for contrast in contrasts
    ]
    known = [each[np.isfinite(each)] for each in values]
    adjusted = st.holm([_p(each + claim.margin) for each in known])
    return [
        _verdict(claim, contrast, each, p, study)
        for contrast, each, p in zip(contrasts, known, adjusted, strict=True)
    ]


def verdict_table(study: CurveStudy) -> Table:
    """Each claim of Section 4.2 under each condition, and the collapses."""
    rows = [
        (
            Cell(v.claim.text),
            Cell(v.claim.where),
            Cell(str(v.contrast) if v.contrast else "no CL"),
            Cell(v.claim.unit),
            number(v.mean, 3, signed=True, runs=v.runs),
            Cell(interval_text(v.interval.low, v.interval.high, 3)),
            number(v.p, 3),
            Cell(v.outcome, mark=MARKS[v.outcome]),
            Cell(v.why),
        )
        for v in study.verdicts
    ]
    for contrast in study.contrasts:
        outcome, why, runs = collapses(study, contrast)
        place = (
            Cell(COLLAPSE),
            Cell("4.2, Figure 5"),
            Cell(str(contrast)),
            Cell("runs that collapsed"),
        )
        rows.append(
            (
                *place,
                Cell("–"),
                Cell("–"),
                Cell("–"),
                Cell(outcome, mark=MARKS[outcome]),
                Cell(why, runs=runs),
            )
        )
    heads = (
        Column("the paper says"),
        Column("where"),
        Column("condition"),
        Column("measured"),
        Column("mean", True),
        Column("95% over seeds"),
        Column("p (Holm)", True),
        Column("these runs"),
        Column("why"),
    )
    notes = (
        "Claimed: that what is measured is below zero; for gradients, which are given as powers of ten, below −0.301, a factor of"
        " two. Paired by seed; same batches, same initial weights. p: t test over seeds against that bound, corrected over a"
        " claim's conditions; intervals are not. Gradients: with respect to the encoder's trained parameters, before clipping,"
        " mean over the logging points.",
    )
    return Table(
        "curve_verdicts",
        "The training curves against Section 4.2",
        heads,
        tuple(rows),
        notes,
        wide=True,
        widths=(19, 8, 12, 12, 7, 11, 6, 10, 15),
    )


def curve_table(study: CurveStudy) -> Table:
    """Each condition in numbers, means over seeds."""
    rows = []
    for condition, by_seed in study.curves.items():
        each, runs = list(by_seed.values()), tuple(curve.run.run_id for curve in by_seed.values())
        figures = (
            ("final", 3),
            ("steps_to_converge", 0),
            ("roughness", 4),
            ("gradient_regression", 3),
            ("gradient_contrastive", 3),
            ("gradient_sum", 3),
            ("gradient_cosine", 3),
        )
        collapsed = [
            f"seed {seed} at step {c.collapse}"
            for seed, c in by_seed.items()
            if c.collapse is not None
        ]
        rows.append(
            (
                Cell(str(condition)),
                Cell(str(len(each)), len(each)),
                *(
                    number(_mean([getattr(c, name) for c in each]), digits, runs=runs)
                    for name, digits in figures
                ),
                Cell(", ".join(collapsed) or "none"),
            )
        )
    heads = (
        Column("condition"),
        Column("seeds", True),
        Column("final", True),
        Column("steps to 90%", True),
        Column("roughness", True),
        Column("regression", True, "gradient norm"),
        Column("CL", True, "gradient norm"),
        Column("their sum", True, "gradient norm"),
        Column("cosine", True),
        Column("collapses"),
    )
    notes = (
        "Means over seeds; gradient norms are means over logging points. CL's counts with its weight in Eq. 10.",
    )
    return Table(
        "curve_conditions", "The study's curves in numbers", heads, tuple(rows), notes, wide=True
    )


def runs_table(experiment: Experiment, study: CurveStudy) -> Table:
    """The runs behind the study's numbers."""
    rows = [
        (
            run_cell(experiment, curve.run, anchor=True),
            Cell(str(condition)),
            Cell(str(seed), seed),
            Cell(curve.run.split),
            Cell(curve.run.started[:16].replace("T", " ")),
            number(curve.final, 3, runs=(curve.run.run_id,)),
            number(curve.steps_to_converge, 0, runs=(curve.run.run_id,)),
            number(curve.roughness, 4, runs=(curve.run.run_id,)),
            Cell("none" if curve.collapse is None else f"step {curve.collapse}"),
        )
        for condition, by_seed in study.curves.items()
        for seed, curve in by_seed.items()
    ]
    heads = (
        Column("run"),
        Column("condition"),
        Column("seed", True),
        Column("split"),
        Column("started (UTC)"),
        Column("final", True),
        Column("steps to 90%", True),
        Column("roughness", True),
        Column("collapse"),
    )
    return Table(
        "curve_runs",
        "The study's runs",
        heads,
        tuple(rows),
        wide=True,
        widths=(9, 33, 6, 8, 15, 7, 11, 9, 9),
    )


def collapses(study: CurveStudy, contrast: Contrast) -> tuple[str, str, tuple[str, ...]]:
    """Outcome, why, and the runs: whether MSE + CL fell below zero after having learned, and EPM + CL did not."""
    mse, epm = (study.curves.get(Condition(loss, contrast), {}) for loss in ("mse", "epm"))
    counts = [sum(c.collapse is not None for c in side.values()) for side in (mse, epm)]
    runs = tuple(c.run.run_id for side in (mse, epm) for c in side.values())
    said = f"MSE + CL {counts[0]} of {len(mse)}, EPM + CL {counts[1]} of {len(epm)}"
    if study.synthetic:
        return "not decidable", f"{said}; {SYNTHETIC}", runs
    if min(len(mse), len(epm)) < st.FEW_RUNS:
        return "not decidable", f"{said}; too few runs", runs
    return ("supported" if counts[0] and not counts[1] else "not supported"), said, runs


def as_json(study: CurveStudy) -> list[dict[str, Any]]:
    """The verdicts as the tracking store keeps them."""
    found = [
        {
            "claim": v.claim.text,
            "where": v.claim.where,
            "id": v.claim.id,
            "measured": v.claim.unit,
            "condition": str(v.contrast) if v.contrast else None,
            "mean": _finite(v.mean),
            "low": _finite(v.interval.low),
            "high": _finite(v.interval.high),
            "p_holm": _finite(v.p),
            "seeds": v.seeds,
            "outcome": v.outcome,
            "why": v.why,
            "runs": list(v.runs),
        }
        for v in study.verdicts
    ]
    for contrast in study.contrasts:
        outcome, why, runs = collapses(study, contrast)
        found.append(
            {
                "claim": COLLAPSE,
                "where": "4.2, Figure 5",
                "id": "collapse",
                "condition": str(contrast),
                "outcome": outcome,
                "why": why,
                "runs": list(runs),
            }
        )
    return found


def _verdict(
    claim: Claim, contrast: Contrast | None, values: np.ndarray, p: float, study: CurveStudy
) -> Verdict:
    mean = float(values.mean()) if len(values) else float("nan")
    interval = st.seed_interval(values)
    outcome, why = "not decidable", ""
    if not len(values):
        why = "not both sides have curves that can be measured"
    elif study.synthetic:
        why = SYNTHETIC
    elif len(values) < st.FEW_RUNS:
        why = f"{len(values)} seed{'s' * (len(values) > 1)}: too few"
    elif not p < st.ALPHA:
        why = f"{len(values)} seeds don't tell it from {'a factor of two' if claim.margin else 'zero'}"
    elif mean < -claim.margin:
        outcome, why = "supported", "by more than a factor of two" if claim.margin else "below zero"
    else:
        outcome, why = (
            "not supported",
            "by less than a factor of two, if at all" if claim.margin else "the opposite holds",
        )
    behind = (
        by_seed
        for condition, by_seed in study.curves.items()
        if condition.contrast in (contrast, None)
    )
    runs = (
        tuple(curve.run.run_id for by_seed in behind for curve in by_seed.values())
        if len(values)
        else ()
    )
    return Verdict(claim, contrast, mean, interval, p, len(values), outcome, why, runs)


def _p(values: np.ndarray) -> float:
    """Student's t test against zero; NaN below two values; 0 where all are one value other than zero, to rounding."""
    if len(values) < 2:
        return float("nan")
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        return 1.0 if values[0] == 0 else 0.0
    return float(stats.ttest_1samp(values, 0.0).pvalue)


def _condition(run: StoredRun) -> Condition:
    changes = VARIANTS[run.variant].changes
    sign = str(changes["loss.contrastive"])
    contrast = None if sign == "none" else Contrast(sign, float(run.params["loss.tau"]))
    return Condition(str(changes["loss.regression"]), contrast)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
