"""The report as its reader meets it: which sections, in which order, with which tables and figures.

`SECTIONS` is the table of contents; each entry makes the blocks of its section from what was
computed. Nothing is drawn or laid out here.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import pandas as pd

from reports.analysis import inference as st
from reports.analysis.collect import Experiment, read_corpus
from reports.analysis.groups import Group, describe
from reports.analysis.measures import TEST, EvalSubset, Measurements, compute_measurements
from reports.rendering import figures
from reports.rendering.blocks import Block, Picture, Report, Section
from reports.sections import (
    comparisons,
    curves,
    errors,
    origin,
    paper_claims,
    scores,
    setting,
    tuning,
)
from reports.sections.curve_study import (
    CurveStudy,
    curve_table,
    find_study,
    runs_table,
    verdict_table,
)
from reports.sections.effects import effects


@dataclass(frozen=True)
class ReportInputs:
    """What a report is made of: the group of runs that it shows, measured, and what is read beside it.

    An experiment that holds a curve study and nothing else has an empty group.
    """

    experiment: Experiment
    groups: Sequence[Group]
    group: Group
    seed: int = 0

    @cached_property
    def measured(self) -> Measurements:
        return compute_measurements(self.experiment, self.group, seed=self.seed)

    @cached_property
    def curve_study(self) -> CurveStudy | None:
        return find_study(self.experiment)

    @cached_property
    def budgets(self) -> tuning.Budgets | None:
        return tuning.find_budgets(self.experiment, self.group)

    @cached_property
    def comparable(self) -> bool:
        """Whether the paper's figures are of the same kind of data."""
        return not self.group.synthetic

    @cached_property
    def corpus(self) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
        return read_corpus(self.experiment, self.group.runs)

    @cached_property
    def steps(self) -> list[comparisons.Step]:
        return comparisons.steps(self.measured, comparable=self.comparable)

    @cached_property
    def rulings(self) -> list[paper_claims.Ruling]:
        return paper_claims.rule(self.measured, comparable=self.comparable)

    @cached_property
    def curves(self) -> dict[str, dict[int, curves.Curve]]:
        return curves.by_variant(
            curves.read_curves(self.experiment, self.group.runs), self.measured.test_from
        )

    @cached_property
    def residuals(self) -> errors.Residuals | None:
        return errors.residuals(self.measured)

    @cached_property
    def best(self) -> str | None:
        """The variant with the highest mean development Pearson on the test columns' split."""
        measure = EvalSubset(self.measured.test_from)
        means = {v: self.measured.cell(v, measure).mean for v in self.group.variants}
        known = {v: mean for v, mean in means.items() if np.isfinite(mean)}
        return max(known, key=lambda v: known[v]) if known else None


def compose(found: ReportInputs) -> Report:
    """Every section that has something to show."""
    group = found.group
    sections = [
        Section(name, tuple(make(found)))
        for name, make in (SECTIONS if group.runs else STUDY_SECTIONS)
    ]
    runs = group.runs or found.experiment.curves
    data = {run.tags.get("ablation.corpus", "") for run in runs}
    synthetic = any(run.synthetic for run in runs)
    kind = "synthetic data: no benchmark" if synthetic else "own data"
    running = f"{found.experiment.name} · data {', '.join(sorted(data))} ({kind})"
    return Report(
        title=f"Ablation report: {found.experiment.name}",
        subtitle=_subtitle(found) if group.runs else _study_subtitle(found),
        warnings=tuple(_warnings(found)) if group.runs else (SYNTHETIC_WARNING,) * synthetic,
        running=running,
        watermark=f"MIXED: {', '.join(group.mixed)}" if group.mixed else "",
        sections=tuple(section for section in sections if section.blocks),
    )


