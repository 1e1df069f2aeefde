"""Runs that leave each language out in turn: what is averaged, and what answers are about."""

from collections.abc import Callable

import numpy as np
import pytest

from reports.analysis.claim_verdicts import find_subset
from reports.analysis.claims import SCORE_CLAIMS
from reports.analysis.own_task import compare_variants
from reports.analysis.subsets import EvalSubset
from reports.rendering.tables import Table
from reports.sections import findings, languages, results
from tests.reports.conftest import SEEN, Made

SPLITS = tuple(f"leave-one-out:{language}" for language in SEEN)


@pytest.fixture
def made(experiment: Callable[..., Made]) -> Made:
    """Two rows, EPM the better one, with each language held out once and five seeds."""
    noise = {"mse": 1.6, "epm": 0.1}
    return experiment(noise=noise, splits=SPLITS, labelled=False, seeds=range(5))


def test_languages_are_averaged_over_and_stand_for_others(made: Made) -> None:
    measurements = made.inputs().measurements
    (column,) = [c for c in measurements.columns if not c.is_test]
    assert list(column.splits) == list(measurements.group.splits)
    (found,) = compare_variants({"": measurements})
    each = [measurements.step("mse", "epm", EvalSubset(split)).mean for split in SPLITS]
    assert found.mean == pytest.approx(np.mean(each))
    assert found.answer == "better"
    assert "splits" in found.over
    assert "are fixed" not in findings.limits(made.inputs())


def test_one_seed_says_nothing_of_other_languages(experiment: Callable[..., Made]) -> None:
    noise = {"mse": 0.9, "epm": 0.2}
    inputs = experiment(noise=noise, splits=SPLITS, labelled=False, seeds=(0,)).inputs()
    assert "are fixed" in findings.limits(inputs)
    (table,) = [block for block in languages.build(inputs) if isinstance(block, Table)]
    assert any("not about others" in note for note in table.notes)
    (found,) = compare_variants({"": inputs.measurements})
    assert found.answer == "undecided"


def test_answers_on_dev1_are_of_its_languages_whatever_else_was_run(
    experiment: Callable[..., Made],
) -> None:
    noise = {"mse": 0.9, "epm": 0.2}
    inputs = experiment(noise=noise, splits=("dev1", *SPLITS), labelled=False).inputs()
    (found,) = compare_variants({"": inputs.measurements})
    assert found.rows == "development rows of Dev1"
    assert "are fixed" in findings.limits(inputs)


def test_each_language_has_a_column_and_their_mean_is_that_of_the_results(made: Made) -> None:
    inputs = made.inputs()
    (table,) = [block for block in languages.build(inputs) if isinstance(block, Table)]
    scores = next(block for block in results.build(inputs) if isinstance(block, Table))
    (place,) = [i for i, column in enumerate(scores.columns) if "leave-one-out" in column.title]
    assert {column.title for column in table.columns} == {"Method", *SEEN, "mean"}
    of_rows = {row[0].text.removeprefix("+ "): row for row in scores.rows}
    for name, *of_languages, mean in table.rows:
        expected = pytest.approx(np.mean([cell.value for cell in of_languages]))
        assert mean.value == of_rows[name.text.removeprefix("+ ")][place].value == expected


def test_errors_are_those_of_every_language_by_the_runs_that_left_it_out(made: Made) -> None:
    inputs = made.inputs()
    residuals, measurements = inputs.residuals, inputs.measurements
    assert residuals is not None
    assert residuals.of["mse"].shape == (5, len(residuals.sample.row))
    for sample in measurements.samples:
        (language,) = sample.languages
        seed_2 = measurements.runs("mse", sample.eval_set)[2].run_id
        expected = sample.predictions[:, sample.column[seed_2]] - sample.label
        of_language = residuals.sample.language == language
        np.testing.assert_array_equal(residuals.sample.row[of_language], sample.row)
        np.testing.assert_array_equal(residuals.of["mse"][2, of_language], expected)
    assert len(residuals.runs["mse"]) == 5 * len(SPLITS)
    assert inputs.best_variant == "epm"
    assert "leave-one-out (4 splits)" in inputs.analysed_rows


@pytest.mark.parametrize(
    ("splits", "rows"),
    [(SPLITS, "leave-one-out (4 splits)"), (("hold:2",), "hold:2 unseen")],
    ids=["leave-one-out", "hold"],
)
def test_languages_held_out_stand_in_for_unseen_ones_in_the_papers_claims(
    experiment: Callable[..., Made], splits: tuple[str, ...], rows: str
) -> None:
    noise = {"mse": 1.6, "epm": 1.6, "epm+ft": 0.1}
    made = experiment(noise=noise, splits=splits, labelled=False, seeds=range(5))
    measurements = made.inputs().measurements
    (effect,) = next(claim for claim in SCORE_CLAIMS if claim.id == "ft-on-unseen").effects
    assert str(find_subset(effect, measurements)) == rows
    assert measurements.contrast(effect.weights, find_subset(effect, measurements)).mean > 0


def test_random_languages_are_the_splits(made: Made) -> None:
    """Of a split that has one language only, no other can be drawn."""
    fixed, random = (made.inputs(languages=are).measurements for are in ("fixed", "random"))
    (of_fixed,), (of_random,) = (compare_variants({"": m}) for m in (fixed, random))
    assert of_random.interval == of_fixed.interval
    assert np.isfinite(of_random.interval.low)
