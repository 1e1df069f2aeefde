"""Several splits of a kind: one figure, one verdict, and what its interval is about."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from reports.analysis.estimates import (
    Estimate,
    ScoredRows,
    join_rows,
    with_uncertainty_over,
)
from reports.analysis.measures import Measurements
from reports.analysis.replication import Verdict
from reports.analysis.scope import LEAST_SPLITS, Scope
from reports.analysis.selection import FLATTERED
from reports.analysis.steps import compute_steps
from reports.analysis.subsets import EvalSubset
from reports.build import ReportRequest
from reports.contents import compose
from reports.rendering.tables import Table
from reports.sections.results import splits_text
from reports.sections.significance import improvement_by_split

PAIRS = ("dev2:en+fr", "dev2:en+it", "dev2:fr+it")


@pytest.fixture(scope="module")
def measured(empty_store: Any, tmp_path_factory: pytest.TempPathFactory) -> Measurements:
    """Return Dev1 and three of Dev2's pairs; read-only."""
    import shutil

    from tests.reports.conftest import write_experiment

    file = shutil.copy(empty_store, tmp_path_factory.mktemp("splits") / "mlflow.db")
    made = write_experiment(f"sqlite:///{file}", splits=("dev1", *PAIRS), seeds=(0, 1))
    return made.inputs().measurements


def with_scope(measurements: Measurements, **scope: Any) -> Measurements:
    return replace(measurements, scope=Scope(**scope), _estimates={})


def test_pairs_are_one_column_whose_score_is_the_mean_over_them(measured: Measurements) -> None:
    names = [str(column) for column in measured.columns]
    assert names == ["Dev1", "Dev2 (3 splits)", "test seen", "test unseen", "test overall"]
    pooled = measured.cell("epm", measured.find("dev2"))
    each = [measured.cell("epm", EvalSubset(pair)) for pair in PAIRS]
    assert pooled.mean == pytest.approx(np.mean([e.mean for e in each]))
    assert pooled.splits == PAIRS
    assert set(pooled.runs) == {run for e in each for run in e.runs}
    assert pooled.rows == each[0].rows  # every pair of the made-up corpus has the same rows
    assert measured.cell("epm", measured.find("dev1")).splits == ()


def test_a_claim_on_dev2_has_one_verdict_over_all_pairs(experiment: Any) -> None:
    """Finding 8: the alphabetically first pair is not the claim's."""
    noise = {"mse": 1.2, "mse+cl": 1.2, "epm": 0.3, "epm+cl": 0.3}
    inputs = experiment(noise=noise, splits=PAIRS, seeds=(0, 1), labelled=False).inputs()
    assessments = [part for c in inputs.claims.values() for part in c.parts if part.runs]
    on_dev2 = [a for a in assessments if a.subject.startswith("Dev2")]
    assert on_dev2
    assert {a.estimate.splits for a in on_dev2} == {PAIRS}


def test_a_claim_of_an_ensemble_is_not_decided_on_the_rows_that_chose_its_members(
    experiment: Any,
) -> None:
    """Finding 6: where development rows stand in for test rows."""
    noise = {**dict.fromkeys(("mse", "epm", "epm+cl", "epm+ft", "epm+cl+ft"), 1.5), "ensemble": 0}
    for labelled in (False, True):
        made = experiment(
            name=f"labelled {labelled}", noise=noise, splits=("dev1",), rows=200, labelled=labelled
        )
        parts = [p for p in made.inputs().claims["ensemble-best"].parts if p.estimate.exists]
        assert parts
        assert {p.verdict for p in parts if p.reason == FLATTERED} <= {Verdict.UNDECIDED}
        assert all((p.reason == FLATTERED) is (not labelled) for p in parts)


def test_test_columns_average_over_the_models_of_all_pairs(experiment: Any) -> None:
    """Finding 8: without Dev1, console and report take the models of every pair."""
    inputs = experiment(splits=PAIRS, seeds=(0, 1)).inputs()
    measurements = inputs.measurements
    on_test = measurements.find("test")
    cell = measurements.cell("mse", on_test)
    by_split = [m.cell("mse", EvalSubset("test")).mean for m in inputs.by_test_split.values()]
    assert cell.mean == pytest.approx(np.mean(by_split))
    assert cell.splits == PAIRS
    tables = {b.id: b for s in compose(inputs).sections for b in s.blocks if isinstance(b, Table)}
    assert any("Dev2 (3 splits)" in note for note in tables["table3"].notes)


def test_random_splits_widen_the_interval_by_their_own_spread(measured: Measurements) -> None:
    column = measured.find("dev2")
    scopes = {are: with_scope(measured, splits=are) for are in ("random", "fixed")}
    step = {are: scope.step("mse", "epm", column) for are, scope in scopes.items()}
    assert step["random"].mean == step["fixed"].mean
    assert (step["random"].unit, step["fixed"].unit) == ("rows, seeds and splits", "rows and seeds")
    factors = [{c.factor for c in s.uncertainty.components} for s in step.values() if s.uncertainty]
    assert factors == [{"rows", "seeds", "splits"}, {"rows", "seeds"}]
    assert measured.step("mse", "epm", column).unit == "rows, seeds and splits"


