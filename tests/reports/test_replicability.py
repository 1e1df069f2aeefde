"""Over languages: how many hold the effect, and what is true of languages in general."""

import numpy as np
import pytest
from scipy import stats

from reports.analysis import languages as lg


def test_partial_conjunction_by_hand() -> None:
    """(n - u + 1) p_(u): .004, .03, .04, .5."""
    result = lg.replicability([0.02, 0.001, 0.5, 0.01], ["ar", "hi", "ko", "nl"])
    assert (result.count, result.languages) == (3, 4)
    assert result.named == ("ar", "hi", "nl")


def test_a_lower_count_that_fails_stops_the_higher_ones() -> None:
    assert lg.replicability([0.03, 0.03, 0.03], list("abc")).count == 0


def test_an_unknown_language_counts_as_no_evidence() -> None:
    assert lg.replicability([0.001, np.nan], ["ar", "hi"]).count == 1
    assert lg.replicability([], []).count == 0


def test_equal_variances_give_students_interval() -> None:
    effects = np.array([0.01, 0.03, 0.02, 0.06, 0.00])
    result = lg.random_effects(effects, np.full(5, 1e-5))
    assert result is not None
    expected = stats.ttest_1samp(effects, 0).confidence_interval()
    assert (result.interval.low, result.interval.high) == pytest.approx(
        (expected.low, expected.high)
    )
    assert result.mean == pytest.approx(effects.mean())
    assert result.sd**2 == pytest.approx(effects.var(ddof=1) - 1e-5)
    assert result.share == pytest.approx(1 - 1e-5 / effects.var(ddof=1))


def test_few_languages_give_no_interval() -> None:
    result = lg.random_effects(np.array([0.01, 0.03]), np.full(2, 1e-4))
    assert result is not None
    assert np.isnan(result.interval.low)
    assert lg.random_effects(np.array([0.01]), np.array([1e-4])) is None
