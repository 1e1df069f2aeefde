"""Draw the report's figures from computed data; training curves are in `curve_figures`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from ablation.core.counting import counted
from reports.analysis.costs import Cost
from reports.analysis.distances import Distances
from reports.analysis.steps import Step
from reports.rendering.plotting import (
    COLOURS,
    GREY,
    NARROW,
    WIDE,
    add_legend,
    colour,
    exists,
    label_cells,
    marker,
    new_axes,
    new_grid,
)
from reports.rendering.style import styled

#: Longer labels than a language's code need room.
_CODE = 3
_MANY_GROUPS = 6


@styled
def histogram(counts: pd.Series, measures: str = "intimacy") -> Figure:
    """Draw Figure 1: labelled rows by label; `measures` says what labels are of."""
    figure, axes = new_axes(NARROW, 2.0)
    width = float(counts.index[1] - counts.index[0])
    axes.bar(counts.index, counts.to_numpy(), width=0.85 * width, color=COLOURS[0])
    axes.set(xlabel=f"{measures} (bins of {width:g})", ylabel="rows")
    # As many ticks as fit, among them the scale's lowest.
    axes.set_xticks(counts.index[:: max(1, len(counts) // 4)])
    return figure


@styled
def distances(matrices: Sequence[Distances]) -> Figure:
    """Draw Figure 2: for each run a batch's whole KL matrix, and pairs among a few of its rows."""
    size = (WIDE, 2.9 * len(matrices))
    figure, grid = new_grid(len(matrices), 2, size, width_ratios=[1.15, 1])
    for row, matrix in zip(grid, matrices, strict=True):
        _draw_kl(row[0], matrix)
        _draw_pairs(row[1], matrix.sample())
    return figure


@styled
def layers(frame: pd.DataFrame) -> Figure:
    """Draw Figure 3: frozen and trained layers; columns variant, total, frozen, trainable."""
    figure, axes = new_axes(NARROW, 0.5 + 0.28 * len(frame))
    for i, (_, row) in enumerate(frame.iterrows()):
        frozen, total = int(row["frozen"]), int(row["total"])
        # The embeddings are frozen with the first layer; the head is always trained.
        parts = [("E", frozen > 0), *((str(n), n <= frozen) for n in range(1, total + 1))]
        for j, (name, is_frozen) in enumerate([*parts, ("H", False)]):
            _draw_layer(axes, (j, i), name, is_frozen=is_frozen)
        text = f"{100 * row['trainable']:.0f}% trained"
        axes.text(total + 2.15, i + 0.5, text, va="center", fontsize=6)
    most_parts = int(frame["total"].max()) + 2
    axes.set(xlim=(0, most_parts + 2.6), ylim=(len(frame), 0), xticks=[])
    axes.set_yticks(np.arange(len(frame)) + 0.5, list(frame["variant"]))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


@styled
def budgets(best_so_far: Mapping[str, np.ndarray]) -> Figure:
    """Draw the highest development Pearson after each trial, (trials,) for each label."""
    figure, axes = new_axes(NARROW, 2.3)
    for i, (label, best) in enumerate(best_so_far.items()):
        trials = np.arange(1, len(best) + 1)
        style: dict[str, Any] = {"color": colour(i), "marker": marker(i), "markersize": 2.5}
        axes.step(trials, 100 * best, where="post", label=label, **style)
    axes.set(xlabel="trials", ylabel="best development Pearson × 100")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    add_legend(figure, axes, "lower right")
    return figure


