"""Is it better, or noise? The paper's steps, tested; its claims, ruled on; its components' effects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ablation.config.variants import VARIANTS
from reports.analysis import inference as st
from reports.analysis.collect import StoredRun
from reports.analysis.measures import Estimate, EvalSubset, Measurements, paper_step
from reports.analysis.verdicts import SYNTHETIC, Judgement, judge_effect
from reports.rendering.tables import Cell, Column, Mark, Table, number
from reports.sections import curves, paper_claims
from reports.sections.effects import effects
from reports.sections.paper_claims import printed_effect
from reports.sections.scores import MARKS, over, short, span, why_empty

#: Worse and better, as the paper has it; a step without its runs is left out.
STEPS: Final = (
    ("mse", "epm"),
    ("epm", "epm+cl"),
    ("epm", "epm+ft"),
    ("epm+cl", "epm+cl+ft"),
    ("epm+ft", "epm+cl+ft"),
    ("epm+cl", "ensemble"),
    ("baseline", "ensemble"),
    ("mse", "mse+cl"),
    ("mse+cl", "epm+cl"),
    ("epm+cl", "epm+cl(attract)"),
)
#: So many p values, one for each seed, can be read in a cell.
MOST_LISTED: Final = 10
OUTCOME_MARKS: Final[dict[str, Mark]] = {
    "supported": "good",
    "not supported": "bad",
    "not decidable": "unsure",
}


@dataclass(frozen=True)
class Step:
    """One step on one measure. `holm` is the estimate's p, adjusted over all steps and measures of the table."""

    worse: str
    better: str
    measure: EvalSubset
    estimate: Estimate
    printed: float
    holm: float
    judgement: Judgement

    def __str__(self) -> str:
        return f"{short(self.worse)} → {short(self.better)}"


def steps(measured: Measurements, *, comparable: bool) -> list[Step]:
    """Every step of the paper on every column of Table 3 for which there are runs, or a printed figure."""
    asked = []
    for worse, better in STEPS:
        in_table_3 = all(VARIANTS[v].paper for v in (worse, better))
        for measure in measured.columns:
            estimate, printed = (
                measured.step(worse, better, measure),
                paper_step(worse, better, measure),
            )
            if estimate.exists or (in_table_3 and np.isfinite(printed)):
                asked.append((worse, better, measure, estimate, printed))
    adjusted = st.holm([estimate.p for *_, estimate, _ in asked])
    found = []
    for (worse, better, measure, estimate, printed), p in zip(asked, adjusted, strict=True):
        judgement = judge_effect(estimate, printed, p, comparable=comparable)
        if judgement.verdict == "missing":
            reasons = {
                short(v): why_empty(measured, v, measure)
                for v in (worse, better)
                if not measured.cell(v, measure).exists
            }
            told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
            judgement = judgement._replace(why=told or "no seed that both have")
        found.append(Step(worse, better, measure, estimate, printed, p, judgement))
    return found


def steps_table(found: Sequence[Step]) -> Table:
    """Each step's difference, its interval, and whether it agrees with the paper's."""
    rows = [
        (
            Cell(str(s)),
            Cell(str(s.measure)),
            number(100 * s.estimate.mean, signed=True, runs=s.estimate.runs),
            span(s.estimate.interval, s.estimate),
            Cell(over(s.estimate)),
            number(s.holm, 3),
            number(100 * s.printed, signed=True),
            Cell(s.judgement.verdict, mark=MARKS[s.judgement.verdict]),
            Cell(s.judgement.why),
        )
        for s in found
    ]
    heads = (
        Column("step"),
        Column("on"),
        Column("difference", True),
        Column("95%", True),
        Column("over"),
        Column("p (Holm)", True),
        Column("paper", True),
        Column("verdict"),
        Column("why"),
    )
    tests = sum(np.isfinite(s.holm) for s in found)
    note = (
        "Differences of Pearson × 100, paired by row and seed. The interval holds for other rows and other seeds"
        " where there are two seeds or more (variances added, Satterthwaite's degrees of freedom), else for other rows only;"
        f" p belongs to it, after Holm's correction over the table's {tests} tests."
    )
    return Table(
        "steps",
        "The paper's steps",
        heads,
        tuple(rows),
        (note,),
        wide=True,
        widths=(25, 11, 9, 13, 10, 8, 7, 14, 22),
    )


