"""Verdicts on cells and effects, from estimates made up by hand."""

import numpy as np
import pytest

from reports.analysis import inference
from reports.analysis.measures import MISSING, TEST, Estimate, EvalSubset
from reports.analysis.steps import compute_steps
from reports.analysis.verdicts import (
    Assessment,
    Verdict,
    assess_cell,
    assess_effect,
    combine_verdicts,
)
from reports.rendering.marks import MARKS
from reports.sections.significance import few_seeds, list_by_seed
from tests.reports.conftest import Made

REPRODUCED, REFUTED, UNDECIDED = (
    Verdict.REPRODUCED,
    Verdict.NOT_REPRODUCED,
    Verdict.UNDECIDED,
)


def estimate(mean: float, half: float, seeds: int = 3) -> Estimate:
    """Return a mean with an interval over rows and seeds (over rows alone for one seed)."""
    interval = inference.Interval(mean - half, mean + half)
    nothing = inference.Combined(inference.NO_INTERVAL, float("nan"), float("nan"))
    both = inference.Combined(interval, half / 2, 0.5) if seeds > 1 else nothing
    ids = tuple(range(seeds))
    return Estimate(mean, seeds=ids, over_rows=interval, both=both, p_rows=0.5)


@pytest.mark.parametrize(
    ("measured", "printed", "p", "verdict"),
    [
        (estimate(0.02, 0.005), 0.02, 0.001, REPRODUCED),
        (estimate(0.01, 0.005), 0.07, 0.001, REPRODUCED),  # smaller, but on the paper's side
        (estimate(-0.02, 0.005), -0.03, 0.001, REPRODUCED),
        (estimate(-0.02, 0.005), 0.02, 0.001, REFUTED),  # the other way
        (estimate(0.02, 0.005), -0.02, 0.001, REFUTED),
        (estimate(0.0, 0.01), 0.07, 0.9, REFUTED),  # excludes the paper's effect
        (estimate(0.0, 0.01), -0.07, 0.9, REFUTED),
        (estimate(0.01, 0.05), 0.02, 0.7, UNDECIDED),  # holds zero and the paper's effect
        (estimate(0.03, 0.02), 0.02, 0.2, UNDECIDED),  # not after Holm's correction
        (estimate(0.03, 0.02), 0.02, 0.0501, UNDECIDED),
        (estimate(0.03, 0.02), 0.02, 0.0499, REPRODUCED),
        (estimate(0.02, 0.001, seeds=1), 0.02, 0.001, UNDECIDED),
        (estimate(-0.02, 0.001, seeds=1), 0.02, 0.001, UNDECIDED),
        (MISSING, 0.02, float("nan"), Verdict.MISSING),
        (estimate(0.02, 0.005), float("nan"), 0.001, Verdict.NOT_COMPARABLE),
    ],
)
def test_effects(measured: Estimate, printed: float, p: float, verdict: Verdict) -> None:
    assessment = assess_effect(measured, printed, p, comparable=True)
    assert assessment.verdict == verdict
    assert assessment.reason
    assert (assessment.estimate, assessment.p) == (measured, p) or np.isnan(p)


@pytest.mark.parametrize(
    ("measured", "printed", "verdict"),
    [
        (estimate(0.69, 0.01), 0.6866, REPRODUCED),
        (estimate(0.69, 0.0199), 0.6866, REPRODUCED),  # two points to either side at most
        (estimate(0.69, 0.0201), 0.6866, UNDECIDED),
        (estimate(0.65, 0.01), 0.6866, REFUTED),
        (estimate(0.72, 0.01), 0.6866, REFUTED),
        (estimate(0.69, 0.01, seeds=1), 0.6866, UNDECIDED),
        (estimate(0.65, 0.01, seeds=1), 0.6866, REFUTED),
        (estimate(0.69, float("nan")), 0.6866, UNDECIDED),
        (estimate(0.69, 0.01), float("nan"), Verdict.NOT_COMPARABLE),
        (MISSING, 0.6866, Verdict.MISSING),
    ],
)
def test_cells(measured: Estimate, printed: float, verdict: Verdict) -> None:
    assert assess_cell(measured, printed, comparable=True).verdict == verdict


def test_the_reason_says_how_far_off_a_cell_is() -> None:
    below, above = (
        assess_cell(estimate(mean, 0.01), 0.6866, comparable=True) for mean in (0.65, 0.72)
    )
    assert "2.66 points" in below.reason
    assert "2.34 points" in above.reason


def test_synthetic_data_decide_nothing() -> None:
    cell = assess_cell(estimate(0.69, 0.01), 0.69, comparable=False)
    effect = assess_effect(estimate(0.02, 0.001), 0.02, 0.001, comparable=False)
    assert cell.verdict == effect.verdict == Verdict.NOT_COMPARABLE


@pytest.mark.parametrize(
    ("parts", "verdict", "reason"),
    [
        ([REPRODUCED, REPRODUCED], REPRODUCED, "all hold"),
        ([REPRODUCED, REFUTED], REFUTED, "1"),
        ([UNDECIDED, REFUTED], REFUTED, "1"),
        ([REPRODUCED, UNDECIDED], UNDECIDED, "1"),
        ([Verdict.MISSING, UNDECIDED], UNDECIDED, "0"),
        ([REPRODUCED, Verdict.MISSING], UNDECIDED, "1"),
        ([Verdict.MISSING, Verdict.MISSING], Verdict.MISSING, "0"),
        ([Verdict.MISSING, Verdict.NOT_COMPARABLE], Verdict.NOT_COMPARABLE, "1"),
    ],
)
def test_a_claim_holds_if_all_its_parts_do(
    parts: list[Verdict], verdict: Verdict, reason: str
) -> None:
    assessments = [Assessment(part, str(i)) for i, part in enumerate(parts)]
    assert combine_verdicts(assessments, "all hold") == (verdict, reason)


def test_every_verdict_has_a_mark() -> None:
    assert MARKS.keys() == set(Verdict)


def test_steps_are_corrected_together(table_3: Made) -> None:
    steps = compute_steps(table_3.inputs().measurements, comparable=True)
    existing = [s for s in steps if s.estimate.exists]
    expected = inference.holm([s.estimate.p for s in existing])
    assert [s.assessment.p for s in existing] == pytest.approx(expected)
    assert sum(s.assessment.p > s.estimate.p for s in existing) > len(existing) / 2
    epm = next(
        s for s in steps if (s.worse, s.better, s.subset) == ("mse", "epm", EvalSubset(TEST))
    )
    # The paper prints no overall score for these rows.
    assert epm.assessment.verdict == Verdict.NOT_COMPARABLE
    baseline = next(s for s in steps if s.worse == "baseline")
    assert baseline.assessment.verdict == Verdict.MISSING
    assert "Baseline: no runs" in baseline.assessment.reason


def test_five_seeds_prove_nothing_on_their_own_and_six_can() -> None:
    assert "0.0625" in few_seeds(5)
    assert "6 are needed" in few_seeds(5)
    assert "needed" not in few_seeds(6)


def test_p_values_are_listed_by_seed_while_they_can_be_read() -> None:
    assert list_by_seed([0.5, float("nan"), 0.0312]) == "0.500, 0.031"
    assert list_by_seed([float("nan")]) == "–"
    assert list_by_seed([0.01 * i for i in range(1, 12)]) == "median 0.060 of 11, 0.010 to 0.110"