@styled
def forest(steps: Sequence[Step], *, with_printed: bool = True) -> Figure:
    """Draw the steps' differences with their 95% intervals; the paper's as open diamonds."""
    shown = [step for step in steps if step.estimate.exists]
    figure, axes = new_axes(WIDE, 0.6 + 0.15 * len(shown))
    subsets = list(dict.fromkeys(str(step.subset) for step in shown))
    for i, step in enumerate(shown):
        number, interval = subsets.index(str(step.subset)), step.estimate.interval
        ink = colour(number)
        if exists(interval):
            ends = [100 * interval.low, 100 * interval.high]
            axes.plot(ends, [i, i], color=ink, linewidth=1)
        mean, printed = 100 * step.estimate.mean, 100 * step.assessment.printed
        axes.plot(mean, i, marker(number), color=ink, markersize=3.5)
        if with_printed and np.isfinite(printed):
            axes.plot(printed, i, "d", mfc="none", mec="#555555", markersize=4)
    axes.axvline(0, color=GREY, linewidth=0.6)
    labels = []
    for i, step in enumerate(shown):
        is_new = i == 0 or str(step) != str(shown[i - 1])
        labels.append(f"{step}   {step.subset}" if is_new else str(step.subset))
        if is_new and i:
            axes.axhline(i - 0.5, color="#DDDDDD", linewidth=0.5)
    axes.set_yticks(range(len(shown)), labels)
    diamond = " (open diamond: the paper's)" if with_printed else ""
    axes.set(xlabel=f"difference of Pearson × 100{diamond}")
    axes.set(ylim=(len(shown) - 0.4, -0.6))
    return figure


@styled
def heat(frame: pd.DataFrame) -> Figure:
    """Draw Pearson times 100 by variant (index) and language (columns)."""
    figure, axes = new_axes(WIDE, 0.6 + 0.27 * len(frame))
    values = 100 * frame.to_numpy(dtype=float)
    image = axes.imshow(values, cmap="viridis", aspect="auto")
    texts = np.vectorize(lambda value: f"{value:.1f}")(values)
    dark = values < (np.nanmin(values) + np.nanmax(values)) / 2
    label_cells(axes, values, texts, fontsize=6.5, dark=dark)
    crowded = frame.columns if len(frame.columns) > _MANY_GROUPS else ()
    axes.set_xticks(range(len(frame.columns)), list(frame.columns), **_slant(crowded))
    axes.set_yticks(range(len(frame)), list(frame.index))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="Pearson × 100", shrink=0.9)
    return figure


@styled
def cost(costs: Sequence[Cost]) -> Figure:
    """Draw Pearson against seconds a run; whiskers are 95% intervals."""
    figure, axes = new_axes(NARROW, 2.3)
    for i, of_variant in enumerate(costs):
        interval, seconds = of_variant.pearson.interval, of_variant.seconds
        if exists(interval):
            ends = [100 * interval.low, 100 * interval.high]
            axes.plot([seconds] * 2, ends, color=colour(i), linewidth=0.7)
        style: dict[str, Any] = {"color": colour(i), "markersize": 4, "label": of_variant.variant}
        axes.plot(seconds, 100 * of_variant.pearson.mean, marker(i), **style)
    axes.set(xlabel="seconds a run", ylabel="Pearson × 100")
    axes.margins(x=0.25)
    add_legend(figure, axes)
    return figure


@styled
def residual_by_label(frame: pd.DataFrame, width: float) -> Figure:
    """Draw the mean residual by label bin of a width; columns variant, bin, bias."""
    figure, axes = new_axes(NARROW, 2.3)
    _draw_series(axes, frame.assign(middle=frame["bin"] + width / 2), "middle", "bias")
    axes.axhline(0, color=GREY, linewidth=0.5)
    axes.set(xlabel=f"label (bins of {width:g})", ylabel="mean of prediction − label")
    add_legend(figure, axes)
    return figure


@styled
def calibration(frame: pd.DataFrame) -> Figure:
    """Draw the mean label against the mean prediction; columns variant, predicted, label."""
    figure, axes = new_axes(NARROW, 2.3)
    values = frame[["predicted", "label"]].to_numpy()
    ends = [values.min(), values.max()]
    axes.plot(ends, ends, color=GREY, linewidth=0.6)
    _draw_series(axes, frame, "predicted", "label")
    axes.set(xlabel="mean prediction (tenths)", ylabel="mean label")
    add_legend(figure, axes)
    return figure


