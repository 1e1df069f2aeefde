"""Comparisons of two experiments, groups or variants: pairing, numbers, refusals, files."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import ablation
from ablation.cli.main import main
from ablation.core.errors import UsageError
from reports.analysis.subsets import EvalSubset
from reports.compare import CompareRequest, CompareResult, compare, write_comparison
from tests.reports.conftest import Made


def asked(made: Made, first: str, second: str) -> CompareResult:
    return compare(CompareRequest(first, second, made.name, made.uri))


def test_variants_of_one_experiment_are_the_reports_step(table_3: Made) -> None:
    result = asked(table_3, "mse", "epm")
    measurements = table_3.inputs().measurements
    for found in result.comparisons:
        step = measurements.step("mse", "epm", found.subset)
        assert found.estimate.mean == pytest.approx(step.mean)
        assert found.estimate.interval.low == pytest.approx(step.interval.low)
        assert (found.paired_on, found.seeds) == ("rows and seeds", (3, 3))
    assert result.differ_in == []


def test_experiments_are_paired_on_the_rows_and_seeds_of_both(experiment: Any) -> None:
    first = experiment(name="first", seeds=(0, 1, 2), noise={"mse": 0.9, "epm": 0.8})
    experiment(name="second", seeds=(1, 2, 3), noise={"epm": 0.4}, code="e" * 40)
    result = asked(first, "first", "second")
    assert {(c.first.variant, c.second.variant) for c in result.comparisons} == {("epm", "epm")}
    assert result.differ_in == ["code version"]
    sides = [side.inputs.measurements for side in result.sides]
    for found in result.comparisons:
        assert found.estimate.seeds == (1, 2)
        scores = [
            dict(zip(c.seeds, c.per_seed, strict=True))
            for c in (side.cell("epm", found.subset) for side in sides)
        ]
        expected = [scores[1][seed] - scores[0][seed] for seed in (1, 2)]
        assert found.estimate.per_seed.tolist() == pytest.approx(expected)


def test_without_a_common_seed_variances_add_up_as_welch_has_them(experiment: Any) -> None:
    first = experiment(name="first", seeds=(0, 1, 2, 3), noise={"epm": 0.9})
    experiment(name="second", seeds=(7, 8, 9), noise={"epm": 0.4})
    result = asked(first, "first", "second")
    (found,) = [c for c in result.comparisons if c.subset == EvalSubset("dev1")]
    assert (found.paired_on, found.seeds) == ("rows", (4, 3))
    scores = [side.inputs.measurements.cell("epm", found.subset).per_seed for side in result.sides]
    welch = stats.ttest_ind(scores[1], scores[0], equal_var=False)
    assert found.estimate.uncertainty is not None
    parts = {c.factor: c for c in found.estimate.uncertainty.components}
    assert parts["seeds"].variance == pytest.approx(sum(s.var(ddof=1) / len(s) for s in scores))
    assert parts["seeds"].df == pytest.approx(welch.df)
    assert found.estimate.mean == pytest.approx(scores[1].mean() - scores[0].mean())
    # The rows are the same, so that their part is smaller than if they were others.
    alone = [
        side.inputs.measurements.cell("epm", found.subset).uncertainty for side in result.sides
    ]
    rows = [next(c for c in u.components if c.factor == "rows") for u in alone if u is not None]
    assert parts["rows"].variance < sum(c.variance for c in rows)


def test_one_common_seed_among_several_leaves_the_seeds_variance_known(experiment: Any) -> None:
    first = experiment(name="first", seeds=(0, 1, 2), noise={"epm": 0.9})
    experiment(name="second", seeds=(2, 3, 4), noise={"epm": 0.4})
    for found in asked(first, "first", "second").comparisons:
        assert (found.paired_on, found.seeds) == ("rows", (3, 3))
        assert found.estimate.uncertainty is not None
        assert {c.factor for c in found.estimate.uncertainty.components} == {"rows", "seeds"}


def test_other_data_and_other_rows_are_refused_with_the_reason(experiment: Any) -> None:
    first = experiment(name="first", noise={"epm": 0.9})
    experiment(name="other data", noise={"epm": 0.9}, data="e" * 40)
    experiment(name="other rows", noise={"epm": 0.9}, rows=50)
    with pytest.raises(UsageError, match="can't be compared: Dev1: other data"):
        asked(first, "first", "other data")
    with pytest.raises(UsageError, match="scored on different rows"):
        asked(first, "first", "other rows")
    with pytest.raises(UsageError, match="the same runs"):
        asked(first, "first", "first:epm")


def test_a_side_is_named_by_experiment_group_and_variant(experiment: Any) -> None:
    made = experiment(name="first", noise={"mse": 0.9, "epm": 0.8}, seeds=(0, 1))
    experiment(name="first", noise={"epm": 0.4}, seeds=(0, 1), settings={"optimisation.epochs": 3})
    groups = asked(made, "first#2:mse", "first#1:epm")
    assert groups.differ_in == ["optimisation.epochs"]
    assert {(c.first.variant, c.second.variant) for c in groups.comparisons} == {("mse", "epm")}
    # A variant on one side is the one to compare on both.
    (first, *_) = asked(made, "first#1", "first#2:epm").comparisons
    assert (first.first.variant, first.second.variant) == ("epm", "epm")
    with pytest.raises(UsageError, match="no variant in common"):
        asked(made, "first#1", "first#2:mse")


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("mse", "mse", "against itself"),
        ("mse", "epn", "did you mean 'epm'"),
        ("mse", "ablation:epn", "did you mean 'epm'"),
        ("nothing", "mse", "neither an experiment nor a variant"),
        ("mse", "ablation#7", "make 1 group"),
    ],
)
def test_an_unknown_side_is_refused(table_3: Made, first: str, second: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        asked(table_3, first, second)


def test_one_seed_says_what_holds_for_other_rows(experiment: Any) -> None:
    made = experiment(seeds=(0,))
    (found, *_) = asked(made, "mse", "epm").comparisons
    assert found.estimate.unit == "rows"
    assert np.isfinite(found.estimate.interval.low)


def test_files_hold_the_frame(table_3: Made, tmp_path: Path) -> None:
    result = ablation.compare("mse", "epm", table_3.name, table_3.uri)
    table, content = write_comparison(result, tmp_path / "out")
    assert table.read_text("utf-8").count("\n") == 1 + len(result.comparisons)
    listed = json.loads(content.read_text("utf-8"))["comparisons"]
    assert [row["difference"] for row in listed] == pytest.approx(
        result.to_frame()["difference"].tolist()
    )


def test_the_command_prints_what_it_paired_on(
    table_3: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["ablation", "compare", "mse", "epm", "--tracking-uri", table_3.uri]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "rows and seeds" in capsys.readouterr().out
