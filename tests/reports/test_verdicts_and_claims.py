"""What may be said of an estimate, and of the paper's claims."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from reports.analysis import inference as st
from reports.analysis.measures import MISSING, TEST, Estimate, EvalSubset
from reports.analysis.verdicts import judge_cell, judge_effect
from reports.sections.comparisons import by_seed, few_seeds, steps
from reports.sections.paper_claims import CLAIMS, printed_effect, rule
from tests.reports.conftest import Made


def estimate(mean: float, half: float, seeds: int = 3, p: float = 0.5) -> Estimate:
    """A mean with an interval over rows and seeds (over rows alone for one seed)."""
    interval = st.Interval(mean - half, mean + half)
    both = (
        st.Combined(interval, half / 2, p)
        if seeds > 1
        else st.Combined(st.NO_INTERVAL, float("nan"), float("nan"))
    )
    return replace(
        MISSING, mean=mean, seeds=tuple(range(seeds)), over_rows=interval, both=both, p_rows=p
    )


@pytest.mark.parametrize(
    ("found", "printed", "p", "verdict", "why"),
    [
        (estimate(0.02, 0.005), 0.02, 0.001, "reproduced", "on the paper's side of zero"),
        (estimate(0.01, 0.005), 0.07, 0.001, "reproduced", "smaller than the paper's \\+7.00"),
        (estimate(-0.02, 0.005), -0.03, 0.001, "reproduced", "on the paper's side"),
        (estimate(-0.02, 0.005), 0.02, 0.001, "not reproduced", "the other way"),
        (estimate(0.0, 0.01), 0.07, 0.9, "not reproduced", "excludes the paper's \\+7.00"),
        (estimate(0.01, 0.05), 0.02, 0.7, "underpowered", "holds both no effect and the paper's"),
        (estimate(0.03, 0.02), 0.02, 0.2, "underpowered", "not after Holm's correction"),
        (estimate(0.02, 0.001, seeds=1), 0.02, 0.001, "underpowered", "one seed"),
        (MISSING, 0.02, float("nan"), "missing", "not every run"),
        (estimate(0.02, 0.005), float("nan"), 0.001, "not comparable", "prints no figure"),
    ],
)
def test_effects(found: Estimate, printed: float, p: float, verdict: str, why: str) -> None:
    judged = judge_effect(found, printed, p, comparable=True)
    assert judged.verdict == verdict
    assert pytest.importorskip("re").search(why, judged.why)


@pytest.mark.parametrize(
    ("found", "printed", "verdict"),
    [
        (estimate(0.69, 0.01), 0.6866, "reproduced"),
        (estimate(0.65, 0.01), 0.6866, "not reproduced"),
        (estimate(0.69, 0.03), 0.6866, "underpowered"),
        (estimate(0.69, 0.01, seeds=1), 0.6866, "underpowered"),
        (estimate(0.65, 0.01, seeds=1), 0.6866, "not reproduced"),
        (MISSING, 0.6866, "missing"),
    ],
)
def test_cells(found: Estimate, printed: float, verdict: str) -> None:
    assert judge_cell(found, printed, comparable=True).verdict == verdict


def test_synthetic_data_decide_nothing() -> None:
    assert judge_cell(estimate(0.69, 0.01), 0.69, comparable=False).verdict == "not comparable"
    assert (
        judge_effect(estimate(0.02, 0.001), 0.02, 0.001, comparable=False).verdict
        == "not comparable"
    )


class TestClaims:
    def test_each_is_ruled_on_in_a_sentence(self, table_3: Made) -> None:
        found = table_3.find()
        rulings = {r.claim.text: r for r in rule(found.measured, comparable=True)}
        assert len(rulings) == len(CLAIMS)
        epm = rulings["EPM beats MSE on both validation sets."]
        assert epm.outcome == "supported"  # the runs were made so
        assert epm.sentence.startswith("Supported: every effect")
        assert "95% over rows and seeds" in epm.sentence
        cl = rulings["CL on top of EPM gains about two points on unseen languages."]
        assert cl.outcome in ("not supported", "not decidable")  # they were made without an effect
        baseline = rulings[
            "The ensemble is about seven points (seen) and five (unseen) above the task's baseline."
        ]
        assert baseline.outcome == "not decidable"
        assert "nothing on test seen and test unseen" in baseline.sentence

    def test_without_test_labels_dev2s_held_out_languages_stand_in(
        self, experiment: Callable[..., Made]
    ) -> None:
        made = experiment(noise={"epm": 0.6, "epm+cl": 0.5}, labelled=False, rows=30)
        ruling = next(
            r
            for r in rule(made.find().measured, comparable=True)
            if r.claim.text.startswith("CL on top")
        )
        assert "points on Dev2 unseen" in ruling.sentence

    def test_what_stands_in_refutes_nothing(self, experiment: Callable[..., Made]) -> None:
        # CL does harm on Dev2's unseen languages; the paper's claim is about the test rows' unseen ones.
        made = experiment(noise={"epm": 0.2, "epm+cl": 2.0}, labelled=False, rows=60)
        ruling = next(
            r
            for r in rule(made.find().measured, comparable=True)
            if r.claim.text.startswith("CL on top")
        )
        assert ruling.estimates[0].interval.high < 0
        assert ruling.outcome == "not decidable"
        assert "Dev2 unseen only stands in for test unseen" in ruling.sentence

    def test_one_seed_decides_nothing(self, experiment: Callable[..., Made]) -> None:
        made = experiment(noise={"mse": 2.0, "epm": 0.1}, seeds=(0,), rows=30)
        assert {r.outcome for r in rule(made.find().measured, comparable=True)} == {"not decidable"}

    def test_every_claims_figure_is_in_the_papers_table(self) -> None:
        for claim in CLAIMS:
            for part in claim.parts:
                ours_only = part.measures[0].place == "dev1" and "ensemble" in part.weights
                assert ours_only or np.isfinite(printed_effect(part.weights, part.measures[0])), (
                    claim.text
                )


def test_steps_are_corrected_together(table_3: Made) -> None:
    found = steps(table_3.find().measured, comparable=True)
    assert all(s.holm >= s.estimate.p for s in found if s.estimate.exists)
    epm = next(
        s for s in found if (s.worse, s.better, s.measure) == ("mse", "epm", EvalSubset(TEST))
    )
    assert epm.estimate.exists
    assert (
        epm.judgement.verdict == "not comparable"
    )  # the paper prints no overall score for these rows
    baseline = next(s for s in found if s.worse == "baseline")
    assert baseline.judgement.verdict == "missing"


def test_what_few_seeds_can_prove() -> None:
    assert "p = 0.0625: seeds alone prove nothing here; it takes 6" in few_seeds(5)
    assert few_seeds(6).endswith("p = 0.03125.")


def test_p_values_are_listed_by_seed_while_they_can_be_read() -> None:
    assert by_seed([0.5, float("nan"), 0.0312]) == "0.500, 0.031"
    assert by_seed([float("nan")]) == "–"
    assert by_seed([0.01 * i for i in range(1, 12)]) == "median 0.060 of 11, 0.010 to 0.110"
