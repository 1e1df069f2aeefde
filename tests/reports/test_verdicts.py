"""Verdicts on cells, effects and claims: what each of the audit's findings asks of them."""

from dataclasses import replace

import numpy as np
import pytest

from reports.analysis.claims import SCORE_CLAIMS, SCORE_FAMILY, SINGLE_MODELS
from reports.analysis.comparability import compare_with_paper
from reports.analysis.estimates import MISSING, Estimate
from reports.analysis.measures import compute_measurements
from reports.analysis.predictions import AlignedPredictions
from reports.analysis.replication import Verdict
from reports.analysis.steps import STEP_FAMILY, Step, compute_steps
from reports.analysis.subsets import TEST, EvalSubset
from reports.analysis.variance_components import Component, Uncertainty
from reports.analysis.verdicts import (
    Assessment,
    assess_cell,
    assess_effect,
    combine_assessments,
)
from reports.contents import compose
from reports.rendering.marks import MARKS
from reports.rendering.tables import Table
from reports.sections.components import order_table
from reports.sections.results import CELL_FAMILY
from reports.sections.significance import few_seeds, steps_table
from tests.reports.conftest import Made


def estimate(mean: float, error: float, *, seeds: int = 5, cell: bool = False) -> Estimate:
    """Return a mean over seeds with this standard error, most of it the rows'."""
    parts = (("rows", 0.9, 1000.0), ("seeds", 0.1, seeds - 1.0))
    components = tuple(
        Component(name, np.asarray(share * error**2), np.asarray(df))  # type: ignore[arg-type]
        for name, share, df in parts
    )
    return Estimate(
        mean,
        seeds=tuple(range(seeds)),
        per_seed=np.full(seeds, mean),
        rows=1000,
        labels=20,
        weights=(1.0,) if cell else (1.0, -1.0),
        uncertainty=Uncertainty(components),
    )


def effect(measured: Estimate, printed: float, kind: str = "sign") -> Verdict:
    return assess_effect(measured, printed, SCORE_FAMILY, kind=kind).verdict  # type: ignore[arg-type]


def test_a_claim_of_size_is_not_judged_by_its_sign() -> None:
    """Finding 2: +0.88 and +2.52 points are no "about two and seven points"."""
    seen, unseen = estimate(0.0088, 0.0016), estimate(0.0252, 0.003)
    assert effect(seen, 0.0235, "sign") == Verdict.REPLICATED
    assert effect(seen, 0.0235, "size") != Verdict.REPLICATED
    assert effect(unseen, 0.0746, "size") == Verdict.SMALLER
    kinds = {claim.id: claim.kind for claim in SCORE_CLAIMS}
    assert kinds["epm-on-test"] == "size"
    assert kinds["epm-beats-mse"] == "sign"


def test_no_effect_and_opposite_are_verdicts_of_their_own() -> None:
    assert effect(estimate(0.0, 0.001), 0.02) == Verdict.NO_EFFECT
    assert effect(estimate(-0.02, 0.002), 0.02) == Verdict.OPPOSITE
    assert effect(estimate(0.01, 0.02), 0.02) == Verdict.UNDECIDED
    assert effect(MISSING, 0.02) == Verdict.MISSING
    assert effect(estimate(0.01, 0.001), float("nan")) == Verdict.NOT_COMPARABLE


def test_no_verdict_depends_on_what_else_was_run(table_3: Made) -> None:
    """Finding 4: fewer variants leave every remaining verdict and p as it was."""
    inputs = table_3.inputs()
    two = replace(
        inputs.group, runs=tuple(r for r in inputs.group.runs if r.variant in ("mse", "epm"))
    )
    few = compute_measurements(inputs.experiment, two)
    steps = {(s.worse, s.better, s.subset): s.assessment for s in inputs.steps}
    alone = [s for s in compute_steps(few, "") if s.estimate.exists]
    assert alone
    for step in alone:
        other = steps[step.worse, step.better, step.subset]
        assert (step.assessment.verdict, step.assessment.reason) == (other.verdict, other.reason)
        assert step.assessment.p == pytest.approx(other.p, nan_ok=True)
        assert other.p == pytest.approx(min(1.0, STEP_FAMILY.size * step.estimate.p), nan_ok=True)


