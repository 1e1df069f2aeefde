"""Describe a corpus as the paper does: rows by language (Table 2), label histogram (Figure 1)."""

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from rich.bar import Bar
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ablation.config.paper_figures import TEST_ROWS, TRAIN_ROWS
from ablation.core.counting import counted
from ablation.data.corpus import Corpus, repeated_texts, text_key
from ablation.data.languages import language_name, ordered
from ablation.data.layout import MINT_LAYOUT, CorpusLayout
from ablation.data.rows import UNGROUPED

#: Larger labels are written with an exponent.
_LARGEST_WRITTEN_OUT: Final = 1e9
#: The histogram has at least so many bins.
_FEWEST_BINS: Final = 12
#: Widths of bins, times a power of ten.
_WIDTHS: Final = (5.0, 2.5, 2.0, 1.0)


def bin_edges(label_range: tuple[float, float], fewest: int = _FEWEST_BINS) -> np.ndarray:
    """Return the edges of bins of one round width over a range, both ends included.

    >>> bin_edges((0, 3), fewest=6).tolist()
    [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]

    Args:
        label_range: The lowest and the highest label.
        fewest: The bins are as wide as possible if there are so many. The last edge can lie
            beyond the highest label.
    """
    lowest, highest = label_range
    widest = (highest - lowest) / fewest
    power = 10.0 ** math.floor(math.log10(widest))
    width = next(w * power for w in _WIDTHS if w * power <= widest * (1 + 1e-9))
    count = math.ceil((highest - lowest) / width * (1 - 1e-9))
    # Rounded, so that a label of 0.3 lies in the bin that begins at 3 times 0.1.
    digits = max(0, 2 - math.floor(math.log10(width)))
    return np.round(lowest + width * np.arange(count + 1), digits)


def group_title(group: str, layout: CorpusLayout) -> str:
    """Return a group's name for tables: the layout's own, or a language's in English."""
    if group in layout.group.names:
        return layout.group.names[group]
    return language_name(group) if layout.group.kind == "language" else group


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


def text_language(group: str, layout: CorpusLayout) -> str:
    """Return the language of a group's texts for quoting them: its tag, "und" if not known."""
    return group if layout.group.kind == "language" else "und"


def label_digits(label_range: tuple[float, float]) -> int:
    """Return the decimals that labels are printed with: one on 1 to 5, two on 0 to 1.

    >>> [label_digits(ends) for ends in ((1, 5), (0, 1), (0, 100), (0, 0.01))]
    [1, 2, 0, 4]
    """
    return max(0, 1 - math.floor(math.log10((label_range[1] - label_range[0]) / 2)))


def label_histogram(
    label: pd.Series, label_range: tuple[float, float] = MINT_LAYOUT.label_range
) -> pd.Series:
    """Count labels as in Figure 1, in bins of a round width; of 1 to 5, these are 0.25 wide.

    Return counts indexed by each bin's lower edge; the highest label has a bin of its own. NaN is
    not counted.
    """
    edges = bin_edges(label_range)
    counts = np.bincount(np.digitize(label.dropna(), edges) - 1, minlength=len(edges))
    return pd.Series(counts, index=pd.Index(edges, name="label"))


def print_description(corpus: Corpus, console: Console) -> None:
    """Print the rows by group, the labels' histogram, and notes.

    A corpus in MINT's format is shown beside the paper's Table 2 and Figure 1.
    """
    counts = row_counts(corpus.train, corpus.test)
    if corpus.layout.is_mint:
        console.print(_table_2(corpus, counts))
        title = "Labelled rows by intimacy (Figure 1)"
    else:
        console.print(_group_table(corpus))
        title = f"Labelled rows by {corpus.layout.task.measures}"
    histogram = label_histogram(corpus.train["label"], corpus.layout.label_range)
    figure = Table(title=title, title_justify="left", show_header=False, box=None)
    width = histogram.index[1] - histogram.index[0]
    digits = max(2, -math.floor(math.log10(width)))
    written = f".{digits}f" if abs(histogram.index[-1]) < _LARGEST_WRITTEN_OUT else "g"
    for edge, count in histogram.items():
        figure.add_row(
            f"{edge:{written}}", str(count), Bar(float(histogram.max()), 0, float(count), width=50)
        )
    console.print(figure)
    for note in notes(corpus, counts):
        console.print(note, markup=False, highlight=False)


