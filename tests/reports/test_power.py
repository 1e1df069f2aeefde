"""The planner: against statsmodels and normal theory, and where rows are the limit."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from reports.analysis import power as pw
from reports.analysis.variance_components import Component, Uncertainty


@pytest.mark.parametrize("seeds", [2, 3, 5, 10, 30])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 8])
def test_seeds_alone_are_the_paired_t_test(seeds: int, alpha: float) -> None:
    value = pw.power(1.0, pw.Sources(rows=0.0, seeds=1.0), pw.Size(seeds, 1900), alpha)
    assert value == pytest.approx(TTestPower().power(1.0, seeds, alpha), abs=2e-3)


def test_rows_alone_are_the_z_test() -> None:
    value = pw.power(0.02, pw.Sources(rows=0.09, seeds=0.0), pw.Size(3, 1900))
    shift = 0.02 / np.sqrt(0.09 / 1900)
    assert value == pytest.approx(stats.norm.sf(1.96 - shift), abs=2e-3)


def test_one_seed_has_no_test() -> None:
    assert pw.power(1.0, pw.Sources(1.0, 1.0), pw.Size(1, 10_000)) == 0


def test_needed_is_the_first_number_of_seeds() -> None:
    sources, size = pw.Sources(rows=0.05, seeds=4e-4), pw.Size(3, 1900)
    need = pw.needed(0.02, sources, size)
    assert need.seeds is not None
    reached = [
        float(pw.power(0.02, sources, pw.Size(k, 1900))) for k in (need.seeds - 1, need.seeds)
    ]
    assert reached[0] < 0.8 <= reached[1]


def test_no_number_of_seeds_where_rows_are_the_limit() -> None:
    need = pw.needed(0.01, pw.Sources(rows=0.1, seeds=1e-4), pw.Size(3, 300))
    assert need.seeds is None
    assert need.rows is not None
    assert need.limit < 0.8
    expected = 0.1 * ((1.96 + 0.8416) / 0.01) ** 2
    assert need.rows == pytest.approx(expected, rel=0.01)
    assert "no number of seeds" in str(need)


def test_no_effect_can_not_be_planned_for() -> None:
    assert pw.needed(0.0, pw.Sources(0.1, 0.1), pw.Size(3, 300)).seeds is None


def test_random_splits_need_splits() -> None:
    sources = pw.Sources(rows=0.001, seeds=1e-6, splits=1e-4)
    one, four = (float(pw.power(0.03, sources, pw.Size(3, 1900, m))) for m in (1, 4))
    assert one == 0
    assert four > 0.5


def test_a_curve_rises_to_its_limit() -> None:
    sources = pw.Sources(rows=0.1, seeds=1e-3)
    curve = pw.power_curve(0.02, sources, pw.Size(3, 1900), seeds=range(2, 30))
    assert (np.diff(curve.power) > 0).all()
    assert curve.power[-1] < curve.limit


def test_sources_of_a_pilot_are_for_one_level() -> None:
    parts = (
        Component("rows", np.asarray(1e-4), np.asarray(299.0)),
        Component("seeds", np.asarray(2e-4), np.asarray(10.0)),
    )
    sources = pw.Sources.of_pilot(Uncertainty(parts), {"rows": 300, "seeds": 3})
    assert sources == pw.Sources(pytest.approx(0.03), pytest.approx(6e-4), 0.0, 6)


def test_a_small_pilot_is_not_taken_at_its_word() -> None:
    """The 80 % upper limit of a variance from two degrees of freedom is 2 / .446 times it."""
    cautious = pw.Sources(0.1, 1.0).cautious(2)
    assert cautious.seeds == pytest.approx(2 / 0.44629, rel=1e-4)


def test_detectable_effect_has_the_target_power() -> None:
    sources, size = pw.Sources(0.1, 4e-4), pw.Size(5, 1900)
    effect = pw.detectable(sources, size)
    assert float(pw.power(effect, sources, size)) == pytest.approx(0.8, abs=1e-3)
