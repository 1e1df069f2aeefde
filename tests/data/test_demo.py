"""The demo corpus keeps what the README promises of it."""

import re
import unicodedata

import pandas as pd
import pytest

from ablation.data.corpus import Corpus, load_corpus
from ablation.data.description import label_histogram

TRAINING = ("zh", "en", "fr", "it", "pt", "es")
ALL = (*TRAINING, "ar", "nl", "hi", "ko")
#: Written without spaces between words: compared by characters.
BY_CHARACTER = ("zh",)


@pytest.fixture(scope="module")
def demo() -> Corpus:
    return load_corpus("demo")


def normalised(text: str) -> list[str]:
    return re.findall(r"\w+", unicodedata.normalize("NFKC", text).lower())


def units(text: str, language: str) -> list[str]:
    words = normalised(text)
    return list("".join(words)) if language in BY_CHARACTER else words


def runs(texts: pd.Series, language: str, length: int) -> set[tuple[str, ...]]:
    found = [units(text, language) for text in texts]
    return {tuple(u[i : i + length]) for u in found for i in range(len(u) - length + 1)}


def test_it_is_marked_as_synthetic(demo: Corpus) -> None:
    assert demo.synthetic
    assert demo.name == "demo"


def test_it_has_enough_rows_in_every_language(demo: Corpus) -> None:
    assert demo.test is not None
    train, test = demo.train["language"].value_counts(), demo.test["language"].value_counts()
    assert set(train.index) == set(TRAINING)
    assert set(test.index) == set(ALL)
    assert train.min() >= 120
    assert test.min() >= 40
    assert demo.has_test_labels


def test_no_two_rows_are_equal_after_normalisation(demo: Corpus) -> None:
    assert demo.test is not None
    texts = [*demo.train["text"], *demo.test["text"]]
    assert len({" ".join(normalised(text)) for text in texts}) == len(texts)


@pytest.mark.parametrize("language", TRAINING)
def test_train_and_test_share_no_sentence_frame(demo: Corpus, language: str) -> None:
    """No run of four words (eight characters in Chinese) stands in both."""
    assert demo.test is not None
    length = 8 if language in BY_CHARACTER else 4
    train, test = (
        frame.loc[frame["language"] == language, "text"] for frame in (demo.train, demo.test)
    )
    assert runs(train, language, length) & runs(test, language, length) == set()


def test_labels_have_figure_1s_long_tail(demo: Corpus) -> None:
    for language, rows in demo.train.groupby("language"):
        label = rows["label"]
        assert label.between(1.0, 5.0).all()
        assert (label < 2).mean() > 0.4, language
        assert (label >= 4).mean() < 0.12, language
        assert label.max() >= 4.2, language
    by_point = label_histogram(demo.train["label"]).groupby(lambda edge: min(int(edge), 4)).sum()
    assert by_point.is_monotonic_decreasing