def group_counts(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Count the rows of each group (index) in each part (integer columns), such as "train"."""
    groups = ordered({group for frame in frames.values() for group in frame["language"]})
    counts = {part: frame["language"].value_counts() for part, frame in frames.items()}
    return pd.DataFrame(
        {
            part: [int(of_part.get(group, 0)) for group in groups]
            for part, of_part in counts.items()
        },
        index=pd.Index(groups, name="group"),
    )


def _group_table(corpus: Corpus) -> Table:
    layout = corpus.layout
    kind = layout.group.word
    table = Table(title=f"Rows by {kind}: {corpus.name}", title_justify="left")
    table.add_column(kind)
    frames = {"train": corpus.training_rows}
    if corpus.given_dev:
        frames["dev"] = corpus.train.iloc[len(corpus.training_rows) :]
    if corpus.test is not None:
        frames["test"] = corpus.test
    counts = group_counts(frames)
    for column in counts.columns:
        table.add_column(str(column), justify="right")
    for group, row in counts.iterrows():
        title = group_title(str(group), layout)
        name = title if title == group else f"{title} ({group})"
        table.add_row(Text(name), *map(str, row))
    if len(counts) > 1:
        table.add_section()
        table.add_row("All", *(str(total) for total in counts.sum()))
    return table


def _table_2(corpus: Corpus, counts: pd.DataFrame) -> Table:
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
    return table


def notes(corpus: Corpus, counts: pd.DataFrame) -> list[str]:
    """Return sentences on labels, repeated texts and the paper's counts."""
    sentences = [
        f"digest {corpus.digest[:16]}; "
        + ("synthetic data, no benchmark" if corpus.synthetic else "own data")
    ]
    sentences += corpus.remarks
    if not corpus.layout.is_mint:
        sentences += _label_notes(corpus)
    if corpus.test is None and corpus.layout.is_mint:
        sentences.append("There is no test.csv: only development rows will be predicted.")
    elif corpus.test is None:
        sentences.append("There are no test rows: only development rows will be predicted.")
    elif not corpus.has_test_labels:
        sentences.append("The test rows have no labels: they will be predicted but not scored.")
    if repeats := repeated_texts(corpus.train):
        sentences.append(
            f"{counted(repeats, 'training row')} with a text of another; equal texts stay on one"
            " side of every split."
        )
    if in_case := repeated_texts(corpus.train, "ignoring_case") - repeats:
        sentences.append(
            f"{in_case} more repeat one but for case: to keep these on one side as well, as an"
            " uncased tokenizer needs it, set data.equal_texts = ignoring_case."
        )
    if corpus.test is not None and (
        shared := int(
            corpus.test["text"].map(text_key).isin(set(corpus.train["text"].map(text_key))).sum()
        )
    ):
        sentences.append(f"{shared} test rows have a text that is also in the training file.")
    if not corpus.layout.is_mint:
        return sentences
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


def _label_notes(corpus: Corpus) -> list[str]:
    """Return sentences on the labels' range and the groups."""
    layout, label = corpus.layout, corpus.train["label"]
    lowest, highest = layout.label_range
    sentences = [
        f"{layout.task.measures.capitalize()} from {lowest:g} to {highest:g}; labels go from"
        f" {label.min():g} to {label.max():g}, mean {label.mean():.3g}."
    ]
    groups = corpus.training_languages
    if groups == [UNGROUPED]:
        sentences.append("No groups: no contrastive loss and no held-out groups.")
    elif len(groups) == 1:
        sentences.append("One group only: no contrastive loss and no held-out groups.")
    if "weight" in corpus.train:
        low, high = corpus.train["weight"].min(), corpus.train["weight"].max()
        sentences.append(f"Rows weigh from {low:g} to {high:g} in losses and scores.")
    return sentences
