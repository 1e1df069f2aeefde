"""Compute errors by label, by language and by predicted score, and find the worst predictions.

Rows are the test rows if they have labels, else the development rows of the test columns' split, or
of all splits that each leave a group out: each row is then predicted by runs without its group.
Figures are means over seeds of each run's own figure; only where texts and calibration are shown is
a row's prediction averaged over seeds first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
import pandas as pd

from ablation.data.description import bin_edges
from ablation.data.layout import MINT_LAYOUT
from ablation.data.splits import LEAVE_ONE_OUT
from reports.analysis import inference
from reports.analysis.measures import Measurements
from reports.analysis.predictions import AlignedPredictions
from reports.analysis.recalibration import recalibrated_residuals

#: Bins of labels, at least: half a point wide on 1 to 5. The last holds the highest label as well.
LABEL_BINS: Final = 6
CALIBRATION_BINS: Final = 10
#: Fewer rows than this make no interval.
FEWEST_ROWS: Final = 5


@dataclass(frozen=True)
class Residuals:
    """Prediction minus label on the rows of one eval set.

    Attributes:
        sample: The rows.
        of: By variant, (seeds, rows).
        runs: Run ids by variant, in the order of seeds.
        label_range: The lowest and the highest label of the scale.
    """

    sample: AlignedPredictions
    of: dict[str, np.ndarray]
    runs: dict[str, tuple[str, ...]]
    label_range: tuple[float, float] = MINT_LAYOUT.label_range

    @cached_property
    def edges(self) -> np.ndarray:
        """The edges of the bins of labels, (bins + 1,)."""
        return bin_edges(self.label_range, LABEL_BINS)

    @property
    def bin(self) -> np.ndarray:
        """The index of each row's bin of labels, (rows,)."""
        lower = self.edges[:-1]
        index = np.searchsorted(lower, self.sample.label + 1e-9, side="right") - 1
        return np.clip(index, 0, len(lower) - 1)

    @property
    def high_label(self) -> float:
        """The middle of the scale: labels from here on are rare in MINT, the hard samples."""
        return sum(self.label_range) / 2

    def mean_prediction(self, variant: str) -> np.ndarray:
        """Return a variant's predictions, averaged over seeds, (rows,)."""
        return np.asarray((self.sample.label + self.of[variant]).mean(axis=0))


def compute_residuals(
    measurements: Measurements, label_range: tuple[float, float] = MINT_LAYOUT.label_range
) -> Residuals | None:
    """Return the residuals on the eval set that the report analyses; None without any."""
    analysed = measurements.analysed
    if analysed.splits and not analysed.is_test:
        return _over_groups(measurements, analysed.splits, label_range)
    sample = _largest(measurements, analysed.eval_set)
    if sample is None:
        return None
    of, runs = {}, {}
    for variant in measurements.group.variants:
        by_seed = measurements.runs(variant, sample.eval_set)
        ids = [run.run_id for run in by_seed.values() if run.run_id in sample.column]
        if ids:
            columns = sample.predictions[:, [sample.column[run] for run in ids]]
            of[variant] = (columns - sample.label[:, None]).T
            runs[variant] = tuple(ids)
    return Residuals(sample, of, runs, label_range)


def _largest(measurements: Measurements, eval_set: str) -> AlignedPredictions | None:
    """Return the sample of an eval set that most runs are in; None if there is none."""
    samples = [sample for sample in measurements.samples if sample.eval_set == eval_set]
    return max(samples, key=lambda sample: len(sample.runs), default=None)


def _over_groups(
    measurements: Measurements, splits: Sequence[str], label_range: tuple[float, float]
) -> Residuals | None:
    """Return the residuals of all splits together, of the seeds that a variant has on each."""
    found = [_largest(measurements, split) for split in splits]
    samples = [sample for sample in found if sample is not None]
    if len(samples) < len(splits):
        return None
    label = np.concatenate([sample.label for sample in samples])
    of, runs = {}, {}
    for variant in measurements.group.variants:
        by_split = [
            {
                seed: run.run_id
                for seed, run in measurements.runs(variant, sample.eval_set).items()
                if run.run_id in sample.column
            }
            for sample in samples
        ]
        seeds = sorted(set.intersection(*map(set, by_split)))
        if seeds:
            predicted = [
                sample.predictions[:, [sample.column[ids[seed]] for seed in seeds]]
                for sample, ids in zip(samples, by_split, strict=True)
            ]
            of[variant] = np.concatenate(predicted).T - label
            runs[variant] = tuple(ids[seed] for ids in by_split for seed in seeds)
    weights = [sample.weight for sample in samples if sample.weight is not None]
    joined = AlignedPredictions(
        eval_set=LEAVE_ONE_OUT,
        runs=(),
        row=np.concatenate([sample.row for sample in samples]),
        label=label,
        language=np.concatenate([sample.language for sample in samples]),
        predictions=np.empty((len(label), 0)),
        unseen=(),
        weight=np.concatenate(weights) if weights else None,
    )
    return Residuals(joined, of, runs, label_range)


