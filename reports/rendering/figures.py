"""Computed data to drawn figures, in one style. The only module that draws.

Every function takes data and returns a matplotlib Figure; `write` makes PDF, SVG and PNG of it, the
same bytes for the same data.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from reports.rendering.style import style, styled
from reports.sections.comparisons import Step
from reports.sections.curve_study import Condition, CurveStudy
from reports.sections.curves import Curve, mean_curve
from reports.sections.errors import BIN_WIDTH
from reports.sections.origin import Cost
from reports.sections.scores import title
from reports.sections.setting import Distances
from reports.sections.tuning import Budgets

#: Inches: one column of a two-column page, and the whole width.
NARROW: Final = 3.4
WIDE: Final = 7.0
#: The first is what the PDF takes.
FORMATS: Final = ("pdf", "svg", "png")
#: Okabe and Ito's colours, told apart without colour vision too; a marker each for print.
COLOURS: Final = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#8C8C00",
)
MARKERS: Final = "osD^vPX*"


def lay_out(figure: Figure) -> None:
    """Give every part its place, once for all forms; before `save`."""
    with style():
        figure.draw_without_rendering()
        # The layout stands. With an engine, even one that does nothing, each form would be drawn twice.
        figure.set_layout_engine(None)


def save(figure: Figure, folder: Path, name: str, form: str) -> None:
    """Write `name`.`form` to `folder`, one of `FORMATS`; no date goes in, so equal data give equal bytes."""
    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {"Software": None}}[
        form
    ]
    with style():
        figure.savefig(folder / f"{name}.{form}", dpi=200, metadata=metadata)


@styled
def histogram(counts: pd.Series) -> Figure:
    """Figure 1: labelled rows by label."""
    figure, axes = _axes(NARROW, 2.0)
    width = float(counts.index[1] - counts.index[0])
    axes.bar(counts.index, counts.to_numpy(), width=0.85 * width, color=COLOURS[0])
    axes.set(xlabel=f"intimacy (bins of {width:g})", ylabel="rows")
    axes.set_xticks(range(1, 6))
    return figure


@styled
def distances(found: Sequence[Distances]) -> Figure:
    """Figure 2: for each run a batch's whole KL matrix, and its pairs among a few rows of it."""
    figure, grid = _grid(len(found), 2, WIDE, 2.9 * len(found), width_ratios=[1.15, 1])
    for row, each in zip(grid, found, strict=True):
        _kl(row[0], each)
        _pairs(row[1], each.few())
    return figure


@styled
def layers(frame: pd.DataFrame) -> Figure:
    """Figure 3: which layers of each variant are frozen; columns variant, total, frozen, trainable."""
    figure, axes = _axes(NARROW, 0.5 + 0.28 * len(frame))
    for i, row in enumerate(frame.itertuples()):
        frozen = int(str(row.frozen))
        parts = ["embeddings", *range(1, int(str(row.total)) + 1), "head"]
        for j, part in enumerate(parts):
            is_frozen = frozen > 0 and (
                part == "embeddings" or (isinstance(part, int) and part <= frozen)
            )
            box = Rectangle(
                (j + 0.06, i + 0.12),
                0.88,
                0.76,
                linewidth=0,
                facecolor="#BBBBBB" if is_frozen else COLOURS[0],
            )
            box.set(hatch="////" if is_frozen else None, edgecolor="white")
            axes.add_patch(box)
            axes.text(
                j + 0.5,
                i + 0.5,
                {"embeddings": "E", "head": "H"}.get(str(part), str(part)),
                ha="center",
                va="center",
                color="black" if is_frozen else "white",
                fontsize=6,
            )
        axes.text(
            len(parts) + 0.15,
            i + 0.5,
            f"{100 * float(str(row.trainable)):.0f}% trained",
            va="center",
            fontsize=6,
        )
    most_parts = int(frame["total"].max()) + 2
    axes.set(
        xlim=(0, most_parts + 2.6),
        ylim=(len(frame), 0),
        xticks=[],
        yticks=np.arange(len(frame)) + 0.5,
    )
    axes.set_yticklabels(frame["variant"])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


