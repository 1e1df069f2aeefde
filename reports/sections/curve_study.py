"""Show the study of training curves: losses, signs of Eq. 9 and temperatures (Section 4.2)."""

from collections.abc import Iterator
from typing import Final

from ablation.core.counting import counted
from reports.analysis.claims import CURVE_FAMILY
from reports.analysis.collect import Experiment
from reports.analysis.curve_study import CurveStudy
from reports.analysis.inputs import ReportInputs
from reports.rendering import curve_figures
from reports.rendering.blocks import Block, Picture
from reports.rendering.marks import verdict_cell
from reports.rendering.tables import (
    Cell,
    Column,
    Table,
    TableBuilder,
    interval_text,
    number,
    number_column,
)
from reports.sections.cells import collapses_text, finite_mean, p_cell, run_cell, time_text, why
from reports.sections.registry import section

#: Quantities of a condition in numbers: the column, the attribute of `Curve`, and its digits.
_QUANTITIES: Final = {
    "final": ("final", 3),
    "steps": ("steps_to_converge", 0),
    "roughness": ("roughness", 4),
    "regression": ("gradient_regression", 3),
    "contrastive": ("gradient_contrastive", 3),
    "sum": ("gradient_sum", 3),
    "cosine": ("gradient_cosine", 3),
}


@section("The study of training curves", order=60, of_study=True)
def build(inputs: ReportInputs) -> Iterator[Block]:
    """Yield the study's verdicts, its figures, and its runs."""
    study = inputs.curve_study
    if study is None:
        return
    yield _introduction(study)
    if study.assessments:
        yield verdicts_table(study)
    yield from _pictures(study)
    yield conditions_table(study)
    yield runs_table(inputs.experiment, study)


def verdicts_table(study: CurveStudy) -> Table:
    """Return each claim of Section 4.2 under each condition, and the collapses."""
    table = TableBuilder(
        "curve_verdicts",
        "The training curves against Section 4.2",
        text=Column("the paper says", width=19),
        where=Column("where", width=8),
        condition=Column("condition", width=12),
        subject=Column("measured", width=12),
        mean=number_column("mean", width=7),
        interval=Column("95% over seeds", width=11),
        p=number_column("p × family", width=6),
        verdict=Column("these runs", width=10),
        reason=Column("why", width=15),
    )
    for claim, contrast, assessment in study.assessments:
        estimate = assessment.estimate
        is_count = not estimate.seeds and bool(estimate.runs)
        runs = assessment.runs
        table.add(
            text=claim.text,
            where=claim.where,
            condition=str(contrast) if contrast else "no CL",
            subject=assessment.subject,
            mean=number(estimate.mean, 3, signed=True, runs=runs),
            interval=interval_text(estimate.over_seeds.low, estimate.over_seeds.high, 3),
            p=p_cell(assessment.p),
            verdict=verdict_cell(assessment.verdict),
            reason=Cell(why(assessment), runs=runs if is_count else ()),
        )
    return table.build(
        "Claimed: that the measured quantity is below zero; for gradients, which are given as"
        " powers of ten, below −0.301, a factor of two. Paired by seed; same batches, same initial"
        " weights. p: exact test over seeds against that bound (signs flipped; Fisher's for"
        f" counts), times the {CURVE_FAMILY.size} claims about curves, under each condition."
        " Intervals are exact, of one claim alone, and take six seeds. Gradients: with respect to"
        " the encoder's trained parameters, before clipping, mean over the logging points."
    )


