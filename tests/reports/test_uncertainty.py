"""Report where the uncertainty comes from: components of the steps, other languages and splits."""

from typing import Any

import numpy as np
import pytest

from reports.analysis.languages import effect_over_languages
from reports.analysis.scope import LEAST_LANGUAGES
from reports.analysis.splits import effect_over_splits
from reports.analysis.subsets import EvalSubset
from reports.rendering.tables import Table
from reports.sections.uncertainty import build
from tests.reports.conftest import Made

PAIRS = ("dev2:en+fr", "dev2:en+it", "dev2:fr+it")


def tables_of(made: Made) -> dict[str, Table]:
    return {table.id: table for table in build(made.inputs()) if isinstance(table, Table)}


def test_the_parts_of_a_steps_variance_are_those_of_its_interval(experiment: Any) -> None:
    made = experiment()
    table = tables_of(made)["sources"]
    measurements = made.inputs().measurements
    step = measurements.step("mse", "epm", EvalSubset("test", "seen"))
    assert step.uncertainty is not None
    (row,) = [r for r in table.rows if r[1].text == "test seen"]
    cells = {c.title: cell.value for c, cell in zip(table.columns, row, strict=True)}
    whole = float(100 * step.uncertainty.standard_error)
    assert np.hypot(cells["± rows"], cells["± seeds"]) == pytest.approx(whole)
    assert cells["sd of one seed"] == pytest.approx(100 * step.sd)
    assert cells["seeds' share"] == pytest.approx(100 * (cells["± seeds"] / whole) ** 2)


def test_other_languages_are_a_wider_world_than_these(experiment: Any) -> None:
    made = experiment(noise={"mse": 1.5, "epm": 0.3})
    measurements = made.inputs().measurements
    found = effect_over_languages(measurements, "mse", "epm", "test")
    assert found is not None
    each = [
        measurements.step("mse", "epm", EvalSubset("test", x))
        for x in measurements.languages_of(EvalSubset("test"))
    ]
    assert found.mean == pytest.approx(np.mean([e.mean for e in each]))
    assert found.holds.languages == len(each) >= LEAST_LANGUAGES
    assert len(found.holds.named) <= found.holds.count
    assert found.holds.count >= 1  # a large effect, which three seeds show in one language at least
    assert np.isfinite(found.interval.low)
    assert "other_languages" in tables_of(made)


def test_few_languages_or_one_seed_say_nothing_of_others(experiment: Any) -> None:
    one_seed = experiment(name="one", seeds=(0,)).inputs().measurements
    assert effect_over_languages(one_seed, "mse", "epm", "test") is None
    few_rows = experiment(name="few", rows=20).inputs().measurements
    assert effect_over_languages(few_rows, "mse", "epm", "test") is None


def test_dev2s_pairs_have_one_figure_and_an_interval_for_other_pairs(experiment: Any) -> None:
    made = experiment(splits=("dev1", *PAIRS), seeds=(0, 1))
    inputs = made.inputs()
    subset = EvalSubset("test", "unseen")
    by_pair = {pair: inputs.by_test_split[pair] for pair in PAIRS}
    found = effect_over_splits(by_pair, "mse", "epm", subset)
    assert found is not None
    assert (len(found.splits), found.seeds) == (3, (0, 1))
    by_split = [m.step("mse", "epm", subset).mean for m in by_pair.values()]
    assert found.mean == pytest.approx(np.mean(by_split))
    assert found.sd == pytest.approx(np.std(by_split, ddof=1))
    assert {c.factor for c in found.uncertainty.components} == {"splits", "seeds", "rows"}
    assert "over_dev2" in tables_of(made)


def test_two_splits_are_too_few_for_others(experiment: Any) -> None:
    inputs = experiment(splits=PAIRS[:2], seeds=(0, 1)).inputs()
    subset = EvalSubset("test", "unseen")
    assert effect_over_splits(inputs.by_test_split, "mse", "epm", subset) is None


def test_one_seed_has_no_components(experiment: Any) -> None:
    assert list(build(experiment(seeds=(0,)).inputs())) == []
