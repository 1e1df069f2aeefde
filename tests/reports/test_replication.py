"""Verdicts on printed figures: what is claimed, how sure it is, and what can't be said."""

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from reports.analysis import replication as rp
from reports.analysis.variance_components import Component, Uncertainty

FAMILY = rp.Family("the paper's claims", 8)


def uncertainty(rows: float, seeds: float, df: float = 2) -> Uncertainty:
    return Uncertainty(
        (
            Component("rows", np.asarray(rows**2), np.asarray(1899.0)),
            Component("seeds", np.asarray(seeds**2), np.asarray(float(df))),
        )
    )


def evidence(estimate: float, error: float = 0.001, **changes: int) -> rp.Evidence:
    """An effect whose error is the rows' alone."""
    sizes = {"seeds": 5, "rows": 1900, "labels": 20} | changes
    return rp.Evidence(estimate, uncertainty(error, 1e-6, 4), **sizes)


def judged(estimate: float, printed: float, kind: rp.ClaimKind, error: float = 0.001) -> str:
    return rp.judge_claim(evidence(estimate, error), rp.Printed(printed), kind, FAMILY).verdict


@pytest.mark.parametrize(
    ("estimate", "sign", "size"),
    [
        (0.020, rp.Verdict.REPLICATED, rp.Verdict.REPLICATED),
        (0.009, rp.Verdict.REPLICATED, rp.Verdict.SMALLER),
        (0.040, rp.Verdict.REPLICATED, rp.Verdict.LARGER),
        (0.000, rp.Verdict.NO_EFFECT, rp.Verdict.NO_EFFECT),
        (-0.02, rp.Verdict.OPPOSITE, rp.Verdict.OPPOSITE),
    ],
)
@pytest.mark.parametrize("side", [1, -1])
def test_sign_and_size(estimate: float, sign: str, size: str, side: int) -> None:
    assert judged(side * estimate, side * 0.02, "sign") == sign
    assert judged(side * estimate, side * 0.02, "size") == size


def test_an_unknown_p_stays_unknown_in_its_family() -> None:
    """It was shown as 1.000 where too few rows give no interval."""
    assert np.isnan(FAMILY.adjusted(float("nan")))
    assert (FAMILY.adjusted(0.01), FAMILY.adjusted(0.5)) == (pytest.approx(0.08), 1.0)


def test_a_wide_interval_decides_nothing() -> None:
    for kind in ("sign", "size"):
        assert judged(0.02, 0.02, kind, error=0.02) == rp.Verdict.UNDECIDED
        assert judged(0.0, 0.02, kind, error=0.02) == rp.Verdict.UNDECIDED


@pytest.mark.parametrize("side", [1, -1])
def test_a_printed_effect_below_the_smallest_of_interest_is_no_refutation_of_itself(
    side: int,
) -> None:
    """Of Dev1 the paper prints +0.20 points for EPM: measured as that, however precisely."""
    assert rp.DEFAULTS.smallest_effect > 0.002
    for kind in ("sign", "size"):
        assert judged(side * 0.002, side * 0.002, kind, error=1e-4) == rp.Verdict.REPLICATED
        assert judged(-side * 0.002, side * 0.002, kind, error=1e-4) == rp.Verdict.OPPOSITE
    assert judged(0.0, side * 0.002, "sign", error=1e-4) == rp.Verdict.UNDECIDED
    assert judged(0.0, side * 0.002, "size", error=1e-4) == rp.Verdict.SMALLER


def test_two_points_are_not_replicated_by_less_than_one() -> None:
    """The audit's "supported": +0.88 [0.55, 1.20] where the paper prints about two points."""
    measured = evidence(0.0088, 0.0033 / 1.96)
    verdict = rp.judge_claim(measured, rp.Printed(0.02), "size", FAMILY).verdict
    assert verdict in (rp.Verdict.SMALLER, rp.Verdict.UNDECIDED)


def test_one_seed_decides_nothing() -> None:
    result = rp.judge_claim(evidence(0.5, seeds=1), rp.Printed(0.02), "sign", FAMILY)
    assert result.verdict is rp.Verdict.UNDECIDED
    assert "one seed" in result.why
    assert np.isnan(result.interval.low)


@pytest.mark.parametrize("labels", [2, 20])
def test_two_rows_decide_nothing(labels: int) -> None:
    for estimate in (2.0, -2.0):
        few = evidence(estimate, rows=2, labels=labels)
        result = rp.judge_claim(few, rp.Printed(0.02), "sign", FAMILY)
        assert result.verdict is rp.Verdict.UNDECIDED
        assert np.isnan(result.interval.low)


def test_the_family_sets_the_level_and_not_the_runs_at_hand() -> None:
    alone = rp.judge_claim(evidence(0.005, 0.002), rp.Printed(0.02), "sign", rp.Family("one", 1))
    among = rp.judge_claim(evidence(0.005, 0.002), rp.Printed(0.02), "sign", FAMILY)
    assert alone.verdict is rp.Verdict.REPLICATED
    assert among.verdict is rp.Verdict.UNDECIDED
    assert among.p_family == pytest.approx(8 * alone.p)
    assert among.decisive.half_width > among.interval.half_width


