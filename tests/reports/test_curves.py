"""Speed, smoothness and collapse of training curves, by hand."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from reports.analysis.claim_verdicts import assess_curve_claims
from reports.analysis.collect import StoredRun
from reports.analysis.curves import Curve, mean_curve
from reports.analysis.replication import Verdict
from tests.reports.conftest import Made

RISING, FALLING = [0.4, 0.5, 0.6], [0.4, 0.5, -0.1]


def curve(pearson: list[float], seed: int = 0, **gradients: list[float]) -> Curve:
    run = StoredRun(f"run {seed}", "mse", "dev1", seed, "FINISHED", "", "", {}, {}, "")
    steps = 10 * np.arange(1, len(pearson) + 1)
    return Curve(run, steps, np.array(pearson), pd.DataFrame(gradients))


def by_seed(*pearsons: list[float]) -> dict[int, Curve]:
    return {seed: curve(pearson, seed) for seed, pearson in enumerate(pearsons)}


def test_the_final_pearson_is_the_mean_of_the_last_tenth() -> None:
    assert curve([*[0.1] * 18, 0.6, 0.8]).final == pytest.approx(0.7)
    assert curve([0.1, 0.8]).final == 0.8
    assert np.isnan(curve([]).final)


def test_convergence_is_the_first_step_at_90_percent_of_the_end() -> None:
    assert curve([0.1, 0.5, 0.71, 0.6, 0.75, 0.8]).steps_to_converge == 50
    assert curve([0.1, 0.9, 1.0]).steps_to_converge == 20
    assert curve([0.9, 0.2, 0.8]).steps_to_converge == 10
    assert np.isnan(curve([0.3, -0.2]).steps_to_converge)


def test_roughness_is_the_mean_absolute_second_difference() -> None:
    assert curve([0.1, 0.2, 0.3, 0.4]).roughness == pytest.approx(0)
    assert curve([0.0, 1.0, 0.0]).roughness == 2
    assert curve([0.0, 1.0, 0.0, 0.0]).roughness == 1.5
    assert np.isnan(curve([0.0, 1.0]).roughness)


@pytest.mark.parametrize(
    ("points", "step"),
    [
        ([0.2, 0.4, -0.1, 0.3], 30),
        ([0.2, 0.4, 0.1, -0.1, -0.2], 40),
        ([0.2, 0.4, 0.0], None),
        ([0.2, -0.4, 0.4], None),
        ([0.4, 0.1], None),
        ([0.3, -0.1], None),
        ([], None),
    ],
)
def test_a_collapse_is_below_zero_after_having_exceeded_three_tenths(
    points: list[float], step: int | None
) -> None:
    assert curve(points).collapse == step


def test_gradients_are_averaged_by_norm_and_by_power_of_ten() -> None:
    found = curve([], regression=[1.0, 100.0], sum=[0.1, 1.0], cosine=[-1.0, 0.0])
    assert found.gradient_regression == pytest.approx(50.5)
    assert found.gradient_sum == pytest.approx(0.55)
    assert found.gradient_cosine == pytest.approx(-0.5)
    assert found.gradient_magnitude == pytest.approx(-0.5)
    assert found.gradient_cancelling == pytest.approx((-1 - 2) / 2)
    assert np.isnan(found.gradient_contrastive)


def test_the_mean_is_over_the_steps_that_all_have() -> None:
    mean = mean_curve([curve([0.0, 0.2, 0.4]), curve([0.2, 0.4])])
    assert mean.to_dict() == pytest.approx({10: 0.1, 20: 0.3})


class TestClaims:
    """Claims about the ablation's own curves, compared seed by seed."""

    slow = by_seed(*([0.1] * (8 - s % 3) + [0.8] * (2 + s % 3) for s in range(9)))
    fast = by_seed(*([0.8] * 10 for _ in range(9)))

    def verdict(
        self, claim: str, mse: dict[int, Curve], epm: dict[int, Curve], obstacle: str = ""
    ) -> Verdict:
        return assess_curve_claims({"mse": mse, "epm": epm}, obstacle)[claim].verdict

    def test_faster_is_decided_by_nine_seeds_that_agree(self) -> None:
        assert self.verdict("faster", self.slow, self.fast) == Verdict.REPLICATED
        assert self.verdict("faster", self.fast, self.slow) == Verdict.OPPOSITE
        assert self.verdict("faster", self.fast, self.fast) == Verdict.UNDECIDED

    def test_differences_are_paired_by_seed(self) -> None:
        lengths = range(10, 46, 4)
        mse = by_seed(*([0.1] * n + [0.8] * (50 - n) for n in lengths))
        epm = by_seed(*([0.1] * (n - 2) + [0.8] * (52 - n) for n in lengths))
        assert self.verdict("faster", mse, epm) == Verdict.REPLICATED
        shuffled = {seed: epm[(seed + 4) % 9] for seed in epm}
        assert self.verdict("faster", mse, shuffled) == Verdict.UNDECIDED

    def test_two_seeds_that_are_equal_decide_nothing(self) -> None:
        two = (dict.fromkeys((0, 1), self.slow[0]), dict.fromkeys((0, 1), self.fast[0]))
        assert self.verdict("faster", *two) == Verdict.UNDECIDED

    def test_one_seed_synthetic_data_and_a_missing_side_decide_nothing(self) -> None:
        one = {0: self.slow[0]}, {0: self.fast[0]}
        assert self.verdict("faster", *one) == Verdict.UNDECIDED
        assert self.verdict("faster", self.slow, self.fast, "other data") == Verdict.NOT_COMPARABLE
        assert self.verdict("faster", self.slow, {}) == Verdict.MISSING
        assert self.verdict("faster", {}, {}) == Verdict.MISSING

    def test_claims_about_gradients_are_left_to_curve_studies(self) -> None:
        assert assess_curve_claims({}, "").keys() == {
            "faster",
            "smoother",
            "slower",
            "collapse",
        }

    @pytest.mark.parametrize(
        ("mse", "epm", "verdict"),
        [
            ([FALLING] * 6, [RISING] * 6, Verdict.REPLICATED),
            ([RISING] * 6, [FALLING] * 6, Verdict.OPPOSITE),
            ([FALLING, RISING, RISING], [RISING] * 3, Verdict.UNDECIDED),
            ([RISING] * 3, [RISING] * 3, Verdict.UNDECIDED),
            ([FALLING] * 5, [RISING] * 5, Verdict.UNDECIDED),
            ([FALLING] * 3, [], Verdict.MISSING),
        ],
    )
    def test_collapses_are_counted(
        self, mse: list[list[float]], epm: list[list[float]], verdict: Verdict
    ) -> None:
        curves = {"mse+cl": by_seed(*mse), "epm+cl": by_seed(*epm)}
        assert assess_curve_claims(curves, "")["collapse"].verdict == verdict


def test_stored_curves_are_read_unsmoothed(experiment: Callable[..., Made]) -> None:
    points = np.array([0.1, 0.9, -0.3, 0.7])
    curves = (
        experiment(
            noise={"mse": 0.5},
            splits=("dev1",),
            seeds=(0,),
            rows=10,
            curves=lambda variant, seed: points,
        )
        .inputs()
        .curves
    )
    assert curves["mse"][0].pearson == pytest.approx(points)
    assert curves["mse"][0].collapse == 3