def _subtitle(found: ReportInputs) -> str:
    group = found.group
    runs = (
        f"{len(group.runs)} runs, {len(group.variants)} variants, splits {', '.join(group.splits)}"
    )
    seeds = f"{len(group.seeds)} seed{'s' * (len(group.seeds) != 1)} ({', '.join(map(str, group.seeds))})"
    encoders = sorted({run.tags.get("ablation.encoder", "") for run in group.runs} - {""})
    return f"{runs}, {seeds}, encoder {', '.join(encoders)}"


def _study_subtitle(found: ReportInputs) -> str:
    return f"A study of training curves: {len(found.curve_study.runs) if found.curve_study else 0} runs"


def _warnings(found: ReportInputs) -> Iterator[str]:
    group = found.group
    if group.synthetic:
        yield SYNTHETIC_WARNING
    if group.mixed:
        yield (
            f"Mixed by force: the runs differ in {', '.join(group.mixed)}. Their means are not those of any one method, and the"
            " differences between rows may be those of the settings."
        )
    if len(group.seeds) == 1:
        yield (
            "One seed: how much trainings differ is not known, so differences between methods can't be told from luck. Intervals"
            f" hold for other rows only. {comparisons.few_seeds(1)}"
        )
    if not found.measured.has_test:
        yield "The test rows have no labels: nothing is scored on them; languages and errors are looked at on development rows."
    if found.budgets and found.budgets.warning:
        yield found.budgets.warning
    others = [other for other in found.groups if other is not group]
    if others and not group.mixed:
        count = sum(len(other.runs) for other in others)
        yield f"{count} more runs differ in data, encoder, code or settings and stand in no number here."
    states = Counter(run.status for run in found.experiment.runs if run.status != "FINISHED")
    if states:
        listed = ", ".join(f"{count} {status}" for status, count in sorted(states.items()))
        yield f"Runs that are not finished stand in no number here: {listed}."
    uneven = _uneven_seeds(group)
    if uneven:
        yield f"Not every row has all seeds ({uneven}): a step is taken over the seeds that both its rows have."
    collapsed = [str(run) for run in group.runs if found.measured.records[run.run_id].collapsed]
    if collapsed:
        yield f"Collapsed to constant predictions, which have no Pearson: {', '.join(collapsed)}."


def _uneven_seeds(group: Group) -> str:
    """Rows with fewer seeds than the others of their split, in words."""
    counts = Counter((run.split, run.variant) for run in group.runs)
    most = {split: max(n for (s, _), n in counts.items() if s == split) for split in group.splits}
    return ", ".join(
        f"{variant} {split}: {n} of {most[split]}"
        for (split, variant), n in counts.items()
        if n < most[split]
    )


def _results(found: ReportInputs) -> Iterator[Block]:
    yield scores.table_3(found.measured, comparable=found.comparable)
    yield comparisons.claims_table(found.rulings, found.curves, comparable=found.comparable)
    yield scores.verdicts(found.measured, comparable=found.comparable)


def _noise(found: ReportInputs) -> Iterator[Block]:
    if not any(step.estimate.exists for step in found.steps):
        yield "No step of the paper has runs on both of its sides."
        return
    yield Picture(
        "steps",
        "The steps of the paper: difference and 95% interval on each set of rows.",
        figures.forest(found.steps),
        wide=True,
    )
    yield comparisons.steps_table(found.steps)
    yield comparisons.tests_table(found.measured, found.steps)


def _effects(found: ReportInputs) -> Iterator[Block]:
    if any(effect.weights for effect in effects(found.group.variants)):
        yield comparisons.effects_table(found.measured, comparable=found.comparable)
    order = comparisons.order_table(found.measured)
    if order.rows and found.comparable:
        yield order


def _languages(found: ReportInputs) -> Iterator[Block]:
    places = [TEST] if found.measured.has_test else []
    for place in [*places, *found.group.splits]:
        if not scores.languages_of(found.measured, place):
            continue
        if place == found.measured.analysed_place:
            caption = f"Pearson × 100 by variant and language ({_rows(found)}), mean over seeds."
            yield Picture(
                "languages", caption, figures.heat(scores.heat(found.measured, place)), wide=True
            )
        yield scores.by_language(found.measured, place)


