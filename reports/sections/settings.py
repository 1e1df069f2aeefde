"""Show the data and settings: Tables 1, 2 and 4, Figures 1 to 3, and the tuning."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd

from ablation.config.schema import FIELDS, RunConfig
from ablation.data.description import (
    group_counts,
    group_title,
    label_digits,
    label_histogram,
    row_counts,
    text_language,
)
from ablation.data.languages import language_name, ordered
from ablation.data.layout import MINT_LAYOUT, CorpusLayout
from reports.analysis.budgets import NOT_TUNED, Budgets
from reports.analysis.distances import read_distances
from reports.analysis.groups import Group
from reports.analysis.inputs import ReportInputs
from reports.analysis.labels import row_title
from reports.analysis.measures import Measurements
from reports.rendering import figures
from reports.rendering.blocks import Block, Picture
from reports.rendering.tables import (
    EMPTY,
    Cell,
    Column,
    Mark,
    Table,
    TableBuilder,
    number,
    number_column,
)
from reports.sections.cells import quoted_text
from reports.sections.registry import section

#: Table 4's settings by their field, which has the paper's value for its default.
TABLE_4: Final = {
    "model.freeze_layers": "Number of freeze layer",
    "data.max_tokens": "Max sequence length",
    "optimisation.batch_size": "Batch size",
    "optimisation.epochs": "Epochs",
    "optimisation.adam_eps": "Adam epsilon",
    "optimisation.weight_decay": "Weight decay",
    "optimisation.decay": "Scheduler after the warmup",
    "optimisation.warmup": "Warmup rate",
    "optimisation.max_grad_norm": "Max grad norm",
    "loss.tau": "τ",
    "optimisation.lr_encoder": "XLM-R learning rate",
    "optimisation.lr_head": "Classifier learning rate",
}
#: Table 4's only line that is no setting stands before this field.
_OPTIMIZER_BEFORE: Final = "optimisation.adam_eps"
_MAKE_THE_VARIANT: Final = ("loss.regression", "loss.contrastive", "model.frozen_tuning")


@section("Data and settings", order=90)
def build(inputs: ReportInputs) -> Iterator[Block]:
    """Yield the data, the settings, the tuning, frozen layers and the batch's distances."""
    train, test = inputs.corpus
    if train is None:
        yield "No suite of these runs kept its corpus: no Tables 1 and 2, and no Figure 1."
    else:
        layout = inputs.layout
        if inputs.shows_texts:
            yield table_1(train, layout)
        yield table_2(train, test) if layout.is_mint else counts_table(train, test, layout)
        histogram = label_histogram(train["label"], layout.label_range)
        drawn = figures.histogram(histogram, layout.task.measures)
        figure = "Figure 1: labelled" if layout.is_mint else "Labelled"
        yield Picture("figure1", f"{figure} rows by {layout.task.measures}.", drawn)
    yield table_4(inputs.group, with_paper=inputs.layout.is_mint)
    if inputs.budgets:
        yield tuning_table(inputs.budgets)
        yield _tuning_picture(inputs.budgets)
    frozen = layers(inputs.measurements)
    if len(frozen):
        caption = (
            f"{_numbered(inputs, 3, 'trained')} layers (filled) and frozen ones (hatched) of each"
            " variant; E embeddings, H head."
        )
        yield Picture("figure3", caption, figures.layers(frozen))
    distances = read_distances(inputs.experiment, inputs.group)
    if distances:
        taus = ", ".join(f"{tau:g}" for tau in sorted({d.tau for d in distances}))
        caption = (
            f"{_numbered(inputs, 2, 'the')} KL divergences between the sentence vectors of one"
            " real training batch after training (left), and the positive (P) and negative (N)"
            f" pairs of some of its rows with theirs (right). τ = {taus}."
        )
        yield Picture("figure2", caption, figures.distances(distances), wide=True)


def table_1(train: pd.DataFrame, layout: CorpusLayout = MINT_LAYOUT) -> Table:
    """Return a sample of each group: its first row of a length that is typical."""
    word, measures = layout.group.word, layout.task.measures.capitalize()
    title = "samples of the training set"
    table = TableBuilder(
        "table1",
        f"Table 1: {title}" if layout.is_mint else title.capitalize(),
        text=Column("Text", width=78),
        language=Column(word.capitalize(), width=12),
        label=number_column(measures, width=10),
    )
    digits = label_digits(layout.label_range)
    for code in ordered(set(train["language"])):
        rows = train[train["language"] == code]
        lengths = rows["text"].str.len()
        low, high = lengths.quantile(0.25), lengths.quantile(0.75)
        typical = rows[lengths.between(low, high)].iloc[0]
        table.add(
            text=Cell(quoted_text(typical), language=text_language(code, layout)),
            language=group_title(code, layout),
            label=number(float(typical["label"]), digits),
        )
    lowest, highest = layout.label_range
    return table.build(
        f"{measures} from {lowest:g} to {highest:g}. Of each {word} the first row whose length is"
        " in the middle half."
    )


def counts_table(train: pd.DataFrame, test: pd.DataFrame | None, layout: CorpusLayout) -> Table:
    """Return the rows of each group."""
    counts = group_counts({"labelled": train} | ({} if test is None else {"test": test}))
    table = TableBuilder(
        "table2",
        f"Rows of each {layout.group.word}",
        group=Column(layout.group.word.capitalize()),
        **{str(part): number_column(str(part)) for part in counts.columns},
    )
    for group, row in [*counts.iterrows(), *([("All", counts.sum())] if len(counts) > 1 else [])]:
        title = group_title(str(group), layout)
        cells = {str(part): Cell(f"{count:,}", float(count)) for part, count in row.items()}
        table.add(group=title if title == group else f"{title} ({group})", **cells)
    return table.build(*([layout.task.reference] if layout.task.reference else []), wide=False)