def test_with_one_seed_no_interval_is_said_to_be_about_other_splits(experiment: Any) -> None:
    draws = experiment(splits=("dev1", "dev1@1", "dev1@2"), seeds=(0, 1)).inputs().measurements
    assert "random" in splits_text(draws, "languages")
    one = replace(
        draws.group, runs=tuple(run for run in draws.group.runs if run.seed == draws.group.seeds[0])
    )
    alone = replace(draws, group=one, _estimates={})
    assert alone.step("mse", "epm", alone.find("dev1")).unit == "rows"
    assert "random" not in splits_text(alone, "languages")


def test_a_run_is_compared_with_runs_on_its_own_split_alone(measured: Measurements) -> None:
    """Scores on other rows differ by the rows; that is no share of better runs."""
    dev2 = measured.find("dev2")
    (step,) = [s for s in compute_steps(measured, "") if (s.better, s.subset) == ("epm", dev2)]
    of_each = []
    for pair in PAIRS:
        scores = [measured.cell(v, EvalSubset(pair)).per_seed for v in ("epm", "mse")]
        of_each.append(np.mean(scores[0][:, None] > scores[1][None, :]))
    assert improvement_by_split(measured, step) == pytest.approx(np.mean(of_each))


def test_two_splits_are_fixed_and_give_no_interval_for_others(experiment: Any) -> None:
    found = experiment(splits=PAIRS[: LEAST_SPLITS - 1], seeds=(0, 1)).inputs().measurements
    step = found.step("mse", "epm", found.find("dev2"))
    assert step.unit == "rows and seeds"
    forced = with_scope(found, splits="random").step("mse", "epm", found.find("dev2"))
    assert forced.evidence is None
    assert forced.obstacle


def test_random_languages_make_a_difference_a_mean_over_languages(measured: Measurements) -> None:
    random = with_scope(measured, languages="random")
    column = measured.find("test")
    step = random.step("mse", "epm", column)
    each = [
        measured.step("mse", "epm", EvalSubset("test", x)).mean
        for x in measured.languages_of(column)
    ]
    assert step.mean == pytest.approx(np.mean(each))
    assert step.unit == "languages and seeds"
    assert random.cell("mse", column).mean == measured.cell("mse", column).mean
    factors = {c.factor for c in step.uncertainty.components} if step.uncertainty else set()
    assert factors == {"languages", "seeds"}
    over_pairs = random.step("mse", "epm", measured.find("dev2"))
    assert over_pairs.unit == "languages, seeds and splits"
    assert over_pairs.uncertainty is not None
    assert {c.factor for c in over_pairs.uncertainty.components} == {"languages", "seeds", "splits"}
    two_languages = random.step("mse", "epm", measured.find("test", "unseen"))
    assert two_languages.evidence is None
    assert two_languages.obstacle


def test_unknown_words_are_answered_with_the_nearest() -> None:
    from ablation.core.errors import UsageError

    with pytest.raises(UsageError, match="random"):
        ReportRequest(splits="randon")
    with pytest.raises(UsageError, match="fixed"):
        ReportRequest(languages="fixd")


def test_rows_of_other_splits_add_up_to_the_variance_of_the_mean_of_independent_scores() -> None:
    """Splits without a common row: the rows' variance of the mean is the mean of theirs by S."""
    rng = np.random.default_rng(0)
    sizes, first = (40, 60, 50), 0
    scored = []
    for size in sizes:
        influence = rng.normal(0, 1, (1, size))
        rows = np.arange(first, first + size)
        scored.append(ScoredRows(influence, rows, rows % 7, np.zeros(size, dtype=np.int64)))
        first += size
    joined = join_rows(scored)
    mean = joined.influence.mean(axis=(0, 1))
    of_mean = np.sum(mean**2) / len(joined.row) ** 2
    each = [s.influence.var() / size for s, size in zip(scored, sizes, strict=True)]
    assert of_mean == pytest.approx(sum(each) / 9)


@pytest.mark.parametrize("splits_are", ["random", "fixed"])
def test_intervals_over_splits_cover(splits_are: Any) -> None:
    """Draws of 20 % of 600 rows, seeds, and splits that differ: nominal coverage, +- 3 errors."""
    rng = np.random.default_rng(4)
    rows, size, splits, seeds, trials = 600, 120, 4, 3, 400
    split_sd = 0.03 if splits_are == "random" else 0.0
    held = 0
    for _ in range(trials):
        row = rng.normal(0, 1, rows)
        of_split = rng.normal(0, split_sd, splits)
        of_seed = rng.normal(0, 0.03, seeds)
        values, scored = np.empty((splits, seeds)), []
        for s in range(splits):
            drawn = np.sort(rng.choice(rows, size, replace=False))
            own = row[drawn] + rng.normal(0, 0.3, (seeds, size))
            values[s] = own.mean(axis=1) + of_split[s] + of_seed
            language = np.zeros(size, dtype=np.int64)
            centred = own - own.mean(axis=1, keepdims=True)
            scored.append(ScoredRows(centred, drawn, np.arange(size), language))
        estimate = Estimate(float(values.mean()), seeds=tuple(range(seeds)))
        found = with_uncertainty_over(estimate, values, scored, splits_are)
        held += found.interval.low <= 0 <= found.interval.high
    error = np.sqrt(0.95 * 0.05 / trials)
    assert held / trials > 0.95 - 3 * error
    assert held / trials < 0.99 + 3 * error
