"""Table 3 beside the paper's, its verdicts, and the scores of each language."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd

from ablation.config.variants import GROUPS, VARIANTS
from ablation.data.languages import language_name
from reports.analysis import inference as st
from reports.analysis.measures import TEST, Estimate, EvalSubset, Measurements, paper_cell
from reports.analysis.verdicts import Verdict, judge_cell, points
from reports.rendering.tables import Cell, Column, Mark, Table, interval_text, mark_best, number

#: The rows that Table 3 prints, in its order; further variants stand below them.
PRINTED: Final = (*GROUPS["table3"][:-1], "baseline", "ensemble")
MARKS: Final[dict[Verdict, Mark]] = {
    "reproduced": "good",
    "not reproduced": "bad",
    "underpowered": "unsure",
    "missing": "",
    "not comparable": "",
}


def title(variant: str) -> str:
    """A row's name in Table 3."""
    return VARIANTS[variant].title if variant in VARIANTS else variant


def short(variant: str) -> str:
    """The same where it stands by itself: `EPM + CL`."""
    return title(variant).removeprefix("+ ")


def rows_of_table_3(measured: Measurements) -> list[str]:
    return [*PRINTED, *(v for v in measured.group.variants if v not in PRINTED)]


def table_3(
    measured: Measurements, *, comparable: bool, key: str = "table3", heading: str = "Table 3"
) -> Table:
    """Variants by columns: mean and standard deviation over seeds, the paper's figure under it."""
    columns = measured.columns
    body = {
        m: mark_best(
            [_cell(measured, v, m, comparable=comparable) for v in rows_of_table_3(measured)]
        )
        for m in columns
    }
    rows = [
        (Cell(title(v)), *(body[m][i] for m in columns))
        for i, v in enumerate(rows_of_table_3(measured))
    ]
    difference = (
        "and the difference to it"
        if comparable
        else "without a difference, since the data are not the paper's"
    )
    notes = [
        "Pearson × 100, pooled over rows; mean ± standard deviation over seeds. Best bold and underlined, second underlined."
        f" Test columns: models of {EvalSubset(measured.test_from)} (the paper does not say of which split its were).",
        f"Small: the paper's figure {difference}. Its overall score (56.70) is the submitted system's.",
    ]
    if any(split.startswith("dev2") for split in measured.group.splits):
        notes.append(_held_out(measured))
    return Table(
        key,
        f"{heading}: ours and the paper's",
        (Column("Method"), *(Column(str(m), numeric=True) for m in columns)),
        tuple(rows),
        tuple(notes),
        wide=True,
        widths=(16, *(11 for _ in columns)),
    )


def verdicts(measured: Measurements, *, comparable: bool) -> Table:
    """Every cell of Table 3 on a line of its own, with its interval and whether it was reproduced."""
    rows = []
    for variant in PRINTED:
        for measure in measured.columns:
            printed = paper_cell(variant, measure)
            estimate = measured.cell(variant, measure)
            if not estimate.exists and not np.isfinite(printed):
                continue
            verdict, why = judge_cell(estimate, printed, comparable=comparable)
            why = why_empty(measured, variant, measure) if verdict == "missing" else why
            rows.append(
                (
                    Cell(title(variant)),
                    Cell(str(measure)),
                    percent(estimate.mean, estimate),
                    number(100 * estimate.sd, runs=estimate.runs),
                    Cell(str(len(estimate.seeds)), len(estimate.seeds)),
                    span(estimate.interval, estimate),
                    Cell(over(estimate)),
                    percent(printed),
                    number(
                        100 * (estimate.mean - printed) if comparable else float("nan"), signed=True
                    ),
                    Cell(verdict, mark=MARKS[verdict]),
                    Cell(why),
                )
            )
    heads = (
        Column("Method"),
        Column("on"),
        Column("mean", True),
        Column("sd", True),
        Column("seeds", True),
        Column("95%", True),
        Column("over"),
        Column("paper", True),
        Column("differs by", True),
        Column("verdict"),
        Column("why"),
    )
    return Table(
        "verdicts",
        "Table 3, cell by cell",
        heads,
        tuple(rows),
        wide=True,
        widths=(15, 10, 7, 6, 6, 14, 11, 7, 9, 14, 26),
    )


