"""Where the errors are: by label, by language, by predicted score; and the worst predictions.

Rows are the test rows where they have labels, else the development rows of the test columns'
split. A variant's prediction for a row is its mean over seeds only where texts are shown; all
figures are means over seeds of each run's own figure.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from ablation.data.languages import language_name
from reports.analysis import inference as st
from reports.analysis.measures import AlignedPredictions, Measurements
from reports.rendering.tables import Cell, Column, Table, number
from reports.sections.scores import title

#: Half a point wide; the last holds 5.0 as well.
LABEL_BINS: Final = tuple(np.arange(1.0, 5.0, 0.5))
BIN_WIDTH: Final = 0.5
CALIBRATION_BINS: Final = 10
#: Fewer rows than this make no interval.
FEWEST_ROWS: Final = 5


@dataclass(frozen=True)
class Residuals:
    """The rows of one place, with each variant's residuals: `of[variant]` (seeds, rows), prediction minus label."""

    sample: AlignedPredictions
    of: dict[str, np.ndarray]
    runs: dict[str, tuple[str, ...]]

    @property
    def bin(self) -> np.ndarray:
        """(rows,): the index of each row's label in `LABEL_BINS`."""
        return np.clip(
            np.searchsorted(LABEL_BINS, self.sample.label + 1e-9, side="right") - 1,
            0,
            len(LABEL_BINS) - 1,
        )


def residuals(measured: Measurements) -> Residuals | None:
    """Residuals on the place that the report analyses; None if no run has any."""
    samples = [sample for sample in measured.samples if sample.place == measured.analysed_place]
    if not samples:
        return None
    sample = max(samples, key=lambda s: len(s.runs))
    of, runs = {}, {}
    for variant in measured.group.variants:
        ids = [
            r.run_id
            for r in measured.runs(variant, sample.place).values()
            if r.run_id in sample.runs
        ]
        if ids:
            columns = sample.predictions[:, [sample.runs.index(run) for run in ids]]
            of[variant] = (columns - sample.label[:, None]).T
            runs[variant] = tuple(ids)
    return Residuals(sample, of, runs)


def by_label(found: Residuals) -> pd.DataFrame:
    """Rows: variant, bin (its lower label), rows, bias (mean residual) and rmse, both on the labels' scale."""
    return _by(found, found.bin, "bin", [float(low) for low in LABEL_BINS])


def by_language(found: Residuals) -> pd.DataFrame:
    """Rows: variant, language, rows, bias and rmse."""
    codes = found.sample.languages
    number = np.array([codes.index(x) for x in found.sample.language])
    return _by(found, number, "language", codes)


def gain_by_label(found: Residuals, worse: str, better: str, *, seed: int = 0) -> pd.DataFrame:
    """How much smaller `better`'s squared error is than `worse`'s, by label bin, with 95% over rows.

    Columns: bin, rows, gain (squared label points; positive is better), low, high. Bins are of the
    label, not of `worse`'s error: rows chosen for a large error regress to the mean under any model.
    """
    if worse not in found.of or better not in found.of:
        return pd.DataFrame(columns=["bin", "rows", "gain", "low", "high"])
    gain = (found.of[worse] ** 2).mean(axis=0) - (found.of[better] ** 2).mean(axis=0)
    rows = []
    for i, low in enumerate(LABEL_BINS):
        here = gain[found.bin == i]
        interval = st.NO_INTERVAL
        if len(here) >= FEWEST_ROWS:
            interval = st.percentile_interval(
                st.bootstrap_means(here[:, None], seed=seed + i)[:, 0]
            )
        mean = float(here.mean()) if len(here) else float("nan")
        rows.append(
            {
                "bin": float(low),
                "rows": len(here),
                "gain": mean,
                "low": interval.low,
                "high": interval.high,
            }
        )
    return pd.DataFrame(rows)


def calibration(found: Residuals) -> pd.DataFrame:
    """Mean label against mean prediction in tenths of the predictions: variant, predicted, label, rows."""
    rows = []
    for variant, residual in found.of.items():
        prediction = (found.sample.label + residual).mean(axis=0)
        parts = np.array_split(np.argsort(prediction, kind="stable"), CALIBRATION_BINS)
        rows += [
            {
                "variant": variant,
                "predicted": prediction[p].mean(),
                "label": found.sample.label[p].mean(),
                "rows": len(p),
            }
            for p in parts
            if len(p)
        ]
    return pd.DataFrame(rows)