@styled
def curves(by_variant: Mapping[str, Mapping[int, Curve]], variants: Sequence[str]) -> Figure:
    """Figures 4 and 5: training Pearson by step, every seed thin, the mean bold. Nothing is smoothed."""
    figure, axes = _axes(NARROW, 2.3)
    for i, variant in enumerate(variants):
        found = list(by_variant.get(variant, {}).values())
        for curve in found:
            axes.plot(curve.step, curve.pearson, color=COLOURS[i], linewidth=0.5, alpha=0.55)
        if found:
            mean = mean_curve(found)
            seeds = f"{len(found)} seed{'s' * (len(found) != 1)}"
            axes.plot(
                mean.index,
                mean.to_numpy(),
                color=COLOURS[i],
                linewidth=1.8,
                label=f"{title(variant)}, {seeds}",
            )
    axes.set(xlabel="optimizer step", ylabel="training Pearson")
    axes.axhline(0, color="#999999", linewidth=0.5)
    axes.legend(loc="lower right")
    return figure


@styled
def study_curves(study: CurveStudy) -> Figure:
    """Figure 5 for each reading of Eq. 9 (rows) and temperature (columns); every seed thin, the mean bold."""
    return _panels(study, "training Pearson", _draw_pearson)


@styled
def study_gradients(study: CurveStudy) -> Figure:
    """Norms of each term's gradient and of their sum, means over seeds, by step; one panel a reading and temperature."""
    return _panels(study, "gradient norm", _draw_norms)


@styled
def study_cosines(study: CurveStudy) -> Figure:
    """The cosine between the terms' gradients by step; every seed thin, the mean bold."""
    return _panels(study, "cosine", _draw_cosine)


@styled
def budgets(found: Budgets) -> Figure:
    """Highest development Pearson against the number of trials, a line for each variant."""
    figure, axes = _axes(NARROW, 2.3)
    for i, variant in enumerate(v for v, count in found.counts.items() if count):
        best = 100 * found.best_so_far(variant)
        axes.step(
            np.arange(1, len(best) + 1),
            best,
            where="post",
            color=COLOURS[i % 8],
            marker=MARKERS[i % 8],
            markersize=2.5,
            label=title(variant),
        )
    axes.set(xlabel="trials", ylabel="best development Pearson × 100")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=5.5, loc="lower right")
    return figure


@styled
def forest(steps: Sequence[Step]) -> Figure:
    """The steps' differences with their 95% intervals; the paper's as open diamonds."""
    shown = [step for step in steps if step.estimate.exists]
    figure, axes = _axes(WIDE, 0.6 + 0.15 * len(shown))
    names = list(dict.fromkeys(str(step.measure) for step in shown))
    for i, step in enumerate(shown):
        colour, interval = (
            COLOURS[names.index(str(step.measure)) % len(COLOURS)],
            step.estimate.interval,
        )
        if np.isfinite(interval.low):
            axes.plot([100 * interval.low, 100 * interval.high], [i, i], color=colour, linewidth=1)
        marker = MARKERS[names.index(str(step.measure)) % len(MARKERS)]
        axes.plot(
            100 * step.estimate.mean,
            i,
            marker=marker,
            color=colour,
            markersize=3.5,
            linestyle="none",
        )
        if np.isfinite(step.printed):
            axes.plot(
                100 * step.printed,
                i,
                marker="d",
                markerfacecolor="none",
                markeredgecolor="#555555",
                markersize=4,
            )
    axes.axvline(0, color="#999999", linewidth=0.6)
    first = [i == 0 or str(step) != str(shown[i - 1]) for i, step in enumerate(shown)]
    labels = [
        f"{step}   {step.measure}" if new else str(step.measure)
        for step, new in zip(shown, first, strict=True)
    ]
    axes.set_yticks(range(len(shown)), labels)
    for i in (i for i, new in enumerate(first) if new and i):
        axes.axhline(i - 0.5, color="#DDDDDD", linewidth=0.5)
    axes.set(
        xlabel="difference of Pearson × 100 (open diamond: the paper's)",
        ylim=(len(shown) - 0.4, -0.6),
    )
    return figure


@styled
def heat(frame: pd.DataFrame) -> Figure:
    """Pearson times 100 by variant (index) and language (columns)."""
    figure, axes = _axes(WIDE, 0.6 + 0.27 * len(frame))
    values = 100 * frame.to_numpy(dtype=float)
    image = axes.imshow(values, cmap="viridis", aspect="auto")
    low, high = np.nanmin(values), np.nanmax(values)
    for i, j in np.ndindex(*values.shape):
        if np.isfinite(values[i, j]):
            dark = values[i, j] < (low + high) / 2
            axes.text(
                j,
                i,
                f"{values[i, j]:.1f}",
                ha="center",
                va="center",
                fontsize=6.5,
                color="white" if dark else "black",
            )
    axes.set_xticks(range(len(frame.columns)), list(frame.columns))
    axes.set_yticks(range(len(frame)), list(frame.index))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="Pearson × 100", shrink=0.9)
    return figure


