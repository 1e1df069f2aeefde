"""Describe a corpus as the paper does: rows by language (Table 2), label histogram (Figure 1)."""

from typing import Final

import numpy as np
import pandas as pd
from rich.bar import Bar
from rich.console import Console
from rich.table import Table

from ablation.config.paper_figures import TEST_ROWS, TRAIN_ROWS
from ablation.data.corpus import HIGHEST, LOWEST, Corpus, repeated_texts, text_key
from ablation.data.languages import language_name, ordered

#: Width of the histogram's bins, in label units.
BIN_WIDTH: Final = 0.25


def row_counts(train_rows: pd.DataFrame, test_rows: pd.DataFrame | None) -> pd.DataFrame:
    """Count rows by language, beside the paper's Table 2.

    Args:
        train_rows: The labelled rows.
        test_rows: The test rows, if any.

    Returns:
        Integer columns "train", "paper train", "test" and "paper test", indexed by ISO code.
    """
    test_languages = pd.Series(dtype=str) if test_rows is None else test_rows["language"]
    languages = ordered(set(TRAIN_ROWS) | set(train_rows["language"]) | set(test_languages))
    train, test = train_rows["language"].value_counts(), test_languages.value_counts()
    return pd.DataFrame(
        {
            "train": [int(train.get(code, 0)) for code in languages],
            "paper train": [TRAIN_ROWS.get(code, 0) for code in languages],
            "test": [int(test.get(code, 0)) for code in languages],
            "paper test": [TEST_ROWS.get(code, 0) for code in languages],
        },
        index=pd.Index(languages, name="language"),
    )


def label_histogram(label: pd.Series) -> pd.Series:
    """Count labels as in Figure 1, in bins of `BIN_WIDTH` from 1 to 5.

    Return counts indexed by each bin's lower edge; 5.0 has a bin of its own. NaN is not counted.
    """
    edges = np.arange(LOWEST, HIGHEST + BIN_WIDTH / 2, BIN_WIDTH)
    counts = np.bincount(np.digitize(label.dropna(), edges) - 1, minlength=len(edges))
    return pd.Series(counts, index=pd.Index(edges, name="label"))


def print_description(corpus: Corpus, console: Console) -> None:
    """Print Table 2, Figure 1's histogram, and notes on labels and repeated texts."""
    counts = row_counts(corpus.train, corpus.test)
    table = Table(title=f"Rows by language: {corpus.name}", title_justify="left")
    table.add_column("language")
    for column in counts.columns:
        table.add_column(column, justify="right")
    for code, row in counts.iterrows():
        differs = row["train"] != row["paper train"] or row["test"] != row["paper test"]
        table.add_row(
            f"{language_name(str(code))} ({code})", *map(str, row), style="" if differs else "dim"
        )
    table.add_section()
    table.add_row("All", *(str(total) for total in counts.sum()))
    console.print(table)
    histogram = label_histogram(corpus.train["label"])
    figure = Table(
        title="Labelled rows by intimacy (Figure 1)",
        title_justify="left",
        show_header=False,
        box=None,
    )
    for edge, count in histogram.items():
        figure.add_row(
            f"{edge:.2f}", str(count), Bar(float(histogram.max()), 0, float(count), width=50)
        )
    console.print(figure)
    for note in notes(corpus, counts):
        console.print(note, markup=False, highlight=False)


def notes(corpus: Corpus, counts: pd.DataFrame) -> list[str]:
    """Return sentences on labels, repeated texts and the paper's counts."""
    sentences = [
        f"digest {corpus.digest[:16]}; "
        + ("synthetic data, no benchmark" if corpus.synthetic else "own data")
    ]
    if corpus.test is None:
        sentences.append("There is no test.csv: only development rows will be predicted.")
    elif not corpus.has_test_labels:
        sentences.append("The test rows have no labels: they will be predicted but not scored.")
    if repeats := repeated_texts(corpus.train):
        sentences.append(
            f"{repeats} training rows repeat a text; equal texts stay on one side of every split."
        )
    if corpus.test is not None and (
        shared := int(
            corpus.test["text"].map(text_key).isin(set(corpus.train["text"].map(text_key))).sum()
        )
    ):
        sentences.append(f"{shared} test rows have a text that is also in the training file.")
    differing = counts[
        (counts["train"] != counts["paper train"]) | (counts["test"] != counts["paper test"])
    ]
    if differing.empty:
        sentences.append("Row counts equal the paper's Table 2 in every language.")
    else:
        sentences.append(
            f"Row counts differ from the paper's Table 2 in {len(differing)} of {len(counts)}"
            " languages."
        )
    return sentences