def tests_table(measured: Measurements, found: Sequence[Step]) -> Table:
    """The tests behind each step, over rows and over seeds, and what they could have shown."""
    rows = []
    for s in (s for s in found if s.estimate.exists):
        e = s.estimate
        a, b = (
            np.array([measured.values[(r.run_id, s.measure)] for r in _runs(measured, v, s, e)])
            for v in (s.worse, s.better)
        )
        williams = [
            p
            for seed, p in measured.williams(s.worse, s.better, s.measure).items()
            if seed in e.seeds
        ]
        rows.append(
            (
                Cell(str(s)),
                Cell(str(s.measure)),
                span(e.over_rows, e),
                number(e.p_rows, 4),
                Cell(by_seed(williams), _median(williams)),
                Cell(str(len(e.seeds)), len(e.seeds)),
                span(e.over_seeds, e),
                number(st.probability_of_improvement(b, a)),
                number(100 * e.detectable_rows),
                number(100 * e.detectable_seeds),
                _seeds_needed(e, s.printed),
            )
        )
    rows_, seeds_ = "over rows", "over seeds"
    heads = (
        Column("step"),
        Column("on"),
        Column("95%", True, rows_),
        Column("p, bootstrap", True, rows_),
        Column("p, Williams, by seed", True, rows_),
        Column("seeds", True, seeds_),
        Column("95%", True, seeds_),
        Column("P(better)", True, seeds_),
        Column("rows", True, "could show"),
        Column("seeds", True, "could show"),
        Column("seeds needed", True),
    )
    seeds = max((len(s.estimate.seeds) for s in found), default=0)
    notes = (
        "Over rows: other texts, these trained models. Over seeds: other trainings, these texts (Student's t, paired)."
        " P(better): share of pairs of runs in which the second scores higher. Could show: the smallest difference (× 100) that a"
        " sample like this one would show with 80% power at the 5% level. Seeds needed: for the paper's difference over seeds.",
        few_seeds(seeds),
    )
    return Table(
        "tests",
        "The tests behind the steps",
        heads,
        tuple(rows),
        notes,
        wide=True,
        widths=(23, 10, 12, 8, 13, 5, 12, 8, 6, 6, 7),
    )


def few_seeds(seeds: int) -> str:
    """What this many seeds can and can't prove on their own."""
    floor, needed = st.wilcoxon_floor(seeds), st.pairs_for_wilcoxon()
    told = f"With {seeds} seed{'s' * (seeds != 1)}, an exact two-sided Wilcoxon test of the pairs can't go below p = {floor:.4g}"
    if seeds < needed:
        return f"{told}: seeds alone prove nothing here; it takes {needed} of them to be able to fall below 0.05."
    return f"{told}."


def claims_table(
    rulings: Sequence[paper_claims.Ruling],
    by_variant: Mapping[str, Mapping[int, curves.Curve]],
    *,
    comparable: bool,
) -> Table:
    """Each claim of the paper, what the runs say of it, and why, in a sentence."""
    why_not = SYNTHETIC
    rows = [
        (
            Cell(r.claim.text),
            Cell(r.claim.where),
            Cell(r.outcome, mark=OUTCOME_MARKS[r.outcome]),
            Cell(r.sentence, runs=tuple(dict.fromkeys(run for e in r.estimates for run in e.runs))),
        )
        for r in rulings
    ]
    verdicts = [
        (
            claim.text,
            claim.where,
            curves.rule(
                claim, curves.compare(by_variant, claim), comparable=comparable, why_not=why_not
            ),
        )
        for claim in curves.CLAIMS
    ]
    collapse = curves.rule_on_collapse(by_variant, comparable=comparable, why_not=why_not)
    verdicts.append(
        ("With MSE + CL training collapses; with EPM + CL it does not.", "4.2, Figure 5", collapse)
    )
    rows += [
        (Cell(text), Cell(where), Cell(outcome, mark=OUTCOME_MARKS[outcome]), Cell(sentence))
        for text, where, (outcome, sentence) in verdicts
    ]
    heads = (Column("the paper says"), Column("where"), Column("these runs"), Column("why"))
    return Table(
        "claims", "The paper's claims", heads, tuple(rows), wide=True, widths=(30, 10, 13, 47)
    )


