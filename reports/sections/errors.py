"""Show where the errors are: by label, by language, by prediction, and the worst ones."""

from collections.abc import Iterator
from typing import Final

import pandas as pd

from ablation.data.languages import language_name
from reports.analysis import residuals as analysis
from reports.analysis.agreement import concordance, mae, rmse, spearman
from reports.analysis.inputs import ReportInputs
from reports.analysis.labels import row_title
from reports.analysis.measures import TEST
from reports.analysis.residuals import BIN_WIDTH, HIGH_LABEL, Residuals
from reports.rendering import figures
from reports.rendering.blocks import Block, Picture
from reports.rendering.tables import Cell, Column, Table, TableBuilder, number, number_column
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
    by_label = analysis.by_label(residuals)
    drawn = figures.residual_by_label(_titled(by_label))
    yield Picture("residuals", f"Mean residual by label ({rows}).", drawn)
    drawn = figures.calibration(_titled(analysis.calibration(residuals)))
    caption = f"Calibration ({rows}): mean label against mean prediction."
    yield Picture("calibration", caption, drawn)
    gain = analysis.gain_by_label(residuals, *GAIN, seed=inputs.seed)
    if len(gain):
        caption = f"EPM's gain over MSE ({rows}): squared error by label, 95% over rows."
        yield Picture("gain", caption, figures.gain(gain))
        yield gain_text(gain)
        recalibrated = analysis.recalibrate(residuals)
        yield recalibrated_text(analysis.gain_by_label(recalibrated, *GAIN, seed=inputs.seed))
    yield agreement_table(residuals)
    yield errors_table(residuals, by_label, "bin")
    yield errors_table(residuals, analysis.by_language(residuals), "language")
    train, test = inputs.corpus
    corpus = test if residuals.sample.eval_set == TEST else train
    best = inputs.best_variant
    if best in residuals.of:
        texts = corpus if inputs.shows_texts else None
        yield worst_table(best, analysis.worst_predictions(residuals, best, texts), rows)


def gain_text(gain: pd.DataFrame) -> str:
    """Say whether EPM's gain lies with the rare, high labels."""
    is_high = gain["bin"] >= HIGH_LABEL
    high, low = analysis.mean_gain(gain[is_high]), analysis.mean_gain(gain[~is_high])
    better = ", ".join(f"{b:g}" for b in gain["bin"][gain["low"] > 0])
    worse = ", ".join(f"{b:g}" for b in gain["bin"][gain["high"] < 0])
    text = (
        "The paper says that EPM helps with hard samples, which are the rare, high labels. Squared"
        f" error {_change(high)} on labels of {HIGH_LABEL:g} and above and {_change(low)} below."
    )
    if better:
        text += f" The 95% interval over rows is above zero in the bins from {better}."
    else:
        text += " In no bin is the 95% interval over rows above zero."
    if worse:
        text += f" It is below zero in those from {worse}."
    return text.replace("-", "−")


def recalibrated_text(gain: pd.DataFrame) -> str:
    """Say what of the gain is left without a shift or stretch of a run as a whole."""
    is_high = gain["bin"] >= HIGH_LABEL
    high, low = analysis.mean_gain(gain[is_high]), analysis.mean_gain(gain[~is_high])
    return (
        "A model whose predictions are all higher looks better on high labels at the same Pearson."
        " After each run's mean and scale are set to the labels', squared error"
        f" {_change(high)} on labels of {HIGH_LABEL:g} and above and {_change(low)} below."
    )


def _change(gain: float) -> str:
    return f"{'rises' if round(gain, 3) < 0 else 'falls'} by {abs(gain):.3f}"


def agreement_table(residuals: Residuals) -> Table:
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
    label = residuals.sample.label
    for variant, by_seed in residuals.of.items():
        predictions = (label + by_seed).T
        runs = residuals.runs[variant]
        table.add(
            method=row_title(variant),
            spearman=number(100 * spearman(predictions, label).mean(), runs=runs),
            concordance=number(100 * concordance(predictions, label).mean(), runs=runs),
            rmse=number(rmse(predictions, label).mean(), 3, runs=runs),
            mae=number(mae(predictions, label).mean(), 3, runs=runs),
        )
    return table.build(
        "Spearman's rank correlation and Lin's concordance, times 100; root mean squared and mean"
        " absolute error on the labels' scale. Means over seeds. Unlike the correlations, the"
        " other three count a shift or stretch of all predictions as an error."
    )


def errors_table(residuals: Residuals, frame: pd.DataFrame, by: str) -> Table:
    """Return variants by label bins or languages: RMSE, below it the bias."""
    values = list(dict.fromkeys(frame[by]))
    is_label = by == "bin"
    titles = {v: f"{v:g}–{v + BIN_WIDTH:g}" if is_label else str(v) for v in values}
    table = TableBuilder(
        "errors_label" if is_label else "errors_language",
        "Error by label" if is_label else "Error by language",
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
        table.add(method=row_title(name), **cells)
    counts = frame.drop_duplicates(by).set_index(by)["rows"]
    listed = ", ".join(f"{title}: {counts[value]}" for value, title in titles.items())
    return table.build(
        "Root mean squared error, below it the bias (mean of prediction − label), means over"
        f" seeds. Rows: {listed}."
    )


def worst_table(variant: str, frame: pd.DataFrame, rows: str) -> Table:
    """Return the worst predictions; `rows` says which rows they are among.

    Without a column `text`, a row is told by its number in the file.
    """
    has_texts = "text" in frame
    table = TableBuilder(
        "worst",
        "The worst predictions of each language",
        language=Column("Language", width=12),
        row=Column("Text", width=70) if has_texts else number_column("row below the header"),
        label=number_column("label", width=8),
        prediction=number_column("predicted", width=10),
    )
    for _, row in frame.iterrows():
        language = str(row["language"])
        table.add(
            language=language_name(language),
            row=Cell(str(row["text"]), language=language)
            if has_texts
            else f"{int(row['row']) + 1}",
            label=number(float(row["label"]), 1),
            prediction=number(float(row["prediction"]), 2),
        )
    return table.build(
        f"{rows[0].upper()}{rows[1:]}; {row_title(variant)}, the best variant on development rows;"
        " mean prediction over seeds."
    )


def _titled(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(variant=frame["variant"].map(row_title))


def _error_cell(rmse: float, bias: float, runs: tuple[str, ...]) -> Cell:
    return Cell(f"{rmse:.2f}", rmse, f"{bias:+.2f}".replace("-", "−"), runs)