def conditions_table(study: CurveStudy) -> Table:
    """Return each condition in numbers, means over seeds."""
    norm = "gradient norm"
    table = TableBuilder(
        "curve_conditions",
        "The study's curves in numbers",
        condition=Column("condition"),
        seeds=number_column("seeds"),
        final=number_column("final"),
        steps=number_column("steps to 90%"),
        roughness=number_column("roughness"),
        regression=number_column("regression", group=norm),
        contrastive=number_column("CL", group=norm),
        sum=number_column("their sum", group=norm),
        cosine=number_column("cosine"),
        collapses=Column("collapses"),
    )
    for condition, by_seed in study.conditions.items():
        curves = list(by_seed.values())
        runs = tuple(curve.run.run_id for curve in curves)
        means = {
            column: number(finite_mean([getattr(c, name) for c in curves]), digits, runs=runs)
            for column, (name, digits) in _QUANTITIES.items()
        }
        collapses = collapses_text(by_seed)
        table.add(condition=str(condition), seeds=len(curves), **means, collapses=collapses)
    return table.build(
        "Means over seeds; gradient norms are means over logging points. CL's includes its weight"
        " in Eq. 10."
    )


def runs_table(experiment: Experiment, study: CurveStudy) -> Table:
    """Return the runs behind the study's numbers."""
    table = TableBuilder(
        "curve_runs",
        "The study's runs",
        run=Column("run", width=9),
        condition=Column("condition", width=33),
        seed=number_column("seed", width=6),
        split=Column("split", width=8),
        started=Column("started (UTC)", width=15),
        final=number_column("final", width=7),
        steps=number_column("steps to 90%", width=11),
        roughness=number_column("roughness", width=9),
        collapse=Column("collapse", width=9),
    )
    for condition, by_seed in study.conditions.items():
        for seed, curve in by_seed.items():
            run = curve.run
            table.add(
                run=run_cell(experiment, run, anchor=True),
                condition=str(condition),
                seed=seed,
                split=run.split,
                started=time_text(run.started),
                final=number(curve.final, 3, runs=(run.run_id,)),
                steps=number(curve.steps_to_converge, 0, runs=(run.run_id,)),
                roughness=number(curve.roughness, 4, runs=(run.run_id,)),
                collapse="none" if curve.collapse is None else f"step {curve.collapse}",
            )
    return table.build()


def _introduction(study: CurveStudy) -> str:
    seeds = sorted({seed for by_seed in study.conditions.values() for seed in by_seed})
    text = (
        f"Runs trained only for their curves, seeds {', '.join(map(str, seeds))}: they enter no"
        " score."
    )
    if study.others:
        text += (
            f" Left out: {counted(study.others, 'further run')} with other data, encoder, code,"
            " split or settings."
        )
    return text


def _pictures(study: CurveStudy) -> Iterator[Picture]:
    plain = {
        condition.regression.upper(): list(by_seed.values())
        for condition, by_seed in study.curves.items()
        if condition.contrast is None
    }
    if plain:
        caption = (
            "Figure 4 in the study: training Pearson at each logging point, every seed thin, their"
            " mean bold."
        )
        yield Picture("study_figure4", caption, curve_figures.training_curves(plain))
    if study.rows:
        of_rows = {str(row): list(by_seed.values()) for row, by_seed in study.rows.items()}
        caption = (
            "Rows that are none of the figures': training Pearson at each logging point, every seed"
            " thin, their mean bold. Nothing is claimed of them."
        )
        yield Picture("study_rows", caption, curve_figures.training_curves(of_rows))
    if not study.contrasts:
        return
    panels = {
        contrast: {
            f"{loss.upper()} + CL": list(study.side(f"{loss}+cl", contrast).values())
            for loss in ("mse", "epm")
        }
        for contrast in study.contrasts
    }
    panel = "by reading of Eq. 9 and temperature"
    captions = {
        "study_figure5": f"Figure 5 {panel}; every seed thin, the mean bold.",
        "study_gradients": f"Gradient norms of the terms and their sum {panel}, means over seeds.",
        "study_cosines": (
            f"Cosine between the two terms' gradients {panel}: below zero they work against each"
            " other."
        ),
    }
    drawn = {
        "study_figure5": curve_figures.study_curves(panels),
        "study_gradients": curve_figures.study_gradients(panels),
        "study_cosines": curve_figures.study_cosines(panels),
    }
    for name, caption in captions.items():
        yield Picture(name, caption, drawn[name], wide=True)