def effects_table(measured: Measurements, *, comparable: bool) -> Table:
    """Main effects and interactions on every column of Table 3."""
    rows = []
    measures = [m for m in measured.columns if m in measured.measures]
    for effect in effects(measured.group.variants):
        if not effect.weights:
            rows.append(
                (
                    Cell(effect.name),
                    *(Cell("–"),) * 4,
                    Cell("no runs"),
                    Cell(_names(effect.missing)),
                )
            )
            continue
        for measure in measures:
            estimate = measured.contrast(effect.weights, measure)
            printed = printed_effect(effect.weights, measure)
            rows.append(
                (
                    Cell(effect.name),
                    Cell(str(measure)),
                    number(100 * estimate.mean, signed=True, runs=estimate.runs),
                    span(estimate.interval, estimate),
                    number(100 * printed if comparable else float("nan"), signed=True),
                    Cell(_names(effect.cells)),
                    Cell(_names(effect.missing) or "none"),
                )
            )
    heads = (
        Column("effect"),
        Column("on"),
        Column("estimate", True),
        Column("95%", True),
        Column("paper", True),
        Column("taken from"),
        Column("runs that would complete it"),
    )
    note = (
        "Pearson × 100. A main effect is the mean difference between cells with and without the component, an interaction the"
        " difference between such differences, over all complete sets of cells at hand; missing sets are named, not filled in."
    )
    return Table(
        "effects",
        "Effects of the components",
        heads,
        tuple(rows),
        (note,),
        wide=True,
        widths=(13, 10, 8, 14, 7, 25, 23),
    )


def order_table(measured: Measurements) -> Table:
    """Sign and order of the three components' first steps, ours against the paper's."""
    firsts = {"EPM": ("mse", "epm"), "CL": ("epm", "epm+cl"), "FT": ("epm", "epm+ft")}
    rows = []
    for measure in measured.columns:
        found = {name: measured.step(*step, measure) for name, step in firsts.items()}
        printed = {name: paper_step(*step, measure) for name, step in firsts.items()}
        if not all(e.exists for e in found.values()) or not all(
            np.isfinite(p) for p in printed.values()
        ):
            continue
        ours, theirs = (
            sorted(values, key=lambda n: -values[n])
            for values in ({n: e.mean for n, e in found.items()}, printed)
        )
        draws = np.column_stack([found[name].draws for name in theirs])
        share = (
            float((np.diff(draws, axis=1) < 0).all(axis=1).mean())
            if len(draws) and np.isfinite(draws).all()
            else float("nan")
        )
        signs = [name for name in firsts if (found[name].mean > 0) != (printed[name] > 0)]
        runs = tuple(dict.fromkeys(run for e in found.values() for run in e.runs))
        rows.append(
            (
                Cell(str(measure)),
                Cell(" > ".join(theirs)),
                Cell(" > ".join(ours), runs=runs),
                Cell(
                    "agree" if ours == theirs else "differ",
                    mark="good" if ours == theirs else "unsure",
                ),
                Cell(
                    "agree" if not signs else f"differ: {', '.join(signs)}",
                    mark="good" if not signs else "unsure",
                ),
                number(share),
            )
        )
    heads = (
        Column("on"),
        Column("paper's order"),
        Column("our order"),
        Column("orders"),
        Column("signs"),
        Column("share of resamples in the paper's order", True),
    )
    note = (
        "EPM: MSE → EPM; CL: EPM → EPM + CL; FT: EPM → EPM + FT. By chance one order in six agrees."
    )
    return Table("order", "Sign and order of the effects", heads, tuple(rows), (note,), wide=True)


def _runs(measured: Measurements, variant: str, step: Step, estimate: Estimate) -> list[StoredRun]:
    runs = measured.runs(variant, step.measure.place)
    return [runs[seed] for seed in estimate.seeds]


def by_seed(values: Sequence[float]) -> str:
    """Each p value; of more than a cell can hold, the median and the range."""
    known = [v for v in values if np.isfinite(v)]
    if len(known) <= MOST_LISTED:
        return ", ".join(f"{p:.3f}" for p in known) or "–"
    return f"median {np.median(known):.3f} of {len(known)}, {min(known):.3f} to {max(known):.3f}"


def _median(values: Sequence[float]) -> float | None:
    known = [v for v in values if np.isfinite(v)]
    return float(np.median(known)) if known else None


def _seeds_needed(estimate: Estimate, printed: float) -> Cell:
    needed = st.seeds_needed(printed, estimate.sd)
    return Cell("–") if needed is None else Cell(str(needed), needed)


def _names(variants: Sequence[str]) -> str:
    return ", ".join(variants)
