"""A small part of tests/benchmarks/coverage.py: intervals hold the truth as often as they say."""

import numpy as np
import pytest
from scipy import stats

from reports.analysis import variance_components as vc
from reports.analysis.replication import Verdict
from tests.benchmarks import coverage as cv

SIMULATIONS = 400
#: Three standard errors of a rate of 95 %.
SLACK = 3 * np.sqrt(0.95 * 0.05 / SIMULATIONS)


@pytest.mark.parametrize("seeds", [2, 3])
def test_differences_and_scores_are_covered(seeds: int) -> None:
    cells = [cv.Cell(300, seeds, ratio, 0.0, cv.SPREAD) for ratio in cv.RATIOS]
    rates = cv.coverage(cells, SIMULATIONS, seed=seeds)
    for (cell, method), rate in rates.items():
        assert 0.93 - SLACK < rate < 0.97 + SLACK, (cell, method)


def test_random_languages_are_covered() -> None:
    """Finding 10: intervals over rows and seeds alone hold the truth in 78 % with a ratio of .1."""
    cells = [
        cv.Cell(1900, 3, ratio, 0.0, languages=4, random_languages=True) for ratio in cv.RATIOS
    ]
    for rate in cv.coverage(cells, SIMULATIONS, seed=1).values():
        assert 0.93 - SLACK < rate < 0.98 + SLACK


@pytest.mark.parametrize("corpus", [600, 360])
def test_means_over_splits_are_covered(corpus: int) -> None:
    """Splits draw overlapping rows, or have a language each; a seed moves them alike, or anew."""
    simulations = 200
    cells = [cv.SplitCell(corpus, 120, 3, 2, 1.0, 1.0, shared) for shared in (True, False)]
    rates = cv.split_coverage(cells, simulations, seed=1)
    assert {are for _, are in rates} == {"random", "fixed"}
    slack = 3 * np.sqrt(0.95 * 0.05 / simulations)
    for (cell, are), rate in rates.items():
        assert 0.93 - slack < rate < 0.98 + slack, (cell, are)


def test_the_test_over_rows_keeps_its_level_where_williams_does_not() -> None:
    """Finding 15: errors of heavy tails, shared by both models, and wider for middle labels."""
    simulations, cell = 1500, cv.Cell(300, 1, 0.0, 0.0)
    groups = cv.simulate(np.random.default_rng(3), simulations, cell, 2)
    scores = cv.predictions(groups, cell, np.array([cv.RHO, cv.RHO]))
    r, influence = vc.pearson_influence(scores, groups.label[:, None, None, :])
    design = vc.Design(("seeds",), frozenset({"rows"}))
    uncertainty = vc.analyse(design, r[:, 1] - r[:, 0], influence[:, 1] - influence[:, 0])
    ours = np.mean(uncertainty.p((r[:, 1] - r[:, 0])[:, 0]) < 0.05)
    between = np.array([np.corrcoef(a, b)[0, 1] for a, b in scores[:, :, 0]])
    williams = np.mean(williams_p(r[:, 0, 0], r[:, 1, 0], between, cell.rows) < 0.05)
    slack = 3 * np.sqrt(0.05 * 0.95 / simulations)
    assert ours < 0.05 + slack < williams


def williams_p(a: np.ndarray, b: np.ndarray, between: np.ndarray, rows: int) -> np.ndarray:
    """Return Williams' (1959) two-sided p of "both models correlate alike with the labels"."""
    determinant = 1 - a**2 - b**2 - between**2 + 2 * a * b * between
    scale = 2 * (rows - 1) / (rows - 3) * determinant + ((a + b) / 2) ** 2 * (1 - between) ** 3
    t = (a - b) * np.sqrt((rows - 1) * (1 + between) / scale)
    return np.asarray(2 * stats.t.sf(np.abs(t), rows - 3))


def test_a_perfect_replication_is_not_refuted() -> None:
    cell = cv.Cell(300, 3, 1.0, cv.PAPER_EFFECT)
    for rates in cv.verdict_rates(cell, "the paper's", 60, seed=2):
        refuted = rates.verdicts[Verdict.OPPOSITE] + rates.verdicts[Verdict.NO_EFFECT]
        assert refuted <= 0.05
        assert rates.family <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)
