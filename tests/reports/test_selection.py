"""Nested halves: the optimism of choosing and scoring on the same rows."""

from typing import Any

import numpy as np
import pytest

from ablation.training.ensemble import select_members
from reports.analysis import selection as sel
from reports.analysis.epochs import epoch_choices
from reports.analysis.inference import pearson
from reports.analysis.subsets import EvalSubset
from reports.rendering.tables import Table
from reports.sections.selection import build, selection_table
from tests.reports.conftest import Made


def candidates(seed: int, rows: int = 150, epochs: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Equally good candidates: all their differences are luck."""
    rng = np.random.default_rng(seed)
    label = rng.standard_normal(rows)
    return 0.65 * label[:, None] + 0.76 * rng.standard_normal((rows, epochs)), label


def test_the_best_of_equals_is_flattered_and_its_nested_score_is_not() -> None:
    scores = [sel.nested_halves(*candidates(seed), repeats=10) for seed in range(60)]
    truth = 0.65 / np.hypot(0.65, 0.76)
    apparent = np.mean([s.apparent for s in scores])
    nested = [s.nested for s in scores]
    assert apparent > truth + 0.02
    assert np.mean(nested) == pytest.approx(truth, abs=3 * np.std(nested) / np.sqrt(60) + 0.003)
    assert np.mean([s.optimism for s in scores]) > 0.02


def test_a_single_candidate_has_no_optimism_to_speak_of() -> None:
    predictions, label = candidates(0, rows=2000, epochs=1)
    score = sel.nested_halves(predictions, label)
    assert score.apparent == pytest.approx(pearson(predictions[:, 0], label))
    assert score.optimism == pytest.approx(0, abs=0.003)
    assert score.chosen.tolist() == [1.0]


def test_a_rule_may_average_members() -> None:
    predictions, label = candidates(1)
    mean = sel.nested_halves(predictions, label, choose=lambda p, _: np.full(p.shape[1], 1 / 6))
    assert mean.apparent == pytest.approx(pearson(predictions.mean(axis=1), label))
    assert mean.chosen == pytest.approx(np.full(6, 1 / 6))


def test_halves_keep_strata_and_are_seeded() -> None:
    predictions, label = candidates(2, rows=41)
    strata = np.repeat([0, 1, 2], [5, 16, 20])
    seen: list[int] = []

    def choose(p: np.ndarray, y: np.ndarray) -> np.ndarray:
        seen.append(len(y))
        return sel.best_by_pearson(p, y)

    first = sel.nested_halves(predictions, label, choose=choose, strata=strata, repeats=5)
    again = sel.nested_halves(predictions, label, strata=strata, repeats=5)
    assert first.nested == pytest.approx(again.nested, abs=1e-12)
    assert set(seen) <= {20, 21, 41}


def test_constant_candidates_are_not_chosen() -> None:
    predictions, label = candidates(3, epochs=2)
    predictions[:, 0] = 1.0
    assert sel.best_by_pearson(predictions, label).tolist() == [0.0, 1.0]


def test_too_few_rows_have_no_halves() -> None:
    assert np.isnan(sel.nested_halves(np.ones((3, 2)), np.arange(3.0)).nested)


def test_the_report_scores_the_best_trained_row_on_rows_that_did_not_choose_it(
    table_3: Made,
) -> None:
    measurements = table_3.inputs().measurements
    rows = {
        row[0].text: [cell.value for cell in row[1:]] for row in selection_table(measurements).rows
    }
    assert list(rows) == [str(EvalSubset(split)) for split in measurements.group.splits]
    for _, candidates, seeds, apparent, nested, optimism in rows.values():
        assert candidates == 6, "the ensemble is no candidate"
        assert seeds == len(measurements.group.seeds)
        assert apparent - nested == pytest.approx(optimism)
    best = max(measurements.cell(v, EvalSubset("dev1")).mean for v in ("epm", "epm+cl", "epm+ft"))
    assert rows["Dev1"][3] >= 100 * best


@pytest.mark.parametrize("seed", range(8))
def test_the_ensemble_is_chosen_as_training_chooses_it(seed: int) -> None:
    predictions, label = candidates(seed, rows=60)
    by_name = {str(i): column for i, column in enumerate(predictions.T)}
    counts = select_members(by_name, label)
    weights = sel.greedy_ensemble(predictions, label)
    assert weights == pytest.approx([counts[name] / counts.total() for name in by_name])


def test_an_ensemble_of_constants_has_no_member() -> None:
    assert sel.greedy_ensemble(np.ones((9, 2)), np.arange(9.0)).tolist() == [0, 0]


def test_the_ensembles_optimism_shows_on_few_rows() -> None:
    """Members that are equally good: what greedy selection gains is luck of these rows."""
    optimism = []
    for seed in range(20):
        predictions, label = candidates(seed, rows=120, epochs=8)
        choose = sel.greedy_ensemble
        score = sel.nested_halves(predictions, label, choose=choose, repeats=4)
        optimism.append(score.optimism)
    assert np.mean(optimism) > 0.003


def test_the_choice_of_epochs_is_scored_on_rows_that_did_not_choose(experiment: Any) -> None:
    """Finding 6: the best of six equal epochs is flattered, and the report says by how much."""
    made = experiment(noise={"mse": 1.5}, splits=("dev1",), seeds=(0, 1, 2), epochs=6)
    inputs = made.inputs()
    (choice,) = epoch_choices(inputs.experiment, inputs.measurements)
    assert (choice.variant, str(choice.column)) == ("mse", "Dev1")
    assert (choice.epochs, len(choice.runs)) == (6, 3)
    assert all(
        score.apparent >= last for score, last in zip(choice.scores, choice.last, strict=True)
    )
    assert np.mean([score.optimism for score in choice.scores]) > 0
    cell = inputs.measurements.cell("mse", EvalSubset("dev1"))
    assert np.mean(choice.last) == pytest.approx(cell.mean, abs=1e-4)
    tables = [b for b in build(inputs) if isinstance(b, Table)]
    (row,) = next(table for table in tables if table.id == "epochs").rows
    assert row[-1].value == pytest.approx(100 * np.mean([s.optimism for s in choice.scores]))


def test_runs_that_kept_no_epochs_are_said_to_have_none(table_3: Made) -> None:
    inputs = table_3.inputs()
    assert list(epoch_choices(inputs.experiment, inputs.measurements)) == []
    assert any(isinstance(b, str) and "epochs" in b for b in build(inputs))
