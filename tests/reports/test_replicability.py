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


def test_the_spread_between_languages_is_what_the_rows_do_not_explain() -> None:
    effects = np.array([0.01, 0.03, 0.02, 0.06, 0.00])
    result = lg.heterogeneity(effects, np.full(5, 1e-5))
    assert result is not None
    assert result.sd**2 == pytest.approx(effects.var(ddof=1) - 1e-5)
    q = float(np.sum((effects - effects.mean()) ** 2) / 1e-5)
    assert result.p == pytest.approx(stats.chi2.sf(q, 4))


def test_languages_that_differ_less_than_their_rows_have_no_spread() -> None:
    effects = np.array([0.0100, 0.0110, 0.0095, 0.0105])
    result = lg.heterogeneity(effects, np.array([1e-4, 2e-4, 1e-5, 9e-5]))
    assert result is not None
    assert result.sd == 0
    assert result.p > 0.9
    assert lg.heterogeneity(np.array([0.01]), np.array([1e-4])) is None