def test_prediction_adds_the_papers_own_rows_and_seed() -> None:
    measured = rp.Evidence(0.02, uncertainty(0.003, 1e-9, 4), seeds=3, rows=1000, labels=20)
    same_size = rp.predict(measured, rp.Printed(0.02))
    assert same_size.half_width == pytest.approx(1.96 * 0.003 * np.sqrt(2), rel=1e-2)
    tenth = rp.predict(measured, rp.Printed(0.02, rows=100))
    assert tenth.half_width == pytest.approx(1.96 * 0.003 * np.sqrt(11), rel=1e-2)
    cancelled = rp.predict(measured, rp.Printed(0.02, same_rows=True))
    assert cancelled.half_width < 1e-6
    of_seeds = rp.Evidence(0.02, uncertainty(1e-9, 0.003, 4), seeds=3, rows=1000, labels=20)
    by_seed = rp.predict(of_seeds, rp.Printed(0.02))
    assert by_seed.half_width == pytest.approx(2.776 * 0.003 * 2, rel=1e-3)


def test_more_parts_make_a_refutation_harder() -> None:
    borderline = evidence(-0.0056, 0.002)
    one = rp.judge_claim(borderline, rp.Printed(0.02), "sign", FAMILY)
    five = rp.judge_claim(borderline, rp.Printed(0.02), "sign", FAMILY, parts=5)
    assert one.verdict is rp.Verdict.OPPOSITE
    assert five.verdict is rp.Verdict.UNDECIDED


@pytest.mark.parametrize(
    ("score", "verdict"),
    [
        (0.65, rp.Verdict.REPLICATED),
        (0.55, rp.Verdict.SMALLER),
        (0.75, rp.Verdict.LARGER),
    ],
)
def test_scores(score: float, verdict: str) -> None:
    measured = rp.Evidence(score, uncertainty(0.008, 1e-6), 3, 1900, 20, weights=(1.0,))
    assert rp.judge_cell(measured, rp.Printed(0.65), FAMILY).verdict is verdict


def test_a_vague_score_is_undecided_and_says_what_it_takes() -> None:
    measured = rp.Evidence(0.65, uncertainty(0.02, 1e-6), 3, 300, 20, weights=(1.0,))
    result = rp.judge_cell(measured, rp.Printed(0.65), FAMILY)
    assert result.verdict is rp.Verdict.UNDECIDED
    rows = rp.rows_for_cell(measured)
    assert rows is not None
    assert 1000 < rows < 1400  # 300 (.039 / .02)²


def test_an_undecided_claim_says_how_many_seeds_or_rows_decide() -> None:
    by_seeds = rp.Evidence(0.02, uncertainty(0.001, 0.01), seeds=3, rows=1900, labels=20)
    need = rp.would_decide(by_seeds, rp.Printed(0.02), "sign", FAMILY)
    assert need.seeds is not None
    assert need.seeds > 3
    by_rows = rp.Evidence(0.02, uncertainty(0.01, 0.001), seeds=3, rows=1900, labels=20)
    need = rp.would_decide(by_rows, rp.Printed(0.02), "sign", FAMILY)
    assert need.seeds is None
    assert need.rows is not None
    assert need.rows > 1900


@pytest.mark.parametrize("figure", [0.0, np.nan])
def test_a_claim_needs_a_printed_effect(figure: float) -> None:
    with pytest.raises(ValueError, match="printed effect"):
        rp.judge_claim(evidence(0.1), rp.Printed(figure), "sign", FAMILY)


def test_a_score_on_dev1_takes_more_rows_whatever_the_seeds_and_says_how_many() -> None:
    """Finding 13: on 1,900 rows a score of .69 is known to 2.4 points at best."""

    def on(rows: int) -> rp.Evidence:
        of_rows = (1 - 0.69**2) / np.sqrt(rows)
        error = uncertainty(of_rows, 0.003 / np.sqrt(50), df=49)
        return rp.Evidence(0.69, error, 50, rows, 20, weights=(1.0,))

    dev1 = rp.judge_cell(on(1900), rp.Printed(0.6866), FAMILY)
    assert dev1.verdict is rp.Verdict.UNDECIDED
    rows = rp.rows_for_cell(on(1900))
    assert rows is not None
    assert 2500 < rows < 2900
    assert rp.judge_cell(on(rows + 50), rp.Printed(0.6866), FAMILY).verdict is rp.Verdict.REPLICATED
    assert rp.rows_for_cell(on(rows + 50)) is None


def test_the_seeds_needed_count_the_family_and_that_few_seeds_know_little_of_their_spread() -> None:
    """Finding 14: a paired t test at 5 % with the pilot's variance as known needs far fewer."""
    measured = rp.Evidence(0.02, uncertainty(1e-6, 0.01), seeds=3, rows=1900, labels=20)
    need = rp.would_decide(measured, rp.Printed(0.02), "sign", FAMILY)
    sd = 0.01 * np.sqrt(3)
    naive = TTestPower().solve_power(0.02 / sd, alpha=0.05, power=0.8)
    assert need.seeds is not None
    assert need.seeds > 3 * naive


def test_a_claim_of_several_parts_takes_more_seeds_than_each() -> None:
    measured = rp.Evidence(0.02, uncertainty(1e-6, 0.01), seeds=3, rows=1900, labels=20)
    one = rp.would_decide(measured, rp.Printed(0.02), "sign", FAMILY)
    ten = rp.would_decide(measured, rp.Printed(0.02), "sign", FAMILY, parts=10)
    assert one.seeds is not None
    assert ten.seeds is not None
    assert ten.seeds > one.seeds