@styled
def cost(found: Sequence[Cost]) -> Figure:
    """Pearson against seconds a run; whiskers are 95% intervals."""
    figure, axes = _axes(NARROW, 2.3)
    for i, each in enumerate(c for c in found if np.isfinite(c.seconds) and c.pearson.exists):
        interval = each.pearson.interval
        if np.isfinite(interval.low):
            axes.plot(
                [each.seconds] * 2,
                [100 * interval.low, 100 * interval.high],
                color=COLOURS[i % 8],
                linewidth=0.7,
            )
        axes.plot(
            each.seconds,
            100 * each.pearson.mean,
            MARKERS[i % 8],
            color=COLOURS[i % 8],
            markersize=4,
            label=each.variant,
        )
    axes.set(xlabel="seconds a run", ylabel="Pearson × 100")
    axes.margins(x=0.25)
    axes.legend(fontsize=6, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


@styled
def residual_by_label(frame: pd.DataFrame) -> Figure:
    """Mean residual by label bin; columns variant, bin, bias."""
    figure, axes = _axes(NARROW, 2.3)
    for i, (variant, rows) in enumerate(frame.groupby("variant", sort=False)):
        axes.plot(
            rows["bin"] + BIN_WIDTH / 2,
            rows["bias"],
            marker=MARKERS[i % 8],
            markersize=3,
            color=COLOURS[i % 8],
            linewidth=0.8,
            label=title(str(variant)),
        )
    axes.axhline(0, color="#999999", linewidth=0.5)
    axes.set(xlabel="label (bins of 0.5)", ylabel="mean of prediction − label")
    axes.legend(fontsize=5.5)
    return figure


@styled
def calibration(frame: pd.DataFrame) -> Figure:
    """Mean label against mean prediction in tenths of the predictions; columns variant, predicted, label."""
    figure, axes = _axes(NARROW, 2.3)
    ends = [
        frame[["predicted", "label"]].to_numpy().min(),
        frame[["predicted", "label"]].to_numpy().max(),
    ]
    axes.plot(ends, ends, color="#999999", linewidth=0.6)
    for i, (variant, rows) in enumerate(frame.groupby("variant", sort=False)):
        axes.plot(
            rows["predicted"],
            rows["label"],
            marker=MARKERS[i % 8],
            markersize=3,
            color=COLOURS[i % 8],
            linewidth=0.8,
            label=title(str(variant)),
        )
    axes.set(xlabel="mean prediction (tenths)", ylabel="mean label")
    axes.legend(fontsize=5.5)
    return figure


@styled
def gain(frame: pd.DataFrame) -> Figure:
    """EPM's gain by label bin with 95% over rows; columns bin, rows, gain, low, high."""
    figure, axes = _axes(NARROW, 2.3)
    middle = frame["bin"] + BIN_WIDTH / 2
    axes.bar(middle, frame["gain"], width=0.8 * BIN_WIDTH, color="#9CC4E4")
    axes.vlines(middle, frame["low"], frame["high"], color=COLOURS[0], linewidth=1)
    axes.axhline(0, color="#999999", linewidth=0.5)
    axes.set_xticks(
        middle,
        [f"{low:g}\nn={rows}" for low, rows in zip(frame["bin"], frame["rows"], strict=True)],
        fontsize=6,
    )
    axes.set(xlabel="label from", ylabel="squared error: MSE − EPM")
    return figure


def _panels(
    study: CurveStudy, ylabel: str, draw: Callable[[Axes, int, str, Sequence[Curve]], None]
) -> Figure:
    """A row for each sign and a column for each temperature; `draw` gets the axes, a colour's number, the loss and its curves."""
    signs, taus = (sorted({getattr(c, part) for c in study.contrasts}) for part in ("sign", "tau"))
    signs.reverse() if signs[0] == "attract" and len(signs) > 1 else None
    figure, grid = _grid(
        len(signs), len(taus), WIDE, 0.5 + 1.7 * len(signs), sharex=True, sharey=True
    )
    for axes, contrast in (
        (grid[signs.index(c.sign)][taus.index(c.tau)], c) for c in study.contrasts
    ):
        for i, loss in enumerate(("mse", "epm")):
            found = list(study.curves.get(Condition(loss, contrast), {}).values())
            if found:
                draw(axes, i, f"{loss.upper()} + CL", found)
        axes.set_title(str(contrast), fontsize=7)
    for axes in grid[-1]:
        axes.set_xlabel("optimizer step")
    for row in grid:
        row[0].set_ylabel(ylabel)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(
        handles, labels, fontsize=6, loc="outside upper center", ncols=min(3, len(labels))
    )
    return figure


def _draw_pearson(axes: Axes, i: int, name: str, found: Sequence[Curve]) -> None:
    for curve in found:
        axes.plot(curve.step, curve.pearson, color=COLOURS[i], linewidth=0.4, alpha=0.55)
    mean = mean_curve(found)
    axes.plot(mean.index, mean.to_numpy(), color=COLOURS[i], linewidth=1.6, label=name)
    axes.axhline(0, color="#999999", linewidth=0.5)


def _draw_norms(axes: Axes, i: int, name: str, found: Sequence[Curve]) -> None:
    for term, line in (("regression", ":"), ("contrastive", "--"), ("sum", "-")):
        mean = pd.concat(
            [c.gradients[term] for c in found if term in c.gradients], axis=1, join="inner"
        ).mean(axis=1)
        axes.plot(
            mean.index,
            mean.to_numpy(),
            color=COLOURS[i],
            linewidth=0.9,
            linestyle=line,
            label=f"{name}: {term}",
        )
    axes.set_yscale("log")


def _draw_cosine(axes: Axes, i: int, name: str, found: Sequence[Curve]) -> None:
    each = [c.gradients["cosine"] for c in found if "cosine" in c.gradients]
    for series in each:
        axes.plot(series.index, series.to_numpy(), color=COLOURS[i], linewidth=0.4, alpha=0.55)
    mean = pd.concat(each, axis=1, join="inner").mean(axis=1)
    axes.plot(mean.index, mean.to_numpy(), color=COLOURS[i], linewidth=1.6, label=name)
    axes.axhline(0, color="#999999", linewidth=0.5)


def _kl(axes: Axes, each: Distances) -> None:
    image = axes.imshow(each.kl, cmap="magma")
    edges = np.flatnonzero(each.language[1:] != each.language[:-1]) + 0.5
    for edge in edges:
        axes.axhline(edge, color="white", linewidth=0.5)
        axes.axvline(edge, color="white", linewidth=0.5)
    starts = np.concatenate([[-0.5], edges, [len(each.language) - 0.5]])
    centres, labels = (starts[:-1] + starts[1:]) / 2, list(dict.fromkeys(each.language))
    axes.set_xticks(centres, labels)
    axes.set_yticks(centres, labels)
    axes.tick_params(length=0)
    axes.set_title(f"{title(each.run.variant)}: KL[i][j], {len(each.kl)} rows")
    axes.figure.colorbar(image, ax=axes, shrink=0.8)


def _pairs(axes: Axes, each: Distances) -> None:
    same = each.language[:, None] == each.language[None, :]
    axes.imshow(same, cmap=ListedColormap(["#F6D5C3", "#BFDCEF"]), vmin=0, vmax=1)
    for i, j in np.ndindex(*each.kl.shape):
        axes.text(
            j,
            i,
            f"{'P' if same[i, j] else 'N'}\n{abs(each.kl[i, j]):.3f}",
            ha="center",
            va="center",
            fontsize=5,
        )
    axes.set_xticks(range(len(each.language)), list(each.language))
    axes.set_yticks(range(len(each.language)), list(each.language))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"positive and negative pairs of {len(each.kl)} of them")


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure, grid = _grid(1, 1, width, height)
    return figure, grid[0][0]


def _grid(
    rows: int,
    columns: int,
    width: float,
    height: float,
    *,
    sharex: bool = False,
    sharey: bool = False,
    **ratios: Sequence[float],
) -> tuple[Figure, np.ndarray]:
    # Not pyplot's: nothing is kept open, and threads can draw.
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(
        rows, columns, squeeze=False, sharex=sharex, sharey=sharey, gridspec_kw=ratios or None
    )