def _curves(found: ReportInputs) -> Iterator[Block]:
    if not found.curves:
        yield "These runs kept no training curves."
        return
    pairs = (("figure4", "Figure 4", ("mse", "epm")), ("figure5", "Figure 5", ("mse+cl", "epm+cl")))
    for name, heading, variants in pairs:
        present = [v for v in variants if v in found.curves]
        if not present:
            yield f"{heading}: no runs of {' or '.join(variants)}."
            continue
        lacking = [v for v in variants if v not in found.curves]
        caption = (
            f"{heading}: training Pearson at each logging point, {EvalSubset(found.measured.test_from)}; every seed thin, their mean"
            " bold, nothing smoothed." + (f" No runs of {', '.join(lacking)}." if lacking else "")
        )
        yield Picture(name, caption, figures.curves(found.curves, present))
    yield curves.table(found.curves)


def _curve_study(found: ReportInputs) -> Iterator[Block]:
    study = found.curve_study
    if study is None:
        return
    seeds = sorted({seed for by_seed in study.curves.values() for seed in by_seed})
    text = f"Runs trained for their curves alone, seeds {', '.join(map(str, seeds))}: they stand in no score."
    if study.others:
        text += f" {study.others} more differ in data, encoder, code, split or settings and are left out."
    yield text
    yield verdict_table(study)
    plain: dict[str, Mapping[int, curves.Curve]] = {
        c.regression: by_seed for c, by_seed in study.curves.items() if c.contrast is None
    }
    if plain:
        caption = "Figure 4 in the study: training Pearson at each logging point, every seed thin, their mean bold."
        yield Picture("study_figure4", caption, figures.curves(plain, list(plain)))
    if study.contrasts:
        told = "by reading of Eq. 9 and temperature"
        yield Picture(
            "study_figure5",
            f"Figure 5 {told}; every seed thin, the mean bold.",
            figures.study_curves(study),
            wide=True,
        )
        caption = f"Gradient norms of the terms and of their sum {told}, means over seeds."
        yield Picture("study_gradients", caption, figures.study_gradients(study), wide=True)
        caption = f"Cosine between the two terms' gradients {told}: below zero they work against each other."
        yield Picture("study_cosines", caption, figures.study_cosines(study), wide=True)
    yield curve_table(study)
    yield runs_table(found.experiment, study)


def _study_origin(found: ReportInputs) -> Iterator[Block]:
    if found.curve_study is not None:
        yield origin.provenance(found.experiment, Group((), found.curve_study.runs))


def _errors(found: ReportInputs) -> Iterator[Block]:
    residuals = found.residuals
    if residuals is None:
        return
    rows = _rows(found)
    frame = errors.by_label(residuals)
    yield Picture(
        "residuals", f"Mean residual by label ({rows}).", figures.residual_by_label(frame)
    )
    yield Picture(
        "calibration",
        f"Calibration ({rows}): mean label against mean prediction.",
        figures.calibration(errors.calibration(residuals)),
    )
    gain = errors.gain_by_label(residuals, "mse", "epm", seed=found.seed)
    if len(gain):
        yield Picture(
            "gain",
            f"Where EPM gains over MSE ({rows}): squared error by label, 95% over rows.",
            figures.gain(gain),
        )
        yield errors.gain_in_words(gain)
    yield errors.table("errors_label", "Error by label", frame, "bin", residuals)
    yield errors.table(
        "errors_language", "Error by language", errors.by_language(residuals), "language", residuals
    )
    train, test = found.corpus
    texts = test if residuals.sample.place == TEST else train
    if found.best and texts is not None and found.best in residuals.of:
        yield errors.worst_table(found.best, errors.worst(residuals, found.best, texts), rows)


