"""Tuning budgets: trials by row, the best so far, and the warning if they are unequal."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from ablation.config.tuning_record import Tuning
from ablation.tracking import names
from reports.analysis.budgets import Budgets
from reports.contents import compose
from reports.sections.settings import tuning_table
from tests.reports.conftest import Made

NAN = math.nan


def budgets(**trials: tuple[float, ...]) -> Budgets:
    tuning = Tuning(study="s", splits=("dev1",), fields=("loss.tau",), trials=trials)
    return Budgets(tuning, ("mse", "epm"))


def test_the_best_so_far_skips_pruned_trials() -> None:
    found = budgets(mse=(NAN, 0.5, 0.4, NAN, 0.6), epm=())
    np.testing.assert_array_equal(found.best_so_far("mse"), [NAN, 0.5, 0.5, 0.5, 0.6])
    assert len(found.best_so_far("epm")) == 0


def test_equal_budgets_need_no_warning() -> None:
    assert budgets(mse=(0.1, NAN), epm=(0.2, 0.3)).warning == ""


@pytest.mark.parametrize(
    ("trials", "told"),
    [
        ({"mse": (0.1,), "epm": (0.2, 0.3)}, "MSE 1, + EPM 2"),
        ({"epm": (0.2,)}, "MSE none, + EPM 1"),
    ],
)
def test_unequal_budgets_are_marked(trials: dict[str, tuple[float, ...]], told: str) -> None:
    found = budgets(**trials)
    assert told in found.warning
    marks = {row[0].text: row[1].mark for row in tuning_table(found).rows}
    assert marks == {"MSE": "differs", "+ EPM": ""}


def test_the_table_names_the_best_and_its_trial() -> None:
    (mse, epm) = tuning_table(budgets(mse=(NAN, 0.5, 0.4), epm=(NAN, NAN))).rows
    assert [cell.text for cell in mse] == ["MSE", "3", "2", "50.00", "2"]
    assert [cell.text for cell in epm] == ["+ EPM", "2", "0", "–", "–"]


def test_a_report_on_tuned_runs_warns_on_its_first_page(experiment: Callable[..., Made]) -> None:
    made = experiment(seeds=(0,))
    plain = compose(made.inputs())
    assert not [t for t in plain.tables if t.id == "tuning"]
    (suite,) = made.inputs().experiment.suites
    tuning = Tuning(study="s", splits=("dev1",), fields=("loss.tau",), trials={"epm": (0.3, 0.4)})
    made.store.client.log_dict(suite.run_id, tuning.model_dump(), names.TUNING_FILE)
    report = compose(made.inputs())
    assert [w for w in report.warnings if "MSE none, + EPM 2" in w]
    assert [t for t in report.tables if t.id == "tuning"]
    assert [p for p in report.pictures if p.id == "tuning"]