def table_2(train: pd.DataFrame, test: pd.DataFrame | None) -> Table:
    """Return the rows of each language beside the paper's Table 2; differing ones marked."""
    table = TableBuilder(
        "table2",
        "Table 2: rows of each language",
        language=Column("Language"),
        train=number_column("ours", group="Train"),
        paper_train=number_column("paper", group="Train"),
        test=number_column("ours", group="Test"),
        paper_test=number_column("paper", group="Test"),
    )
    counts = row_counts(train, test)
    for code, row in [*counts.iterrows(), ("All", counts.sum())]:
        cells = {}
        for name in ("train", "test"):
            count, papers = row[name], row[f"paper {name}"]
            mark: Mark = "differs" if count != papers else ""
            cells[name] = Cell(f"{count:,}", float(count), mark=mark)
            cells[f"paper_{name}"] = Cell(f"{papers:,}", float(papers))
        name = "All" if code == "All" else f"{language_name(str(code))} ({code})"
        table.add(language=name, **cells)
    return table.build(
        "Marked: other than the paper's. MINT has fewer labelled test rows, since the file that"
        " was handed out held unlabelled decoys.",
        wide=False,
    )


def _numbered(inputs: ReportInputs, figure: int, word: str) -> str:
    """Begin a caption with the paper's number of the figure if the corpus is like the paper's."""
    return f"Figure {figure}: {word}" if inputs.layout.is_mint else word.capitalize()


def table_4(group: Group, *, with_paper: bool = True) -> Table:
    """Return the paper's hyperparameters and the ones used, then other changed settings."""
    table = TableBuilder(
        "table4",
        "Table 4: the settings used" if with_paper else "The settings used",
        title=Column("Table 4" if with_paper else "name", width=27),
        field=Column("setting", width=28),
        **({"printed": Column("paper", width=30)} if with_paper else {}),
        used=Column("used", width=15),
    )
    defaults = RunConfig().flat()
    for field in (*TABLE_4, *(f for f in FIELDS if f not in TABLE_4)):
        if field == _OPTIMIZER_BEFORE:
            cells = {"printed": "AdamW"} if with_paper else {}
            table.add(title="Optimizer", field=EMPTY, used="AdamW", **cells)
        used = sorted({run.params[field] for run in group.runs if field in run.params})
        differs = used != [str(defaults[field])]
        is_unchanged = field not in TABLE_4 and (not differs or field in _MAKE_THE_VARIANT)
        if not used or is_unchanged:
            continue
        printed = "not given" if defaults[field] is None else str(defaults[field])
        if field not in TABLE_4 and field != "model.encoder":
            printed += " (not in Table 4)"
        table.add(
            title=TABLE_4.get(field, EMPTY.text),
            field=field,
            used=Cell(", ".join(used), mark="differs" if differs and with_paper else ""),
            **({"printed": printed} if with_paper else {}),
        )
    return table.build(
        ("Marked: other than the paper's. " if with_paper else "")
        + "What makes a variant (its losses, frozen tuning) is not listed."
    )


def tuning_table(budgets: Budgets) -> Table:
    """Return each variant's trials and the best of them; unequal numbers marked."""
    tuning = budgets.tuning
    table = TableBuilder(
        "tuning",
        "How the settings were tuned",
        method=Column("Method"),
        trials=number_column("trials"),
        completed=number_column("completed"),
        best=number_column("best Pearson × 100"),
        at=number_column("at trial"),
    )
    most = max(budgets.counts.values())
    for variant, count in budgets.counts.items():
        best = budgets.best_so_far(variant)
        completed = int(np.isfinite(tuning.trials.get(variant, ())).sum())
        first_best = int(np.flatnonzero(best == best[-1])[0]) + 1 if completed else None
        table.add(
            method=row_title(variant, budgets.table),
            trials=Cell(str(count or NOT_TUNED), count, mark="differs" if count != most else ""),
            completed=str(completed) if count else EMPTY,
            best=number(100 * best[-1] if count else None),
            at=EMPTY if first_best is None else first_best,
        )
    return table.build(
        f"Study {tuning.study!r}: {', '.join(tuning.fields)}, on development rows of"
        f" {', '.join(tuning.splits)}. Scores on these rows are flattered by the choice; the others"
        " are not. Marked: fewer trials than another row.",
        wide=False,
    )


def layers(measurements: Measurements) -> pd.DataFrame:
    """Return Figure 3's data: trained and frozen layers of each variant.

    Columns: variant (title), total, frozen (layers), trainable (share of parameters).
    """
    rows = {}
    for run in measurements.group.runs:
        record = measurements.records[run.run_id]
        if record.layers_total is not None and record.layers_frozen is not None:
            share = (record.parameters_trainable or 0) / (record.parameters_total or 1)
            title = row_title(run.variant, measurements.group.table)
            rows[run.variant] = (title, record.layers_total, record.layers_frozen, share)
    return pd.DataFrame(list(rows.values()), columns=["variant", "total", "frozen", "trainable"])


def _tuning_picture(budgets: Budgets) -> Picture:
    best = {
        row_title(v, budgets.table): budgets.best_so_far(v) for v, n in budgets.counts.items() if n
    }
    caption = "Highest development Pearson against the number of trials."
    return Picture("tuning", caption, figures.budgets(best))