@styled
def gain(frame: pd.DataFrame, width: float) -> Figure:
    """Draw EPM's gain by label bin of a width, with 95% over rows.

    Columns bin, rows, gain, low, high.
    """
    figure, axes = new_axes(NARROW, 2.3)
    middle = frame["bin"] + width / 2
    axes.bar(middle, frame["gain"], width=0.8 * width, color="#9CC4E4")
    axes.vlines(middle, frame["low"], frame["high"], color=COLOURS[0], linewidth=1)
    axes.axhline(0, color=GREY, linewidth=0.5)
    labels = [f"{low:g}\n{rows}" for low, rows in zip(frame["bin"], frame["rows"], strict=True)]
    axes.set_xticks(middle, labels, fontsize=6)
    axes.set(xlabel="label from, and rows", ylabel="squared error: MSE − EPM")
    return figure


def _slant(labels: Iterable[str]) -> dict[str, Any]:
    """Return how to set tick labels: slanted if one is longer than a language's code."""
    if all(len(label) <= _CODE for label in labels):
        return {}
    return {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}


def _draw_series(axes: Axes, frame: pd.DataFrame, x: str, y: str) -> None:
    """Draw `y` against `x` for each title in the column variant."""
    for i, (title, rows) in enumerate(frame.groupby("variant", sort=False)):
        style: dict[str, Any] = {
            "color": colour(i),
            "marker": marker(i),
            "markersize": 3,
            "linewidth": 0.8,
        }
        axes.plot(rows[x], rows[y], label=str(title), **style)


def _draw_layer(axes: Axes, corner: tuple[int, int], name: str, *, is_frozen: bool) -> None:
    """Draw a layer's box, hatched if it is frozen."""
    x, y = corner
    fill = "#BBBBBB" if is_frozen else COLOURS[0]
    box = Rectangle((x + 0.06, y + 0.12), 0.88, 0.76, linewidth=0, facecolor=fill)
    box.set(hatch="////" if is_frozen else None, edgecolor="white")
    axes.add_patch(box)
    ink = "black" if is_frozen else "white"
    axes.text(x + 0.5, y + 0.5, name, ha="center", va="center", color=ink, fontsize=6)


def _draw_kl(axes: Axes, matrix: Distances) -> None:
    """Draw a KL matrix with lines between its languages."""
    image = axes.imshow(matrix.kl, cmap="magma")
    language = matrix.language
    edges = np.flatnonzero(language[1:] != language[:-1]) + 0.5
    for edge in edges:
        axes.axhline(edge, color="white", linewidth=0.5)
        axes.axvline(edge, color="white", linewidth=0.5)
    starts = np.concatenate([[-0.5], edges, [len(language) - 0.5]])
    centres, labels = (starts[:-1] + starts[1:]) / 2, list(dict.fromkeys(language))
    axes.set_xticks(centres, labels, **_slant(labels))
    axes.set_yticks(centres, labels)
    axes.tick_params(length=0)
    axes.set_title(f"{matrix.title}: KL[i][j], {counted(len(matrix.kl), 'row')}")
    axes.figure.colorbar(image, ax=axes, shrink=0.8)


def _draw_pairs(axes: Axes, matrix: Distances) -> None:
    """Draw the positive (P) and negative (N) pairs of a few rows with their divergences."""
    same = matrix.language[:, None] == matrix.language[None, :]
    axes.imshow(same, cmap=ListedColormap(["#F6D5C3", "#BFDCEF"]), vmin=0, vmax=1)
    texts = np.array(
        [
            [f"{'P' if p else 'N'}\n{abs(kl):.3f}" for p, kl in zip(*row, strict=True)]
            for row in zip(same, matrix.kl, strict=True)
        ]
    )
    label_cells(axes, np.zeros(same.shape), texts, fontsize=5, dark=np.zeros_like(same))
    axes.set_xticks(range(len(matrix.language)), list(matrix.language), **_slant(matrix.language))
    axes.set_yticks(range(len(matrix.language)), list(matrix.language))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"positive and negative pairs of {len(matrix.kl)} of them")
