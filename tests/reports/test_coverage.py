"""A small part of tests/benchmarks/coverage.py: intervals hold the truth as often as they say."""

import numpy as np
import pytest

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
    cells = [cv.Cell(300, 3, ratio, 0.0, languages=6, random_languages=True) for ratio in cv.RATIOS]
    for rate in cv.coverage(cells, SIMULATIONS, seed=1).values():
        assert 0.93 - SLACK < rate < 0.98 + SLACK


def test_a_perfect_replication_is_not_refuted() -> None:
    cell = cv.Cell(300, 3, 1.0, cv.PAPER_EFFECT)
    for rates in cv.verdict_rates(cell, "the paper's", 60, seed=2):
        refuted = rates.verdicts[Verdict.OPPOSITE] + rates.verdicts[Verdict.NO_EFFECT]
        assert refuted <= 0.05
        assert rates.family <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)