def test_one_seed_yields_no_verdict_whatever_its_interval() -> None:
    """Finding 5."""
    assert effect(estimate(0.02, 0.0001, seeds=1), 0.02) == Verdict.UNDECIDED
    cell = estimate(0.40, 0.001, seeds=1, cell=True)
    assert assess_cell(cell, 0.6866, CELL_FAMILY, "").verdict == Verdict.UNDECIDED


def test_a_cell_is_compared_by_where_a_second_experiment_would_fall() -> None:
    def verdict(mean: float, error: float) -> Verdict:
        return assess_cell(estimate(mean, error, cell=True), 0.6866, CELL_FAMILY, "").verdict

    assert verdict(0.69, 0.008) == Verdict.REPLICATED
    assert verdict(0.60, 0.008) == Verdict.SMALLER
    assert verdict(0.78, 0.008) == Verdict.LARGER
    assert verdict(0.69, 0.02) == Verdict.UNDECIDED
    other = assess_cell(estimate(0.69, 0.008, cell=True), 0.6866, CELL_FAMILY, "another encoder")
    assert (other.verdict, other.reason) == (Verdict.NOT_COMPARABLE, "another encoder")


def test_the_ensemble_is_compared_with_every_single_model() -> None:
    """Finding 11."""
    (claim,) = [claim for claim in SCORE_CLAIMS if claim.id == "ensemble-best"]
    assert {next(v for v, w in e.weights.items() if w < 0) for e in claim.effects} == {
        *SINGLE_MODELS
    }
    assert len(claim.effects) == 2 * len(SINGLE_MODELS)


def test_an_undecided_effect_says_what_would_decide_it_rows_included() -> None:
    """Finding 14: on few rows, no number of seeds helps."""
    assessment = assess_effect(estimate(0.01, 0.02), 0.02, SCORE_FAMILY)
    assert "no number of seeds suffices" in assessment.need


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        ([Verdict.REPLICATED, Verdict.REPLICATED], Verdict.REPLICATED),
        ([Verdict.REPLICATED, Verdict.SMALLER], Verdict.SMALLER),
        ([Verdict.UNDECIDED, Verdict.OPPOSITE], Verdict.OPPOSITE),
        ([Verdict.REPLICATED, Verdict.UNDECIDED], Verdict.UNDECIDED),
        ([Verdict.REPLICATED, Verdict.MISSING], Verdict.UNDECIDED),
        ([Verdict.MISSING, Verdict.MISSING], Verdict.MISSING),
        ([Verdict.MISSING, Verdict.NOT_COMPARABLE], Verdict.NOT_COMPARABLE),
    ],
)
def test_a_claim_holds_if_all_its_parts_do(parts: list[Verdict], verdict: Verdict) -> None:
    assessments = [Assessment(part, str(i)) for i, part in enumerate(parts)]
    assert combine_assessments(assessments, "all hold").verdict == verdict


def test_every_verdict_has_a_mark() -> None:
    assert MARKS.keys() == set(Verdict)


def table_of(made: Made, name: str) -> Table:
    return next(t for t in compose(made.inputs()).tables if t.id == name)


def test_other_data_are_not_held_against_the_paper(table_3: Made) -> None:
    """Finding 1: only the paper's own rows are, and another encoder reproduces no cell."""
    runs = table_3.inputs().group.runs
    assert compare_with_paper(runs).applies
    elsewhere = [replace(run, tags={**run.tags, "ablation.reference": "none"}) for run in runs]
    assert compare_with_paper(elsewhere).obstacle == "the data are not the paper's"
    params = {"model.encoder": "intfloat/multilingual-e5-small"}
    encoder = [replace(run, params={**run.params, **params}) for run in runs if run.params]
    assert compare_with_paper(encoder).applies
    assert compare_with_paper(encoder).cell_obstacle == "another encoder"
    assert "e5-small" in compare_with_paper(encoder).caveat


