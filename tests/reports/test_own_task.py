"""Comparisons on a corpus that no figures were printed for."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ablation.config.variants import TABLE_3
from reports.analysis.inference import NO_INTERVAL, Interval
from reports.analysis.measures import Measurements, compute_measurements
from reports.analysis.own_task import (
    Answer,
    Comparison,
    compare_variants,
    comparison_family,
    complete_folds,
    corrected_interval,
)
from reports.analysis.replication import Family
from reports.analysis.selection import FLATTERED
from reports.rendering.tables import Table
from reports.sections import findings, results
from tests.reports.conftest import Made


def test_the_interval_over_folds_is_nadeau_and_bengios() -> None:
    differences = np.array([0.02, 0.05, -0.01, 0.04, 0.03])
    mean, interval, p = corrected_interval(differences)
    # Their corrected resampled t: (1/k + n_test/n_train) times the variance, with 1/4 for 5 folds.
    error = math.sqrt((1 / 5 + 1 / 4) * np.var(differences, ddof=1))
    assert mean == pytest.approx(0.026)
    assert interval.high - mean == pytest.approx(error * stats.t.ppf(0.975, 4))
    assert p == pytest.approx(2 * stats.t.sf(mean / error, 4))
    naive = stats.ttest_1samp(differences, 0.0).pvalue
    assert p > naive


def test_it_is_calibrated_where_folds_share_nothing_else() -> None:
    """The correction is for shared training rows; independent differences make it conservative."""
    draws = np.random.default_rng(0).normal(0, 1, (400, 5))
    rate = np.mean([corrected_interval(row)[2] < 0.05 for row in draws])
    assert rate < 0.05


@pytest.mark.parametrize("difference", [0.0, 0.25, -0.1])
def test_folds_that_differ_alike_give_no_interval(difference: float) -> None:
    """Two seeds that both gave -10 steps once made a certain claim, see finding 9."""
    mean, interval, p = corrected_interval(np.full(5, difference))
    assert mean == pytest.approx(difference)
    assert np.isnan([interval.low, interval.high, p]).all()


def own_task(made: Made, *variants: str, seeds: tuple[int, ...] = (0, 1, 2)) -> Measurements:
    """Return what these rows and seeds alone would have measured."""
    inputs = made.inputs()
    runs = tuple(r for r in inputs.group.runs if r.variant in variants and r.seed in seeds)
    return compute_measurements(inputs.experiment, replace(inputs.group, runs=runs))


def test_one_seed_is_no_answer(experiment: Callable[..., Made]) -> None:
    made = experiment(noise={"mse": 1.6, "epm": 0.1}, splits=("dev1",), seeds=range(6))
    for seeds, answer in ((tuple(range(6)), "better"), ((0,), "undecided")):
        (found,) = compare_variants({"": own_task(made, "mse", "epm", seeds=seeds)})
        assert found.mean > 0
        assert found.p_family < 0.05, "over rows alone, one seed seems certain"
        assert found.answer == answer
        assert bool(found.obstacle) is (answer == "undecided")


def test_an_ensemble_is_no_answer_on_the_rows_that_chose_its_members(
    experiment: Callable[..., Made],
) -> None:
    """Finding 6: it can't be below the best of them there."""
    noise = {"mse": 1.6, "epm": 0.8, "ensemble": 0.0}
    made = experiment(noise=noise, splits=("dev1",), seeds=range(6), labelled=False)
    found = {c.better: c for c in compare_variants({"": made.inputs().measurements})}
    assert found["ensemble"].mean > 0
    assert (found["ensemble"].answer, found["ensemble"].obstacle) == ("undecided", FLATTERED)
    assert found["epm"].obstacle == ""


def test_no_answer_depends_on_what_else_was_run(table_3: Made) -> None:
    """Neither on other rows nor on other targets."""
    every = own_task(table_3, *table_3.inputs().group.variants)
    by_pair = {(c.worse, c.better): c for c in compare_variants({"V": every, "A": every}, 3)}
    assert len(by_pair) > 5
    for variant in ("epm", "epm+cl", "mse+cl"):
        (alone,) = compare_variants({"V": own_task(table_3, "mse", variant)}, 3)
        among = by_pair["mse", variant]
        assert alone.p == pytest.approx(among.p)
        assert alone.p_family == pytest.approx(among.p_family)
        assert (alone.answer, alone.family) == (among.answer, among.family)
        assert alone.family.size % 3 == 0


