"""Languages by their spellings; Table 2 and Figure 1 of any corpus."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from ablation.config.paper_figures import TEST_ROWS, TRAIN_ROWS
from ablation.core.errors import UsageError
from ablation.data.corpus import load_corpus
from ablation.data.description import label_histogram, notes, row_counts
from ablation.data.languages import LANGUAGES, ordered, parse_language, require_language
from tests.conftest import some_rows


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("English", "en"),
        ("ENGLISH", "en"),
        (" french ", "fr"),
        ("zh", "zh"),
        ("po", "pt"),
        ("sp", "es"),
        ("du", "nl"),
        ("German", "de"),
    ],
)
def test_names_and_codes_are_read(text: str, code: str) -> None:
    assert parse_language(text) == code


@pytest.mark.parametrize("text", ["", "xx", "Englisch", "en-US"])
def test_what_is_no_language_is_none(text: str) -> None:
    assert parse_language(text) is None
    with pytest.raises(UsageError, match="unknown language"):
        require_language(text)


def test_every_language_is_read_by_its_own_name_and_code() -> None:
    for code, name in LANGUAGES.items():
        assert parse_language(code) == parse_language(name) == code


def test_the_order_is_that_of_table_2() -> None:
    assert ordered(set(TRAIN_ROWS)) == list(TRAIN_ROWS) == list(TEST_ROWS)
    assert ordered({"de", "ko", "zh"}) == ["zh", "ko", "de"]


def test_the_papers_totals_are_those_of_its_table_2() -> None:
    assert sum(TRAIN_ROWS.values()) == 9491
    assert sum(TEST_ROWS.values()) == 13697


def test_row_counts_stand_beside_the_papers(small_corpus: Path) -> None:
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


def test_each_label_is_counted_once_in_the_histogram() -> None:
    histogram = label_histogram(pd.Series([1.0, 1.2, 1.25, 2.9, 5.0, float("nan")]))
    assert histogram[1.0] == 2
    assert histogram[1.25] == 1
    assert histogram[2.75] == 1
    assert histogram[5.0] == 1
    assert histogram.sum() == 5


def test_notes_say_what_is_worth_knowing(corpus_folder: Callable[..., Path]) -> None:
    train = some_rows(20, ("en", "fr"))
    folder = corpus_folder([*train, train[0]], [(train[1][0], None, "fr"), ("new", None, "ko")])
    corpus = load_corpus(str(folder))
    found = " ".join(notes(corpus, row_counts(corpus.train, corpus.test)))
    for part in (
        "no labels",
        "1 training rows repeat",
        "1 test rows have a text that is also",
        "differ from the paper's Table 2",
    ):
        assert part in found


def test_mints_counts_equal_the_papers(mint: Path) -> None:
    corpus = load_corpus(str(mint))
    assert "Row counts equal the paper's Table 2 in every language." in notes(
        corpus, row_counts(corpus.train, corpus.test)
    )
