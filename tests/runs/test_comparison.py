"""The comparison table: what stands in its cells, and what does not when runs are missing."""

import math

import pandas as pd
import pytest

from ablation.runs.comparison import as_markdown, as_text, compare, largest_grid
from ablation.training.records import RunRecord


def record(
    variant: str, split: str, seed: int, dev: float | None, test: dict[str, float] | None = None
) -> RunRecord:
    return RunRecord(
        variant=variant,
        split=split,
        seed=seed,
        identity="x",
        best_epoch=1,
        collapsed=dev is None,
        unseen_in_training=(),
        dev={} if dev is None else {"pearson": dev},
        test=test,
    )


def cell(table: pd.DataFrame, variant: str, column: str) -> pd.Series:
    return table[(table["variant"] == variant) & (table["column"] == column)].iloc[0]


def test_cells_are_means_and_standard_deviations_over_seeds_times_100() -> None:
    table = compare([record("mse", "dev1", 0, 0.60), record("mse", "dev1", 1, 0.70)])
    found = cell(table, "mse", "dev1")
    assert found["mean"] == pytest.approx(65.0)
    assert found["sd"] == pytest.approx(math.sqrt(50))
    assert found["seeds"] == 2
    assert found["paper"] == 68.66


def test_one_seed_has_no_standard_deviation() -> None:
    assert math.isnan(cell(compare([record("mse", "dev1", 0, 0.6)]), "mse", "dev1")["sd"])


def test_test_columns_come_from_dev1s_models_or_from_the_split_that_is_asked_for() -> None:
    records = [
        record("mse", "dev2", 0, 0.5, {"pearson": 0.1}),
        record("mse", "dev1", 0, 0.5, {"pearson": 0.2}),
    ]
    assert cell(compare(records), "mse", "test overall")["mean"] == pytest.approx(20)
    assert cell(compare(records, test_from="dev2"), "mse", "test overall")["mean"] == pytest.approx(
        10
    )
    assert cell(compare(records[:1]), "mse", "test overall")["mean"] == pytest.approx(10)


def test_all_pairs_of_dev2_are_one_column_and_so_are_the_test_scores_of_their_models() -> None:
    """Finding 8: neither the first pair nor another stands for all of them."""
    pairs = ("dev2:en+fr", "dev2:en+it", "dev2:fr+it")
    scores = {(pair, seed): 0.1 * (i + seed) for i, pair in enumerate(pairs) for seed in (0, 1)}
    records = [record("mse", *key, 0.5 + v, {"pearson": v}) for key, v in scores.items()]
    table = compare(records)
    assert list(table["column"]) == ["dev2 (3 splits)", "test seen", "test unseen", "test overall"]
    dev, test = cell(table, "mse", "dev2 (3 splits)"), cell(table, "mse", "test overall")
    assert dev["mean"] - 50 == pytest.approx(test["mean"])
    assert test["mean"] == pytest.approx(100 * sum(scores.values()) / 6)
    assert (dev["seeds"], test["seeds"], dev["paper"]) == (6, 6, compare(records[:1])["paper"][0])


def test_a_mean_over_splits_takes_the_same_seeds_of_each() -> None:
    assert largest_grid({"a": [0, 1, 2], "b": [0, 1], "c": []}) == (("a", "b"), (0, 1))
    assert largest_grid({"a": [0, 1, 2], "b": [3]}) == (("a",), (0, 1, 2))
    assert largest_grid({"a": [0, 1], "b": [1]}) == (("a", "b"), (1,))
    assert largest_grid({}) == ((), ())


def test_missing_stays_missing() -> None:
    table = compare([record("mse", "dev1", 0, 0.5), record("epm", "dev2", 0, None)])
    assert math.isnan(cell(table, "mse", "dev2")["mean"])
    assert math.isnan(cell(table, "epm", "dev2")["mean"])
    assert cell(table, "epm", "dev2")["seeds"] == 0
    text = as_text(table, with_paper=False)
    assert text.loc["epm", "dev2"] == "–"


def test_rows_stand_in_the_papers_order_and_columns_in_the_order_of_the_splits() -> None:
    table = compare(
        [
            record("ensemble", "dev1", 0, 0.7),
            record("epm", "dev1", 0, 0.6),
            record("mse", "dev2:fr+it", 0, 0.5),
        ]
    )
    text = as_text(table)
    assert list(text["Method"]) == ["MSE", "+ EPM", "Ensemble"]
    assert list(text.columns)[1:] == [
        "dev1",
        "dev2:fr+it",
        "test seen",
        "test unseen",
        "test overall",
    ]


def test_the_papers_figure_stands_in_brackets_where_it_belongs() -> None:
    table = compare([record("epm", "dev1", 0, 0.7, {"pearson_unseen": 0.4})])
    assert as_text(table).loc["epm", "dev1"] == "70.00 [68.86]"
    assert as_text(table).loc["epm", "test unseen"] == "40.00 [44.85]"
    assert as_text(table, with_paper=False).loc["epm", "dev1"] == "70.00"


def test_markdown_has_a_line_for_each_variant() -> None:
    lines = as_markdown(compare([record("mse", "dev1", 0, 0.5)])).splitlines()
    assert lines[0].startswith("| Method | dev1 |")
    assert lines[2].startswith("| MSE | 50.00 [68.66] |")


def test_nothing_gives_an_empty_table() -> None:
    assert compare([]).empty
    assert as_text(compare([])).empty
