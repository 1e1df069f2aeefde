"""Show where the errors are: by label, by language, by prediction, and the worst ones."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np
import pandas as pd

from ablation.config.variant_table import VariantTable
from ablation.data.description import group_title, label_digits, text_language
from ablation.data.layout import MINT_LAYOUT, CorpusLayout
from reports.analysis import residuals as analysis
from reports.analysis.agreement import concordance, mae, rmse, spearman
from reports.analysis.inputs import ReportInputs
from reports.analysis.labels import row_title
from reports.analysis.residuals import Residuals
from reports.analysis.subsets import TEST
from reports.rendering import figures
from reports.rendering.blocks import Block, Picture
from reports.rendering.tables import Cell, Column, Table, TableBuilder, number, number_column
from reports.sections.cells import quoted_text
from reports.sections.registry import section

#: The pair of variants whose gain by label is shown.
GAIN: Final = ("mse", "epm")


@section("Errors", order=70)
def build(inputs: ReportInputs) -> Iterator[Block]:
    """Yield figures by label, tables by label and language, and the worst predictions."""
    residuals = inputs.residuals
    if residuals is None:
        return
    rows = inputs.analysed_rows
    if residuals.sample.weight is not None:
        yield (
            "Rows have weights: the tables of this section use them. Its figures, and what"
            " selection adds, count every row once."
        )
    by_label = analysis.by_label(residuals)
    width = float(residuals.edges[1] - residuals.edges[0])
    table = inputs.group.table
    drawn = figures.residual_by_label(_titled(by_label, table), width)
    yield Picture("residuals", f"Mean residual by label ({rows}).", drawn)
    drawn = figures.calibration(_titled(analysis.calibration(residuals), table))
    caption = f"Calibration ({rows}): mean label against mean prediction."
    yield Picture("calibration", caption, drawn)
    gain = analysis.gain_by_label(residuals, *GAIN, seed=inputs.seed)
    if len(gain):
        caption = f"EPM's gain over MSE ({rows}): squared error by label, 95% over rows."
        yield Picture("gain", caption, figures.gain(gain, width))
        yield gain_text(gain, residuals.high_label, of_paper=inputs.layout.is_mint)
        recalibrated = analysis.recalibrate(residuals)
        gain = analysis.gain_by_label(recalibrated, *GAIN, seed=inputs.seed)
        yield recalibrated_text(gain, residuals.high_label)
    yield agreement_table(residuals, table)
    yield errors_table(residuals, by_label, "bin", table)
    if len(residuals.sample.languages) > 1:
        yield errors_table(
            residuals,
            analysis.by_language(residuals),
            "language",
            table,
            inputs.layout.group.word,
        )
        yield agreement_by_group_table(residuals, table, inputs.layout.group.word)
    train, test = inputs.corpus
    corpus = test if residuals.sample.eval_set == TEST else train
    best = inputs.best_variant
    if best in residuals.of:
        texts = corpus if inputs.shows_texts else None
        worst = analysis.worst_predictions(residuals, best, texts)
        yield worst_table(row_title(best, table), worst, rows, inputs.layout)


def gain_text(gain: pd.DataFrame, high_label: float, *, of_paper: bool = True) -> str:
    """Say whether EPM's gain lies with the high labels, which are rare in the paper's corpus."""
    is_high = gain["bin"] >= high_label
    high, low = analysis.mean_gain(gain[is_high]), analysis.mean_gain(gain[~is_high])
    better = ", ".join(f"{b:g}" for b in gain["bin"][gain["low"] > 0])
    worse = ", ".join(f"{b:g}" for b in gain["bin"][gain["high"] < 0])
    claim = "The paper says that EPM helps with hard samples, which are the rare, high labels. "
    counts = ", ".join(f"{gain['rows'][mask].sum():,}" for mask in (is_high, ~is_high))
    text = (
        (claim if of_paper else f"Rows in the upper and lower half of the scale: {counts}. ")
        + f"Squared error {_change(high)} on labels of {high_label:g} and above and"
        + f" {_change(low)} below."
    )
    if better:
        text += f" By the 95% interval over rows it falls in the bins from {better}"
    else:
        text += " By the 95% interval over rows it falls in no bin"
    text += f" and rises in those from {worse}." if worse else " and rises in none."
    text += " These intervals are of one bin each and of these trainings: other seeds may differ."
    return text.replace("-", "−")


def recalibrated_text(gain: pd.DataFrame, high_label: float) -> str:
    """Say what of the gain is left without a shift or stretch of a run as a whole."""
    is_high = gain["bin"] >= high_label
    high, low = analysis.mean_gain(gain[is_high]), analysis.mean_gain(gain[~is_high])
    return (
        "A model whose predictions are all higher looks better on high labels at the same Pearson."
        " After each run's mean and scale are set to the labels', squared error"
        f" {_change(high)} on labels of {high_label:g} and above and {_change(low)} below."
    )


def _change(gain: float) -> str:
    if not np.isfinite(gain):
        return "is unknown (no rows)"
    if abs(gain) < 5e-7:
        return "does not change"
    digits = 3 if abs(gain) >= 0.001 else 6
    return f"{'rises' if round(gain, digits) < 0 else 'falls'} by {abs(gain):.{digits}f}"


def agreement_table(residuals: Residuals, variants: VariantTable) -> Table:
    """Return variants by measures beside Pearson, means over seeds."""
    table = TableBuilder(
        "agreement",
        "Other measures of agreement",
        method=Column("Method"),
        spearman=number_column("Spearman"),
        concordance=number_column("concordance"),
        rmse=number_column("RMSE"),
        mae=number_column("MAE"),
    )
    label, weight = residuals.sample.label, residuals.sample.weight
    for variant, by_seed in residuals.of.items():
        predictions = (label + by_seed).T
        runs = residuals.runs[variant]
        table.add(
            method=row_title(variant, variants),
            spearman=number(100 * spearman(predictions, label, weight).mean(), runs=runs),
            concordance=number(100 * concordance(predictions, label, weight).mean(), runs=runs),
            rmse=number(rmse(predictions, label, weight).mean(), 3, runs=runs),
            mae=number(mae(predictions, label, weight).mean(), 3, runs=runs),
        )
    return table.build(
        "Spearman's rank correlation and Lin's concordance, times 100; root mean squared and mean"
        " absolute error on the labels' scale. Means over seeds. Unlike the correlations, the"
        " other three count a shift or stretch of all predictions as an error."
    )


def agreement_by_group_table(residuals: Residuals, variants: VariantTable, group: str) -> Table:
    """Return variants by groups, called `group`: Spearman, below it concordance and MAE."""
    sample = residuals.sample
    table = TableBuilder(
        "agreement_language",
        f"Other measures of agreement by {group}",
        method=Column("Method"),
        **{name: number_column(name) for name in sample.languages},
    )
    for variant, by_seed in residuals.of.items():
        cells = {}
        for name in sample.languages:
            rows = sample.rows_of(name)
            label = sample.label[rows]
            weight = None if sample.weight is None else sample.weight[rows]
            predictions = (label + by_seed[:, rows]).T
            rank, agreed = (
                100 * float(measure(predictions, label, weight).mean())
                for measure in (spearman, concordance)
            )
            missed = float(mae(predictions, label, weight).mean())
            below = f"{number(agreed, 1).text}\n{number(missed).text}"
            cells[name] = replace(number(rank, 1, runs=residuals.runs[variant]), below=below)
        table.add(method=row_title(variant, variants), **cells)
    return table.build(
        "Spearman's rank correlation, below it Lin's concordance, both times 100, and the mean"
        " absolute error. Means over seeds."
    )


def errors_table(
    residuals: Residuals,
    frame: pd.DataFrame,
    by: str,
    variants: VariantTable,
    group: str = "language",
) -> Table:
    """Return variants by label bins or by groups, called `group`: RMSE, below it the bias."""
    values = list(dict.fromkeys(frame[by]))
    is_label = by == "bin"
    upper = dict(zip(residuals.edges[:-1].tolist(), residuals.edges[1:].tolist(), strict=True))
    titles = {v: f"{v:g}–{upper[v]:g}" if is_label else str(v) for v in values}
    table = TableBuilder(
        "errors_label" if is_label else "errors_language",
        "Error by label" if is_label else f"Error by {group}",
        method=Column("Method"),
        **{title: number_column(title) for title in titles.values()},
    )
    for variant, part in frame.groupby("variant", sort=False):
        name = str(variant)
        rmse, bias = (part.set_index(by)[column].to_dict() for column in ("rmse", "bias"))
        cells = {
            title: _error_cell(rmse[value], bias[value], residuals.runs[name])
            for value, title in titles.items()
        }
        table.add(method=row_title(name, variants), **cells)
    counts = frame.drop_duplicates(by).set_index(by)["rows"]
    listed = ", ".join(f"{title}: {counts[value]}" for value, title in titles.items())
    return table.build(
        "Root mean squared error, below it the bias (mean of prediction − label), means over"
        f" seeds. Rows: {listed}."
    )


def worst_table(
    title: str, frame: pd.DataFrame, rows: str, layout: CorpusLayout = MINT_LAYOUT
) -> Table:
    """Return the worst predictions; `rows` says which rows they are among.

    Without a column `text`, a row is told by its number in the file.
    """
    has_texts = "text" in frame
    word = layout.group.word
    digits = label_digits(layout.label_range)
    table = TableBuilder(
        "worst",
        f"The worst predictions of each {word}",
        language=Column(word.capitalize(), width=12),
        row=Column("Text", width=70) if has_texts else number_column("row in the file", width=20),
        label=number_column("label", width=8),
        prediction=number_column("predicted", width=10),
    )
    for _, row in frame.iterrows():
        language = str(row["language"])
        table.add(
            language=group_title(language, layout),
            row=Cell(quoted_text(row), language=text_language(language, layout))
            if has_texts
            else f"{int(row['row']) + 1}",
            label=number(float(row["label"]), digits),
            prediction=number(float(row["prediction"]), digits + 1),
        )
    return table.build(
        f"{rows[0].upper()}{rows[1:]}; {title}, the best variant on development rows;"
        " mean prediction over seeds."
    )


def _titled(frame: pd.DataFrame, variants: VariantTable) -> pd.DataFrame:
    return frame.assign(variant=[row_title(v, variants) for v in frame["variant"]])


def _error_cell(rmse: float, bias: float, runs: tuple[str, ...]) -> Cell:
    return Cell(f"{rmse:.2f}", rmse, f"{bias:+.2f}".replace("-", "−"), runs)