def _cost(found: ReportInputs) -> Iterator[Block]:
    yield origin.cost_table(found.measured)
    known = [
        cost
        for cost in origin.costs(found.measured)
        if np.isfinite(cost.seconds) and cost.pearson.exists
    ]
    if known:
        yield Picture(
            "cost", f"Pearson ({_rows(found)}) against training time.", figures.cost(known)
        )


def _setting(found: ReportInputs) -> Iterator[Block]:
    train, test = found.corpus
    if train is None:
        yield "No suite of these runs kept its corpus: Tables 1 and 2 and Figure 1 can't be shown."
    else:
        yield setting.table_1(train)
        yield setting.table_2(train, test)
        yield Picture(
            "figure1",
            "Figure 1: labelled rows by intimacy.",
            figures.histogram(setting.histogram(train)),
        )
    yield setting.table_4(found.group)
    if found.budgets:
        yield tuning.table(found.budgets)
        caption = "Highest development Pearson against the number of trials."
        yield Picture("tuning", caption, figures.budgets(found.budgets))
    layers = setting.layers(found.measured)
    if len(layers):
        caption = "Figure 3: trained layers (filled) and frozen ones (hatched) of each variant; E embeddings, H head."
        yield Picture("figure3", caption, figures.layers(layers))
    distances = setting.distances(found.experiment, found.group)
    if distances:
        taus = ", ".join(f"{tau:g}" for tau in sorted({d.tau for d in distances}))
        caption = (
            "Figure 2: the KL divergences between the sentence vectors of one real training batch after training (left), and the"
            f" positive (P) and negative (N) pairs of some of its rows with theirs (right). τ = {taus}."
        )
        yield Picture("figure2", caption, figures.distances(distances), wide=True)


def _origin(found: ReportInputs) -> Iterator[Block]:
    yield origin.provenance(found.experiment, found.group)
    yield origin.runs_table(found.experiment, found.group, found.measured)
    yield origin.test_reads(found.experiment, found.group)
    groups = None if found.group.mixed else origin.other_groups(found.groups, found.group)
    for table in (
        origin.other_reads(found.experiment, found.group),
        groups,
        origin.unfinished(found.experiment),
    ):
        if table is not None:
            yield table


def _methods(found: ReportInputs) -> Iterator[Block]:
    yield (
        f"Row intervals are percentile bootstraps of {st.RESAMPLES} resamples, drawn within each language, alike for all models;"
        " p values of paired differences come from the same resamples moved to zero, and from Williams' test. Seed intervals are"
        " Student's. Where both are to hold, their variances add, with Satterthwaite's degrees of freedom. Holm's correction runs"
        " over each table's tests. Every number is computed from stored predictions; `ablation report --verify` does it again."
    )
    if len(found.groups) > 1 and not found.group.mixed:
        told = describe(found.group, [other for other in found.groups if other is not found.group])
        yield f"The runs shown are set apart from the experiment's others by: {told}."


def _rows(found: ReportInputs) -> str:
    place = found.measured.analysed_place
    return "test rows" if place == TEST else f"development rows of {EvalSubset(place)}"


#: The table of contents.
SECTIONS: Final[tuple[tuple[str, Callable[[ReportInputs], Iterator[Block]]], ...]] = (
    ("Results", _results),
    ("Is it better, or noise?", _noise),
    ("What each component does", _effects),
    ("Languages", _languages),
    ("Training curves", _curves),
    ("The study of training curves", _curve_study),
    ("Errors", _errors),
    ("Cost", _cost),
    ("Data and settings", _setting),
    ("Where everything came from", _origin),
    ("How it was computed", _methods),
)
#: The same for an experiment that holds a curve study and no ablation.
STUDY_SECTIONS: Final = (
    ("The study of training curves", _curve_study),
    ("Where everything came from", _study_origin),
)
SYNTHETIC_WARNING: Final = "The data are synthetic: these scores are no benchmark, and no claim of the paper is decided by them."