def test_nothing_that_was_selected_on_its_own_rows_is_bold(table_3: Made) -> None:
    """Finding 6: development rows chose epochs and members."""
    table = table_of(table_3, "table3")
    for row in table.rows:
        for column, cell in zip(table.columns, row, strict=True):
            assert not (column.title.startswith("Dev") and cell.mark)
    assert any(cell.mark == "best" for row in table.rows for cell in row)


def test_claims_show_estimate_interval_rows_seeds_and_the_family_of_p(table_3: Made) -> None:
    """Findings 12 and 18."""
    table = table_of(table_3, "claims")
    titles = [column.title for column in table.columns]
    assert {"estimate", "95%", "rows", "seeds", "p × family"} <= set(titles)
    assert f"{SCORE_FAMILY.size} claims about scores" in table.notes[0]
    first = dict(zip(titles, table.rows[0], strict=True))
    assert (first["rows"].value, first["seeds"].value) == (80, 3)


def sample(languages: list[str], unseen: tuple[str, ...], rows: int) -> AlignedPredictions:
    label = np.linspace(1, 5, rows)
    return AlignedPredictions(
        TEST,
        ("run",),
        np.arange(rows),
        label,
        np.array(languages)[np.arange(rows) % len(languages)],
        label[:, None] + np.random.default_rng(0).normal(size=(rows, 1)),
        unseen,
    )


def test_the_report_scores_seen_languages_where_none_is_unseen_as_the_console_does() -> None:
    assert sample(["en", "fr"], (), 40).subsets == ["all", "seen", "en", "fr"]
    assert sample(["ar", "ko"], ("ar", "ko"), 40).subsets == ["all", "unseen", "ar", "ko"]


def test_two_rows_of_a_language_give_no_interval_and_no_verdict(table_3: Made) -> None:
    inputs = table_3.inputs()
    measurements = inputs.measurements
    small = measurements.cell("epm", EvalSubset(TEST, "ko"))  # 40 rows
    assert np.isfinite(small.mean)
    assert np.isnan(small.interval.low)
    assert small.evidence is None
    assert effect(replace(small, weights=(1.0, -1.0)), 0.02) == Verdict.UNDECIDED


def test_intervals_of_correlations_stay_in_their_range() -> None:
    """Seeds of 0.2 and 0.9 gave [-1176, 1188] points."""
    spread = Estimate(0.55, seeds=(0, 1), per_seed=np.array([0.2, 0.9]), weights=(1.0,))
    assert -1 <= spread.over_seeds.low < spread.over_seeds.high <= 1


def test_five_seeds_prove_nothing_on_their_own_and_six_can() -> None:
    assert "0.0625" in few_seeds(5)
    assert "6 are needed" in few_seeds(5)
    assert "needed" not in few_seeds(6)


def test_an_order_of_effects_is_a_description_and_no_test(table_3: Made) -> None:
    """Finding 17: CL and FT share a side, so that chance does not make all six orders alike."""
    inputs = table_3.inputs()
    table = order_table(inputs.measurements)
    assert [column.title for column in table.columns] == [
        "on",
        "paper's order",
        "our order",
        "orders",
        "signs",
    ]
    assert all(cell.value is None for row in table.rows for cell in row)


def test_a_reason_that_many_steps_share_is_said_once() -> None:
    def step(number: int, reason: str) -> Step:
        measured = estimate(0.01, 0.01)
        assessment = replace(assess_effect(measured, 0.02, STEP_FAMILY), reason=reason)
        return Step("mse", "epm", EvalSubset("dev1"), assessment, f"step {number}")

    steps = [*(step(i, "the rows are few") for i in range(3)), step(3, "another")]
    table = steps_table(steps, STEP_FAMILY, with_paper=True)
    reasons = [row[-1].text for row in table.rows]
    assert reasons == ["–", "–", "–", "another"]
    assert sum("the rows are few" in note for note in table.notes) == 1