def by_language(measured: Measurements, place: str) -> Table:
    """Variants by languages: the mean over seeds, under it 95% over rows and over seeds."""
    languages = languages_of(measured, place)
    variants = [v for v in measured.group.variants if measured.runs(v, place)]
    body = {
        x: mark_best([_language_cell(measured.cell(v, EvalSubset(place, x))) for v in variants])
        for x in languages
    }
    averages = [_average_cell(measured, v, place, languages) for v in variants]
    rows = [
        (Cell(title(v)), *(body[x][i] for x in languages), averages[i])
        for i, v in enumerate(variants)
    ]
    heads = (
        Column("Method"),
        *(Column(x, numeric=True) for x in languages),
        Column("mean", numeric=True),
    )
    told = "Below each: 95% over rows (percentile bootstrap, rows drawn within each language), then over seeds (Student's t)."
    names = ", ".join(f"{x} {language_name(x)}" for x in languages)
    return Table(
        f"languages_{place.replace(':', '_').replace('+', '_')}",
        f"Pearson × 100 by language, {_where(measured, place)}",
        heads,
        tuple(rows),
        (f"{told} {names}.",),
        wide=True,
    )


def heat(measured: Measurements, place: str) -> pd.DataFrame:
    """Mean Pearson by variant title and language."""
    languages = languages_of(measured, place)
    variants = [v for v in measured.group.variants if measured.runs(v, place)]
    return pd.DataFrame(
        [[measured.cell(v, EvalSubset(place, x)).mean for x in languages] for v in variants],
        index=[title(v) for v in variants],
        columns=languages,
    )


def languages_of(measured: Measurements, place: str) -> list[str]:
    return [
        m.subset
        for m in measured.measures
        if m.place == place and m.subset not in ("all", "seen", "unseen")
    ]


def percent(value: float, estimate: Estimate | None = None) -> Cell:
    """A correlation times 100."""
    return number(100 * value, runs=estimate.runs if estimate else ())


def span(interval: st.Interval, estimate: Estimate | None = None) -> Cell:
    """An interval of correlations times 100; its value is the lower end."""
    text = interval_text(100 * interval.low, 100 * interval.high)
    return Cell(
        text, 100 * interval.low if text != "–" else None, runs=estimate.runs if estimate else ()
    )


def over(estimate: Estimate) -> str:
    """What the estimate's interval ranges over."""
    if not estimate.exists or not np.isfinite(estimate.interval.low):
        return "–"
    return "rows, seeds" if np.isfinite(estimate.both.p) else "rows"


def _cell(measured: Measurements, variant: str, measure: EvalSubset, *, comparable: bool) -> Cell:
    estimate, printed = measured.cell(variant, measure), paper_cell(variant, measure)
    below = ""
    if np.isfinite(printed):
        difference = (
            f" ({points(estimate.mean - printed, signed=True).removesuffix(' points')})"
            if estimate.exists and comparable
            else ""
        )
        below = f"paper {100 * printed:.2f}{difference}"
    if not estimate.exists:
        return Cell(why_empty(measured, variant, measure), below=below)
    sd = f" ± {100 * estimate.sd:.2f}" if np.isfinite(estimate.sd) else ""
    return Cell(
        f"{100 * estimate.mean:.2f}{sd}".replace("-", "−"),
        100 * estimate.mean,
        below,
        estimate.runs,
    )


def why_empty(measured: Measurements, variant: str, measure: EvalSubset) -> str:
    """Why a cell of Table 3 has no score, in a word or two."""
    runs = measured.runs(variant, measure.place)
    if not runs:
        return "no runs"
    if measure.place == TEST and not measured.has_test:
        return "no labels"
    return (
        "collapsed"
        if all(measured.records[run.run_id].collapsed for run in runs.values())
        else "no Pearson"
    )


def _language_cell(estimate: Estimate) -> Cell:
    if not estimate.exists:
        return Cell("–")
    spans = [i for i in (estimate.over_rows, estimate.over_seeds) if np.isfinite(i.low)]
    below = "\n".join(f"[{100 * i.low:.1f}, {100 * i.high:.1f}]" for i in spans).replace("-", "−")
    return Cell(
        f"{100 * estimate.mean:.2f}".replace("-", "−"), 100 * estimate.mean, below, estimate.runs
    )


def _average_cell(
    measured: Measurements, variant: str, place: str, languages: Sequence[str]
) -> Cell:
    each = [measured.cell(variant, EvalSubset(place, x)) for x in languages]
    runs = tuple(dict.fromkeys(run for e in each for run in e.runs))
    return number(100 * float(np.mean([e.mean for e in each])), runs=runs) if each else Cell("–")


def _where(measured: Measurements, place: str) -> str:
    if place == TEST:
        return f"test rows, models of {EvalSubset(measured.test_from)}"
    return f"development rows of {EvalSubset(place)}"


def _held_out(measured: Measurements) -> str:
    told = []
    for split in (s for s in measured.group.splits if s.startswith("dev2")):
        unseen = {
            record.unseen_in_training
            for record in measured.records.values()
            if record.split == split
        }
        told += [
            f"{EvalSubset(split)} held out {' and '.join(language_name(x) for x in languages)}"
            for languages in sorted(unseen)
        ]
    return "; ".join(told) + ". The paper does not name its two languages."
