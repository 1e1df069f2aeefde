"""The planner: against statsmodels and normal theory, and where rows are the limit."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from reports.analysis import power as pw
from reports.analysis.variance_components import Component, Factor, Uncertainty


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


@pytest.mark.parametrize("seeds", [2, 3, 10])
@pytest.mark.parametrize("ratio", [0.1, 1.0, 10.0])
def test_it_is_the_rate_at_which_the_reports_own_test_rejects(seeds: int, ratio: float) -> None:
    """Rows, seeds and splits together, at the level of one claim of eight, by simulation."""
    rng, simulations, rows, splits, alpha = np.random.default_rng(seeds), 20_000, 1900, 5, 0.05 / 8
    sources = pw.Sources(0.1, ratio * 0.1 / rows * seeds * splits, 0.1 / rows)
    truth = {
        "rows": (sources.rows / rows, rows - 1),
        "seeds": (sources.seeds / seeds / splits, seeds - 1),
        "splits": (sources.splits / splits, splits - 1),
    }
    parts = tuple(
        Component(
            factor,  # type: ignore[arg-type]
            variance * rng.chisquare(df, simulations) / df,
            np.full(simulations, float(df)),
        )
        for factor, (variance, df) in truth.items()
    )
    sd = np.sqrt(sum(variance for variance, _ in truth.values()))
    for effect in (3 * sd, 6 * sd):
        estimate = effect + sd * rng.standard_normal(simulations)
        rate = (Uncertainty(parts).p(estimate) < alpha).mean()
        value = float(pw.power(effect, sources, pw.Size(seeds, rows, splits), alpha))
        assert value == pytest.approx(rate, abs=0.015)


def test_splits_are_named_where_they_are_the_limit() -> None:
    sources = pw.Sources(rows=0.001, seeds=1e-6, splits=1e-3)
    need = pw.needed(0.03, sources, pw.Size(3, 1900, 2))
    assert need.seeds is None
    assert need.splits is not None
    reached = [
        float(pw.power(0.03, sources, pw.Size(3, 1900, m))) for m in (need.splits - 1, need.splits)
    ]
    assert reached[0] < 0.8 <= reached[1]
    assert "splits would" in str(need)


def test_all_of_several_effects_take_more_than_each() -> None:
    each = pw.target_of_each(4)
    assert each == pytest.approx(0.95)
    assert float(pw.power_of_all([np.asarray(each)] * 4)) == pytest.approx(0.80)
    assert float(pw.power_of_all([np.asarray(0.3), np.asarray(0.4)])) == 0


def test_sources_of_a_pilot_are_for_one_level() -> None:
    parts = (
        Component("rows", np.asarray(1e-4), np.asarray(299.0)),
        Component("seeds", np.asarray(2e-4), np.asarray(10.0)),
    )
    sources = pw.Sources.of_pilot(Uncertainty(parts), {"rows": 300, "seeds": 3})
    assert sources == pw.Sources(pytest.approx(0.03), pytest.approx(6e-4), 0.0, 10.0)


def test_seeds_of_a_pilot_on_several_splits_are_not_divided_by_the_splits_twice() -> None:
    """At the pilot's own size, the variance that is planned by is the pilot's."""
    parts = [
        Component(factor, np.asarray(variance), np.asarray(df))
        for factor, variance, df in (("rows", 1e-4, 299), ("seeds", 2e-4, 2), ("splits", 5e-5, 4))
    ]
    pilot = Uncertainty(tuple(parts))
    sources = pw.Sources.of_pilot(pilot, {"rows": 300, "seeds": 3, "splits": 5})
    planned = sources.rows / 300 + sources.seeds / (3 * 5) + sources.splits / 5
    assert planned == pytest.approx(float(pilot.variance))


def test_random_languages_are_a_limit_that_no_seeds_or_rows_move() -> None:
    of_seeds = Component("seeds", np.asarray(1e-4), np.asarray(2.0))
    of_languages = Component("languages", np.asarray(1e-4), np.asarray(9.0))
    levels: dict[Factor, int] = {"rows": 1900, "seeds": 3}
    fixed = pw.Sources.of_pilot(Uncertainty((of_seeds,)), levels)
    random = pw.Sources.of_pilot(Uncertainty((of_seeds, of_languages)), levels)
    size = pw.Size(3, 1900)
    assert pw.needed(0.02, fixed, size).seeds is not None
    need = pw.needed(0.02, random, size)
    assert (need.seeds, need.splits, need.rows) == (None, None, None)
    assert need.limit < 0.8
    assert pw.needed(0.08, random, size).seeds is not None


def test_a_small_pilot_is_not_taken_at_its_word() -> None:
    """The 80 % upper limit of a variance from two degrees of freedom is 2 / .446 times it."""
    cautious = pw.Sources(0.1, 1.0, seed_df=2).cautious()
    assert cautious.seeds == pytest.approx(2 / 0.44629, rel=1e-4)
    assert pw.Sources(0.1, 1.0).cautious().seeds == 1.0
