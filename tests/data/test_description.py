"""Table 2, Figure 1 and the notes on any corpus, as data and on the screen."""

import io
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from ablation.config.paper_figures import OVERALL, TEST_ROWS, TRAIN_ROWS
from ablation.data.corpus import load_corpus
from ablation.data.description import (
    label_histogram,
    notes,
    print_description,
    row_counts,
)
from tests.conftest import Row, some_rows

TRAIN = some_rows(20, ("en", "fr"))


def printed(folder: Path) -> str:
    console = Console(file=io.StringIO(), width=120)
    print_description(load_corpus(str(folder)), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_table_2_has_a_line_for_each_language_and_one_for_all(small_corpus: Path) -> None:
    lines = {
        line.split("│")[1].strip(): line
        for line in printed(small_corpus).splitlines()
        if line.count("│") == 6
    }
    cells = {name: [int(cell) for cell in line.split("│")[2:-1]] for name, line in lines.items()}
    assert cells["English (en)"] == [20, 1587, 6, 1396]
    assert cells["Korean (ko)"] == [0, 0, 6, 1410]
    assert cells["Hindi (hi)"] == [0, 0, 0, 1260]
    assert cells["All"] == [80, 9491, 30, 13697]


def test_figure_1_has_a_line_for_each_bin(small_corpus: Path) -> None:
    figure = printed(small_corpus).split("Figure 1")[1].splitlines()
    counts = {
        parts[0]: int(parts[1])
        for line in figure
        if len(parts := line.split()) >= 2 and parts[1].isdigit()
    }
    assert (
        counts["1.00"] == counts["2.75"] == counts["4.50"] == 16
    )  # the labels are 1, 1.9, 2.8, 3.7 and 4.6
    assert sum(counts.values()) == 80
    assert len(counts) == 17


NO_TEST = "There is no test.csv: only development rows will be predicted."
NO_LABELS = "The test rows have no labels: they will be predicted but not scored."
ONE_REPEATS = "1 training row with a text of another; equal texts stay on one side of every split."
ONE_SHARED = "1 test rows have a text that is also in the training file."


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        (TRAIN, None, {NO_TEST}),
        (TRAIN, [("new", 2.0, "ko"), ("newer", 3.0, "ko")], set()),
        (TRAIN, [("new", None, "ko")], {NO_LABELS}),
        (TRAIN, [(TRAIN[0][0], 2.0, "en")], {ONE_SHARED}),
        ([*TRAIN, TRAIN[0]], None, {NO_TEST, ONE_REPEATS}),
        ([*TRAIN, TRAIN[0]], [(TRAIN[0][0], None, "en")], {NO_LABELS, ONE_REPEATS, ONE_SHARED}),
    ],
    ids=[
        "no test file",
        "all is well",
        "no labels",
        "shared text",
        "repeated text",
        "everything at once",
    ],
)
def test_a_note_is_printed_exactly_where_it_holds(
    train: list[Row], test: list[Row] | None, expected: set[str], corpus_folder: Callable[..., Path]
) -> None:
    corpus = load_corpus(str(corpus_folder(train, test)))
    assert {NO_TEST, NO_LABELS, ONE_REPEATS, ONE_SHARED} & set(
        notes(corpus, row_counts(corpus.train, corpus.test))
    ) == expected


def test_a_language_beyond_the_papers_ten_gets_a_row_of_its_own(
    corpus_folder: Callable[..., Path],
) -> None:
    counts = row_counts(
        load_corpus(str(corpus_folder([*TRAIN, ("guten Tag", 2.0, "de")]))).train, None
    )
    assert counts.index.tolist()[-1] == "de"
    assert counts.loc["de"].tolist() == [1, 0, 0, 0]


def test_row_counts_are_beside_the_papers(small_corpus: Path) -> None:
    corpus = load_corpus(str(small_corpus))
    counts = row_counts(corpus.train, corpus.test)
    assert counts.loc["en"].to_dict() == {
        "train": 20,
        "paper train": 1587,
        "test": 6,
        "paper test": 1396,
    }
    assert counts.loc["ko"].to_dict() == {
        "train": 0,
        "paper train": 0,
        "test": 6,
        "paper test": 1410,
    }
    assert len(counts) == 10


def test_the_papers_totals_are_those_of_its_table_2() -> None:
    assert sum(TRAIN_ROWS.values()) == 9491
    assert sum(TEST_ROWS.values()) == 13697
    assert OVERALL == 56.7  # the abstract's


def test_a_missing_label_is_in_no_bin() -> None:
    assert label_histogram(pd.Series([1.0, 5.0, float("nan")])).sum() == 2


@settings(max_examples=60)
@given(st.lists(st.floats(1, 5), max_size=40))
def test_a_label_lies_in_the_bin_that_begins_at_or_below_it(labels: list[float]) -> None:
    histogram = label_histogram(pd.Series(labels, dtype=float))
    edges = [1 + 0.25 * i for i in range(17)]
    assert histogram.index.tolist() == edges
    assert histogram.tolist() == [
        sum(edge <= label < edge + 0.25 for label in labels) for edge in edges
    ]


def test_differing_and_equal_counts_are_noted(small_corpus: Path, mint: Path) -> None:
    small, whole = load_corpus(str(small_corpus)), load_corpus(str(mint))
    equal = "Row counts equal the paper's Table 2 in every language."
    assert equal in notes(whole, row_counts(whole.train, whole.test))
    assert any(
        "differ from the paper's Table 2 in 10 of 10 languages" in note
        for note in notes(small, row_counts(small.train, small.test))
    )


def test_mints_labels_fall_off_as_in_figure_1(mint: Path) -> None:
    """Section 2: close to 1400 rows of 1.0, nearly a hundred times as many as of 5.0."""
    corpus = load_corpus(str(mint))
    label = corpus.train["label"]
    histogram = label_histogram(label)
    assert histogram.sum() == 9491
    assert int((label == 1.0).sum()) == pytest.approx(1400, abs=100)
    assert int((label == 5.0).sum()) < 1400 / 50
    assert histogram.loc[1.0:2.0].sum() > histogram.loc[3.0:5.0].sum()
