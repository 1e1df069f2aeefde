"""The planner of seeds, splits and rows: its sizes, its table, its picture, its refusals."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import ablation
from ablation.cli.main import main
from ablation.core.errors import UsageError
from reports.analysis import planning
from reports.analysis.claims import SCORE_FAMILY, find_claim
from reports.analysis.power import Sources
from reports.analysis.subsets import EvalSubset
from reports.planner import PowerRequest, plan_power, write_plan
from tests.reports.conftest import Made

STATED = {"seed_sd": 2.0, "row_error": 0.6, "rows": 1900}


def rows_of(request: PowerRequest) -> Any:
    return plan_power(request).to_frame().set_index(["claim", "on"])


def test_rows_alone_take_what_the_z_test_takes() -> None:
    """Without seed variance a claimed size is half of the printed one against the family's z."""
    frame = rows_of(PowerRequest(seed_sd=0.0, row_error=0.6, rows=1900, claims=["cl-on-unseen"]))
    row = frame.loc[("cl-on-unseen", "test unseen")]
    assert row["to_show"] == pytest.approx((46.86 - 44.85) / 2)
    z = stats.norm.ppf(1 - SCORE_FAMILY.per_claim / 2) + stats.norm.ppf(0.8)
    expected = 1900 * (z * 0.6 / row["to_show"]) ** 2
    assert np.isnan(row["seeds"] if row["seeds"] is not None else np.nan)
    assert row["rows_needed"] == pytest.approx(expected, rel=0.02)


def test_a_claim_of_several_effects_takes_more_for_each_and_shows_less() -> None:
    frame = rows_of(PowerRequest(**STATED, effect=5.0, claims=["epm-on-test", "cl-on-unseen"]))
    both, alone = frame.loc["epm-on-test"], frame.loc["cl-on-unseen"]
    assert (both["seeds"] > alone["seeds"].iloc[0]).all()
    assert both["power"].tolist() == pytest.approx([alone["power"].iloc[0]] * 2)
    assert (both["claim_power"] < both["power"]).all()


def test_it_is_in_the_api_with_the_same_numbers() -> None:
    request = ablation.PowerRequest(**STATED)
    assert ablation.power(request).to_frame().equals(plan_power(request).to_frame())


def test_a_pilot_gives_its_own_variances_and_rows(table_3: Made) -> None:
    inputs = table_3.inputs()
    source = planning.pilot_variances(inputs.measurements, cautious=False)
    effect = find_claim("ensemble-best").effects[0]  # type: ignore[union-attr]
    variances = source(effect)
    estimate = inputs.measurements.contrast(effect.weights, EvalSubset("test", "seen"))
    assert variances is not None
    assert variances.rows == estimate.rows
    # An ensemble is made of the others' runs, so that its seed variance is its own.
    own = estimate.per_seed.var(ddof=1)
    assert variances.sources.seeds == pytest.approx(own)
    assert variances.sources.seed_df == 2


def test_the_seeds_variance_is_pooled_and_then_better_known(table_3: Made) -> None:
    measurements = table_3.inputs().measurements
    effect = find_claim("cl-on-unseen").effects[0]  # type: ignore[union-attr]
    variances = planning.pilot_variances(measurements, cautious=False)(effect)
    cautious = planning.pilot_variances(measurements)(effect)
    assert variances is not None
    assert cautious is not None
    scores = np.array(
        [
            measurements.cell(v, EvalSubset("test", "unseen")).per_seed
            for v in ("mse", "epm", "epm+cl", "epm+ft", "epm+cl+ft")
        ]
    )
    residual = scores - scores.mean(1, keepdims=True) - scores.mean(0) + scores.mean()
    assert variances.sources.seeds == pytest.approx(2 * np.sum(residual**2) / 8)
    assert variances.sources.seed_df == 8
    factor = 8 / stats.chi2.ppf(0.2, 8)
    assert cautious.sources.seeds == pytest.approx(factor * variances.sources.seeds)


