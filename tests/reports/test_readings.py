"""The specification curve: which choices it holds, its numbers, and the groups behind it."""

from typing import Any

import numpy as np
import pytest

from reports.analysis.groups import group_runs
from reports.analysis.specifications import SpecificationCurve
from reports.analysis.subsets import EvalSubset
from reports.sections.readings import build
from tests.reports.conftest import Made

NOISE = {
    "mse": 0.9,
    "mse(constant-rate)": 0.8,
    "epm": 0.6,
    "epm(constant-rate)": 0.7,
    "epm+cl": 0.6,
    "epm+cl(attract)": 0.5,
    "epm+cl(constant-rate)": 0.5,
}


@pytest.fixture
def made(experiment: Any) -> Made:
    made: Made = experiment(noise=NOISE, seeds=(0, 1), rows=40)
    return made


def curve_of(made: Made, weights: dict[str, float], subset: EvalSubset) -> SpecificationCurve:
    (found,) = [
        c
        for c in made.inputs().specification_curves
        if (c.effect.weights, c.subset) == (weights, subset)
    ]
    return found


def test_readings_stand_in_the_group_of_the_rows_that_they_are_readings_of(made: Made) -> None:
    (group,) = group_runs(made.inputs().experiment)
    assert set(group.variants) == set(NOISE)
    assert made.inputs().comparability.settings == ()


def test_a_curve_has_every_choice_that_was_run(made: Made) -> None:
    curve = curve_of(made, {"epm+cl": 1.0, "epm": -1.0}, EvalSubset("test", "unseen"))
    choices = {(s.readings, s.split) for s in curve.specifications}
    assert choices == {
        (readings, split)
        for readings in [(), ("attract",), ("constant-rate",)]
        for split in ("dev1", "dev2")
    }
    assert (np.diff(curve.means) >= 0).all()
    assert curve.own is not None
    assert (curve.own.readings, curve.own.split) == ((), "dev1")


def test_each_estimate_is_that_of_the_variants_as_the_readings_have_them(made: Made) -> None:
    weights, subset = {"epm": 1.0, "mse": -1.0}, EvalSubset("test", "seen")
    curve = curve_of(made, weights, subset)
    inputs = made.inputs()
    found = {(s.readings, s.split): s.estimate.mean for s in curve.specifications}
    assert len(found) == 4
    constant = inputs.measurements.step("mse(constant-rate)", "epm(constant-rate)", subset)
    assert found[("constant-rate",), "dev1"] == pytest.approx(constant.mean)
    records = inputs.measurements.records
    of_dev2 = {
        variant: np.mean(
            [
                records[run.run_id].test["pearson_seen"]  # type: ignore[index]
                for run in inputs.group.runs
                if (run.variant, run.split) == (variant, "dev2")
            ]
        )
        for variant in ("mse", "epm")
    }
    assert found[(), "dev2"] == pytest.approx(of_dev2["epm"] - of_dev2["mse"])


def test_development_columns_have_their_own_split(made: Made) -> None:
    curve = curve_of(made, {"epm": 1.0, "mse": -1.0}, EvalSubset("dev2"))
    assert {s.split for s in curve.specifications} == {"dev2"}
    assert len(curve.specifications) == 2


def test_the_section_has_a_line_for_each_effect_and_a_picture_where_there_is_much_to_see(
    made: Made,
) -> None:
    inputs = made.inputs()
    text, table, *pictures = build(inputs)
    assert "Eq. 9" in str(text)
    assert len(table.rows) == len(inputs.specification_curves)  # type: ignore[union-attr]
    many = [c for c in inputs.specification_curves if len(c.specifications) >= 4]
    assert len(pictures) == len(many) > 0


def test_one_split_and_no_reading_is_no_curve(experiment: Any) -> None:
    made = experiment(splits=("dev1",))
    assert made.inputs().specification_curves == []
    assert list(build(made.inputs())) == []