def test_rows_of_ones_own_on_the_papers_corpus_are_compared_too(table_3: Made) -> None:
    """Without printed figures there is nothing else that a first page could answer."""
    inputs = table_3.inputs()
    own = replace(TABLE_3, title="Losses", publication=None, claims={}, text="of a file")
    other = replace(inputs, group=replace(inputs.group, table=own))
    assert other.layout.is_mint
    names = [block.id for block in findings.build(other) if isinstance(block, Table)]
    assert "comparisons" in names
    (scores,) = [block for block in results.build(other) if isinstance(block, Table)]
    assert scores.title == "Losses"
    assert not any("paper" in note for note in scores.notes)


@pytest.mark.parametrize("rows", [2, 7])
def test_many_questions_are_a_table_and_many_undecided_steps_are_counted(
    experiment: Callable[..., Made], rows: int
) -> None:
    noise = dict.fromkeys(["mse", "epm", "epm+cl", "epm+ft", "epm+cl+ft", "mse+cl", "mse+ft"], 0.5)
    made = experiment(noise=dict(list(noise.items())[:rows]), splits=("dev1",), seeds=(0,))
    inputs = made.inputs()
    own = replace(TABLE_3, title="Losses", publication=None, claims={}, text="of a file")
    blocks = list(findings.build(replace(inputs, group=replace(inputs.group, table=own))))
    texts = [block for block in blocks if isinstance(block, str)]
    (found,) = [text for text in texts if text.startswith("Found on")]
    asked = [block for block in blocks if isinstance(block, Table) and block.id == "questions"]
    comparisons = next(b for b in blocks if isinstance(b, Table) and b.id == "comparisons")
    if rows == 2:
        assert not asked
        assert "undecided: MSE → EPM" in found
    else:
        assert len(asked[0].rows) == rows
        assert f"all {len(comparisons.rows)} undecided" in found


def test_a_family_is_all_that_the_table_compares() -> None:
    of_rows = comparison_family(TABLE_3, ("mse", "epm"))
    of_readings = comparison_family(TABLE_3, ("mse", "epm(constant-rate)"))
    assert of_rows == comparison_family(TABLE_3, ("mse+cl", "epm+cl"))
    assert of_rows.name != of_readings.name
    assert of_rows.size < of_readings.size
    assert comparison_family(TABLE_3, ("mse", "epm"), targets=2).size == 2 * of_rows.size


@pytest.mark.parametrize(
    ("splits", "folds"),
    [
        ([f"kfold:3:{i}" for i in (1, 2, 3)], 3),
        (["dev1", *(f"kfold:3:{i}" for i in (1, 2, 3))], 3),
        (["kfold:3:1", "kfold:3:3"], 0),
        (["dev1"], 0),
    ],
)
def test_folds_are_averaged_if_all_are_there(splits: list[str], folds: int) -> None:
    assert len(complete_folds(splits)) == folds


@pytest.mark.parametrize(
    ("mean", "ends", "p", "answer"),
    [
        (0.02, (0.01, 0.03), 0.001, "better"),
        (0.02, (0.01, 0.03), 0.02, "undecided"),  # one of five comparisons
        (-0.02, (-0.03, -0.01), 0.001, "worse"),
        (0.001, (-0.002, 0.004), 0.4, "no difference"),
        (0.001, (-0.02, 0.02), 0.9, "undecided"),
        (0.02, None, math.nan, "undecided"),
    ],
)
def test_an_answer_needs_a_test_and_an_interval(
    mean: float, ends: tuple[float, float] | None, p: float, answer: Answer
) -> None:
    interval = NO_INTERVAL if ends is None else Interval(*ends)
    comparison = Comparison(
        "mse",
        "epm",
        rows="test",
        mean=mean,
        interval=interval,
        equivalence=interval,
        p=p,
        over="rows and seeds",
        runs=(),
        family=Family("five comparisons", 5),
        title="MSE → EPM",
    )
    assert comparison.answer == answer
    assert str(comparison) == "MSE → EPM"