def test_an_effect_that_the_pilot_lacks_is_named(table_3: Made) -> None:
    request = PowerRequest(table_3.name, table_3.uri, claims=["ensemble-over-baseline"])
    with pytest.raises(UsageError, match="no two seeds of both sides"):
        plan_power(request)
    plan = plan_power(PowerRequest(table_3.name, table_3.uri))
    frame = plan.to_frame().set_index("claim")
    assert set(frame.loc["ensemble-over-baseline", "takes"]) == {"not in the pilot"}
    assert not frame.loc["epm-beats-mse", "power"].isna().any()


def test_one_seed_is_no_pilot(experiment: Any) -> None:
    made = experiment(seeds=(0,))
    with pytest.raises(UsageError, match="one seed"):
        plan_power(PowerRequest(made.name, made.uri))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"seed_sd": 2.0}, "take all three"),
        ({"seed_sd": -1.0, "row_error": 0.6, "rows": 100}, "--seed-sd -1"),
        ({**STATED, "seeds": 1}, "--seeds 1"),
        ({**STATED, "effect": 0.0}, "--effect 0"),
        ({**STATED, "target": 1.5}, "--target 1.5"),
        ({**STATED, "claims": ["epm-on-tset"]}, "did you mean 'epm-on-test'"),
        ({**STATED, "claims": ["faster"]}, "about training curves"),
        ({**STATED, "claims": "faster"}, "give a list"),
    ],
)
def test_what_can_not_be_planned_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        plan_power(PowerRequest(**wrong))


def test_table_and_curves_are_written(tmp_path: Path) -> None:
    plan = plan_power(PowerRequest(**STATED, claims=["epm-on-test", "cl-on-unseen"]))
    files = {file.name for file in write_plan(plan, tmp_path / "power")}
    assert files == {"power.csv", "power.pdf", "power.svg", "power.png"}
    assert (tmp_path / "power" / "power.csv").read_text("utf-8").count("\n") == 4


def test_the_command_prints_the_plan(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "ablation power --seed-sd 2 --row-error .6 --rows 1900 --split-sd .5 --splits 4"
    monkeypatch.setattr(sys, "argv", words.split())
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    for text in ("none suffices", "4 random splits", "ensemble-best", "Variances: stated"):
        assert text in printed


def test_a_plan_averages_over_the_splits_of_its_pilot(
    experiment: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once, three random splits were planned as a single random one, which has no test."""
    draws = ("dev1", "dev1@1", "dev1@2")
    made = experiment(noise={"mse": 1.2, "epm": 0.3}, splits=draws, seeds=(0, 1, 2))
    asked = {"experiment": made.name, "tracking_uri": made.uri, "claims": ["epm-on-test"]}
    pilot, fixed = (plan_power(PowerRequest(**asked, splits=n, effect=90)) for n in (0, 1))
    assert [p.claims[0].effects[0].variances.splits for p in (pilot, fixed)] == [3, 1]
    assert "3 random splits" in pilot.notes[0] or "3 fixed splits" in pilot.notes[0]
    assert "one fixed split" in fixed.notes[0]
    assert (pilot.to_frame()["power"] > 0.5).all()
    words = f"ablation power --tracking-uri {made.uri} --claims epm-beats-mse"
    monkeypatch.setattr(sys, "argv", words.split())
    with pytest.raises(SystemExit):
        main()
    printed = capsys.readouterr().out
    assert "not in the pilot" in printed  # Dev2 was not run, so that the claim's power is unknown
    assert "nan" not in printed


def test_a_size_without_variances_has_no_power() -> None:
    claim = find_claim("cl-on-unseen")
    (plan,) = planning.plan_claims(
        [claim],  # type: ignore[list-item]
        planning.Design(),
        lambda effect: None,
    )
    assert not plan.is_known
    assert np.isnan(plan.power()).all()
    assert planning.stated_variances(Sources(1.0, 1.0), 9)(plan.claim.effects[0]) is not None