def worst(found: Residuals, variant: str, texts: pd.DataFrame, each: int = 2) -> pd.DataFrame:
    """The `each` rows of each language that the variant's mean prediction misses most.

    `texts` has the columns row and text. Columns: language, row, text, label, prediction.
    """
    prediction = (found.sample.label + found.of[variant]).mean(axis=0)
    frame = pd.DataFrame(
        {
            "row": found.sample.row,
            "language": found.sample.language,
            "label": found.sample.label,
            "prediction": prediction,
        }
    )
    frame = frame.merge(texts[["row", "text"]], on="row", how="left")
    frame["miss"] = (frame["prediction"] - frame["label"]).abs()
    frame = frame.sort_values(["miss", "row"], ascending=[False, True], kind="stable")
    order = {language: i for i, language in enumerate(found.sample.languages)}
    top = frame.groupby("language", sort=False).head(each)
    return (
        top.sort_values("language", key=lambda s: s.map(order), kind="stable")
        .drop(columns="miss")
        .reset_index(drop=True)
    )


def gain_in_words(gain: pd.DataFrame) -> str:
    """Whether EPM's gain lies with the rare, high labels, in words."""
    high, low = gain[gain["bin"] >= 3], gain[gain["bin"] < 3]
    better = [f"{b:g}" for b, lo in zip(gain["bin"], gain["low"], strict=True) if lo > 0]
    worse = [f"{b:g}" for b, hi in zip(gain["bin"], gain["high"], strict=True) if hi < 0]
    told = (
        f"EPM is said to help with hard samples, which are the rare, high labels. Squared error falls by {_mean(high):+.3f} on"
        f" labels from 3 on and by {_mean(low):+.3f} below."
    )
    told += (
        f" Better for sure (95%, rows) in the bins from {', '.join(better)}."
        if better
        else " In no bin is it better for sure."
    )
    return (told + (f" Worse for sure in those from {', '.join(worse)}." if worse else "")).replace(
        "-", "−"
    )


def table(key: str, heading: str, frame: pd.DataFrame, by: str, found: Residuals) -> Table:
    """Variants by label bins or languages: RMSE, below it the bias."""
    values = list(dict.fromkeys(frame[by]))
    rows = []
    for variant, part in frame.groupby("variant", sort=False):
        indexed = part.set_index(by)
        cells = [_error_cell(indexed, value, found.runs[str(variant)]) for value in values]
        rows.append((Cell(title(str(variant))), *cells))
    counts = frame.drop_duplicates(by).set_index(by)["rows"]
    heads = tuple(
        Column(f"{value:g}–{value + BIN_WIDTH:g}" if by == "bin" else str(value), True)
        for value in values
    )
    told = ", ".join(
        f"{head.title}: {counts[value]}" for head, value in zip(heads, values, strict=True)
    )
    note = f"Root mean squared error, below it the bias (mean of prediction − label), means over seeds. Rows: {told}."
    return Table(key, heading, (Column("Method"), *heads), tuple(rows), (note,), wide=True)


def worst_table(variant: str, frame: pd.DataFrame, rows: str) -> Table:
    """`worst`'s rows with their texts; `rows` says which rows they are among."""
    cells = [
        (
            Cell(language_name(str(r.language))),
            Cell(str(r.text), language=str(r.language)),
            number(float(str(r.label)), 1),
            number(float(str(r.prediction)), 2),
        )
        for r in frame.itertuples()
    ]
    heads = (Column("Language"), Column("Text"), Column("label", True), Column("predicted", True))
    note = f"{rows[0].upper()}{rows[1:]}; {title(variant)}, the best variant on development rows; mean prediction over seeds."
    return Table(
        "worst",
        "The worst predictions of each language",
        heads,
        tuple(cells),
        (note,),
        wide=True,
        widths=(12, 70, 8, 10),
    )


def _by(
    found: Residuals, number: np.ndarray, name: str, values: list[float] | list[str]
) -> pd.DataFrame:
    rows = []
    for variant, residual in found.of.items():
        for i, value in enumerate(values):
            here = residual[:, number == i]
            if here.shape[1]:
                rmse = float(np.sqrt((here**2).mean(axis=1)).mean())
                rows.append(
                    {
                        "variant": variant,
                        name: value,
                        "rows": here.shape[1],
                        "bias": float(here.mean()),
                        "rmse": rmse,
                    }
                )
    return pd.DataFrame(rows)


def _mean(part: pd.DataFrame) -> float:
    rows = part["rows"].sum()
    return float((part["gain"].fillna(0) * part["rows"]).sum() / rows) if rows else float("nan")


def _error_cell(indexed: pd.DataFrame, value: str | float, runs: tuple[str, ...]) -> Cell:
    rmse, bias = (float(indexed[name].to_dict()[value]) for name in ("rmse", "bias"))
    return Cell(f"{rmse:.2f}", rmse, f"{bias:+.2f}".replace("-", "−"), runs)