def by_label(residuals: Residuals) -> pd.DataFrame:
    """Return bias (mean residual) and rmse by label bin, on the labels' scale.

    Columns: variant, bin (its lower label), rows, bias, rmse.
    """
    bins = [float(low) for low in residuals.edges[:-1]]
    return _errors_by(residuals, residuals.bin, "bin", bins)


def by_language(residuals: Residuals) -> pd.DataFrame:
    """Return bias and rmse by language; columns variant, language, rows, bias, rmse."""
    codes = residuals.sample.languages
    return _errors_by(residuals, residuals.sample.strata, "language", codes)


def recalibrate(residuals: Residuals) -> Residuals:
    """Return the residuals after each run's mean and scale are set to the labels'."""
    label = residuals.sample.label
    of = {v: recalibrated_residuals(values, label) for v, values in residuals.of.items()}
    return replace(residuals, of=of)


def gain_by_label(residuals: Residuals, worse: str, better: str, *, seed: int = 0) -> pd.DataFrame:
    """Return how much smaller `better`'s squared error is than `worse`'s, by label bin.

    Bins are of the label, not of `worse`'s error: rows chosen for a large error regress to the mean
    under any model.

    Returns:
        Columns bin, rows, gain (squared label points, positive is better), low and high (95% over
        rows); empty if one of the variants has no predictions.
    """
    if worse not in residuals.of or better not in residuals.of:
        return pd.DataFrame(columns=["bin", "rows", "gain", "low", "high"])
    squared = {v: (residuals.of[v] ** 2).mean(axis=0) for v in (worse, better)}
    gain = squared[worse] - squared[better]
    rows = []
    for i, low in enumerate(residuals.edges[:-1]):
        in_bin = gain[residuals.bin == i]
        interval = inference.NO_INTERVAL
        if len(in_bin) >= FEWEST_ROWS:
            draws = inference.bootstrap_means(in_bin[:, None], seed=seed + i)
            interval = inference.percentile_interval(draws[:, 0])
        mean = float(in_bin.mean()) if len(in_bin) else float("nan")
        rows.append((float(low), len(in_bin), mean, interval.low, interval.high))
    return pd.DataFrame(rows, columns=["bin", "rows", "gain", "low", "high"])


def mean_gain(gain: pd.DataFrame) -> float:
    """Return the mean gain over the rows of some bins of `gain_by_label`; NaN without rows."""
    rows = gain["rows"].sum()
    return float((gain["gain"].fillna(0) * gain["rows"]).sum() / rows) if rows else float("nan")


def calibration(residuals: Residuals) -> pd.DataFrame:
    """Return the mean label against the mean prediction, in tenths of the predictions.

    Columns: variant, predicted, label, rows.
    """
    rows = []
    for variant in residuals.of:
        prediction = residuals.mean_prediction(variant)
        for part in np.array_split(np.argsort(prediction, kind="stable"), CALIBRATION_BINS):
            if len(part):
                label = residuals.sample.label[part].mean()
                rows.append((variant, prediction[part].mean(), label, len(part)))
    return pd.DataFrame(rows, columns=["variant", "predicted", "label", "rows"])


def worst_predictions(
    residuals: Residuals, variant: str, texts: pd.DataFrame | None, per_language: int = 2
) -> pd.DataFrame:
    """Return the rows of each language that the variant's mean prediction misses most.

    Args:
        residuals: The residuals.
        variant: The variant.
        texts: Columns row and text, of pairs second_text too; None to leave the texts out.
        per_language: Number of rows of each language.

    Returns:
        Columns language, row, label, prediction, and those of the texts.
    """
    sample = residuals.sample
    frame = pd.DataFrame({"row": sample.row, "language": sample.language, "label": sample.label})
    frame["prediction"] = residuals.mean_prediction(variant)
    if texts is not None:
        columns = [name for name in ("row", "text", "second_text") if name in texts]
        frame = frame.merge(texts[columns], on="row", how="left")
    frame["miss"] = (frame["prediction"] - frame["label"]).abs()
    frame = frame.sort_values(["miss", "row"], ascending=[False, True], kind="stable")
    top = frame.groupby("language", sort=False).head(per_language)
    order = {language: i for i, language in enumerate(sample.languages)}
    top = top.sort_values("language", key=lambda s: s.map(order), kind="stable")
    return top.drop(columns="miss").reset_index(drop=True)


def _errors_by(
    residuals: Residuals, index: np.ndarray, name: str, values: list[float] | list[str]
) -> pd.DataFrame:
    """Return bias and rmse of each of `values`, whose index each row has in `index` (rows,)."""
    rows, weights = [], residuals.sample.weight
    for variant, residual in residuals.of.items():
        for i, value in enumerate(values):
            part = residual[:, index == i]
            weight = None if weights is None else weights[index == i]
            if part.shape[1]:
                rmse = float(np.sqrt(np.average(part**2, 1, weight)).mean())
                bias = float(np.average(part, 1, weight).mean())
                rows.append((variant, value, part.shape[1], bias, rmse))
    return pd.DataFrame(rows, columns=["variant", name, "rows", "bias", "rmse"])
