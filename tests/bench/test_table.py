"""The table of measurements: medians, verdicts, and what is written."""

import json

import pytest

from ablation.bench.table import Bound, Row, as_json, as_markdown, cells, ratios


@pytest.mark.parametrize(
    ("values", "bound", "target", "met"),
    [
        ((1.0, 9.0, 2.0), "at least", 2.0, True),  # the median counts, not the mean
        ((1.0, 9.0, 1.9), "at least", 2.0, False),
        ((0.5, 0.7), "at most", 0.6, True),
        ((0.5, 0.8), "at most", 0.6, False),
        ((3.0,), "none", None, None),
    ],
)
def test_the_median_decides(
    values: tuple[float, ...], bound: Bound, target: float | None, met: bool | None
) -> None:
    assert Row("training", "x", values, "x", bound, target).is_met is met


def test_cells_show_the_spread_and_what_was_to_be_reached() -> None:
    row = Row("training", "speed", (2.0, 2.5, 2.25), "x", "at least", 2.0, "2.61x at best")
    assert cells(row) == ("speed", "2.25x", "2x to 2.5x", "≥ 2x", "met", "2.61x at best")
    assert cells(Row("tracking", "share", (0.004,), "%", "at most", 0.01))[1:5] == (
        "0.40 %",
        "one",
        "≤ 1.00 %",
        "met",
    )
    assert cells(Row("suite", "whole", (130.0,), "s"))[1:5] == ("130 s", "one", "", "")


def test_the_table_as_markdown_has_a_line_a_row_and_keeps_pipes_apart() -> None:
    lines = as_markdown(
        [Row("a", "b|c", (1.0,), "x"), Row("a", "d", (1.0,), "x")], "caption"
    ).splitlines()
    assert lines[0] == "caption"
    assert len(lines) == 6
    assert "b\\|c" in lines[4]


def test_the_figures_are_json_with_medians() -> None:
    (kept,) = json.loads(
        as_json([Row("a", "b", (1.0, 3.0), "x", "at least", 2.5, parts={"s": [1, 2]})])
    )
    assert (kept["median"], kept["met"], kept["parts"]) == (2.0, False, {"s": [1, 2]})


def test_ratios_are_taken_round_by_round() -> None:
    assert ratios([2.0, 9.0], [1.0, 3.0]) == (2.0, 3.0)
    with pytest.raises(ValueError, match="longer"):
        ratios([1.0], [1.0, 2.0])
