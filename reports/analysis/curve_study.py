"""Assess Section 4.2's claims on a curve study: losses, signs of Eq. 9 and temperatures.

All conditions of a study are trained on the same batches; two are compared over the seeds that both
have. Tests and intervals are exact for few seeds; p values are multiplied by the number of the
paper's claims about curves, under each condition. Of rows that are none of the figures' nothing is
claimed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np

from ablation.config.variants import TABLE_3
from ablation.tracking import names
from reports.analysis.claim_verdicts import (
    assess_collapse,
    assess_curve_claim,
    curve_differences,
)
from reports.analysis.claims import (
    COLLAPSE,
    CURVE_CLAIMS,
    CURVE_FAMILY,
    CollapseClaim,
    CurveClaim,
)
from reports.analysis.collect import Experiment, StoredRun, StoredSuite
from reports.analysis.comparability import compare_with_paper
from reports.analysis.curves import Curve, read_curves
from reports.analysis.groups import study_key
from reports.analysis.verdicts import Assessment

_SIGNS: Final = {"as_printed": "as printed", "attract": "attract"}


@dataclass(frozen=True, order=True)
class Contrast:
    """A reading of Eq. 9: its sign and temperature."""

    sign: str
    tau: float

    def __str__(self) -> str:
        return f"Eq. 9 {_SIGNS[self.sign]}, τ = {self.tau:g}"


@dataclass(frozen=True)
class Condition:
    """A trained combination: a loss (mse or epm), with Eq. 9 or without."""

    regression: str
    contrast: Contrast | None = None

    def __str__(self) -> str:
        name = self.regression.upper()
        return f"{name} + CL ({self.contrast})" if self.contrast else name


@dataclass(frozen=True)
class RowCondition:
    """A row of a table of variants; `tau` is the temperature of its contrastive loss, if any."""

    row: str
    tau: float | None = None

    def __str__(self) -> str:
        return self.row if self.tau is None else f"{self.row} (τ = {self.tau:g})"


class StudyAssessment(NamedTuple):
    """A claim under one contrast; None for claims that are not about Eq. 9."""

    claim: CurveClaim | CollapseClaim
    contrast: Contrast | None
    assessment: Assessment


@dataclass(frozen=True)
class CurveStudy:
    """The newest study of an experiment with the runs that may be compared.

    Attributes:
        curves: Those of the figures, by condition, then by seed.
        rows: Those of other rows, likewise.
        newest: The own run of the newest study of the figures, if known.
        others: Number of finished runs that differ in their settings and are left out.
        obstacle: Why the paper's claims are not decided by these data; empty if they are.
    """

    curves: Mapping[Condition, Mapping[int, Curve]]
    rows: Mapping[RowCondition, Mapping[int, Curve]]
    newest: StoredSuite | None
    others: int
    obstacle: str

    @property
    def conditions(self) -> Mapping[Condition | RowCondition, Mapping[int, Curve]]:
        """All curves by condition, then by seed."""
        pairs: list[tuple[Condition | RowCondition, Mapping[int, Curve]]] = [
            *self.curves.items(),
            *self.rows.items(),
        ]
        return dict(pairs)

    @property
    def runs(self) -> tuple[StoredRun, ...]:
        return tuple(
            curve.run for by_seed in self.conditions.values() for curve in by_seed.values()
        )

    @cached_property
    def contrasts(self) -> list[Contrast]:
        contrasts = {c.contrast for c in self.curves if c.contrast}
        return sorted(contrasts, key=lambda c: (list(_SIGNS).index(c.sign), c.tau))

    def side(self, variant: str, contrast: Contrast | None) -> Mapping[int, Curve]:
        """Return the curves by seed of a variant such as `mse+cl` under a contrast."""
        regression, plus, _ = variant.partition("+")
        return self.curves.get(Condition(regression, contrast if plus else None), {})

    @cached_property
    def assessments(self) -> list[StudyAssessment]:
        """Every claim under every contrast that it speaks of, the collapse last; none of rows."""
        if not self.curves:
            return []
        collapses = [
            StudyAssessment(COLLAPSE, contrast, _assess_collapse(self, contrast))
            for contrast in self.contrasts
        ]
        return [*(a for claim in CURVE_CLAIMS for a in _assess(claim, self)), *collapses]


def find_study(experiment: Experiment) -> CurveStudy | None:
    """Read the curves with the newest study's settings; None if there are none.

    Of runs with the same condition and seed the latest is kept.
    """
    finished = [run for run in experiment.curves if run.status == "FINISHED"]
    if not finished:
        return None
    of_figures = [s for s in experiment.curve_studies if names.VARIANTS_FROM not in s.tags]
    key = study_key(finished[-1])
    runs = [run for run in finished if study_key(run) == key]
    curves: dict[Condition, dict[int, Curve]] = {}
    rows: dict[RowCondition, dict[int, Curve]] = {}
    for curve in read_curves(experiment, runs):
        if _is_of_a_figure(curve.run):
            curves.setdefault(_condition(curve.run), {})[curve.run.seed] = curve
        else:
            rows.setdefault(_row_condition(curve.run), {})[curve.run.seed] = curve
    obstacle = compare_with_paper([run for run in runs if _is_of_a_figure(run)]).obstacle
    newest = of_figures[-1] if of_figures else None
    return CurveStudy(curves, rows, newest, len(finished) - len(runs), obstacle)


def to_json(study: CurveStudy) -> list[dict[str, Any]]:
    """Return the verdicts as the tracking store keeps them."""
    return [
        {
            "claim": claim.text,
            "where": claim.where,
            "id": claim.id,
            "measured": result.subject,
            "condition": str(contrast) if contrast else None,
            "mean": _finite(result.estimate.mean),
            "low": _finite(result.estimate.over_seeds.low),
            "high": _finite(result.estimate.over_seeds.high),
            "p_family": _finite(result.p),
            "family": CURVE_FAMILY.size,
            "seeds": len(result.estimate.seeds),
            "verdict": result.verdict.value,
            "reason": result.reason,
            "runs": list(result.runs),
        }
        for claim, contrast, result in study.assessments
    ]


def _assess(claim: CurveClaim, study: CurveStudy) -> list[StudyAssessment]:
    with_contrast = any("+cl" in variant for variant in claim.variants)
    contrasts: list[Contrast | None] = [*study.contrasts] if with_contrast else [None]
    return [
        StudyAssessment(
            claim,
            contrast,
            assess_curve_claim(
                claim,
                curve_differences(claim, [study.side(v, contrast) for v in claim.variants]),
                study.obstacle,
                _runs_under(study, contrast),
            ),
        )
        for contrast in contrasts
    ]


def _assess_collapse(study: CurveStudy, contrast: Contrast) -> Assessment:
    collapsing, stable = (list(study.side(v, contrast).values()) for v in COLLAPSE.variants)
    return assess_collapse(COLLAPSE, collapsing, stable, study.obstacle)


def _runs_under(study: CurveStudy, contrast: Contrast | None) -> tuple[str, ...]:
    """Return the ids of the runs with this contrast, and of those without any."""
    return tuple(
        curve.run.run_id
        for condition, by_seed in study.curves.items()
        if condition.contrast in (contrast, None)
        for curve in by_seed.values()
    )


def _is_of_a_figure(run: StoredRun) -> bool:
    """Tell if the run's row is one of the figures', also by what it changes."""
    row = TABLE_3.variants.get(run.variant)
    if row is None or row.changes.get("model.frozen_tuning") is not False:
        return False
    # Older runs, which did not record what their row replaced, were of the figures only.
    return run.replaced is None or (
        run.replaced.keys() == row.changes.keys()
        and all(run.params.get(field) == str(value) for field, value in row.changes.items())
    )


def _row_condition(run: StoredRun) -> RowCondition:
    has_tau = run.params.get("loss.contrastive", "none") != "none"
    return RowCondition(run.variant, float(run.params["loss.tau"]) if has_tau else None)


def _condition(run: StoredRun) -> Condition:
    changes = TABLE_3.variants[run.variant].changes
    sign = str(changes["loss.contrastive"])
    contrast = None if sign == "none" else Contrast(sign, float(run.params["loss.tau"]))
    return Condition(str(changes["loss.regression"]), contrast)


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
