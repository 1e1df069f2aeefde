"""State the methods, the assumptions and the sources behind the report's numbers."""

from collections.abc import Iterator

from reports.analysis.groups import describe
from reports.analysis.inputs import ReportInputs
from reports.analysis.replication import DEFAULTS
from reports.analysis.variance_components import LEAST_LABELS, LEAST_ROWS
from reports.rendering.blocks import Block
from reports.sections.registry import section
from reports.sections.results import splits_text


@section("Appendix: methods, assumptions, sources", order=110)
def build(inputs: ReportInputs) -> Iterator[Block]:
    """Yield the methods, and how the group differs from the others."""
    groups = inputs.layout.group
    yield (
        f"Uncertainty. {_what_is_random(inputs)} A row enters by its jackknife influence on the"
        f" correlation, within its {groups.word} (Efron, 1982); the"
        " row-by-seed part counts once (Searle, Casella and McCulloch, 1992). Degrees of freedom"
        " are Satterthwaite's (1946), lowered for components of few levels. Intervals of"
        " correlations are symmetric on Fisher's z scale and stay within −100 and 100."
        f" Fewer than {LEAST_ROWS} rows or {LEAST_LABELS} distinct labels give no interval and no"
        " verdict; one seed gives no verdict."
    )
    yield (
        "Selection. Scores on the rows that chose an epoch, a row or an ensemble's members are too"
        " high (Cawley and Talbot, 2010). Nested halves choose on one half of these rows and score"
        " on the other, and swap; each half chooses by fewer rows than the whole, so that the"
        " nested score leans a little low. Ensembles are chosen greedily, with replacement (Caruana"
        " and others, 2004)."
    )
    if inputs.layout.is_mint:
        yield (
            "Readings of the paper are shown side by side as a specification curve (Simonsohn,"
            " Simmons and Nelson, 2020), which describes: nothing is tested over them."
        )
    yield _verdict_rules() if inputs.layout.is_mint else own_scale(inputs)
    yield (
        "Curves. Paired differences are tested by flipping their signs (Fisher, 1935), with"
        " intervals from subset means (Hartigan, 1969); rates of collapse by Fisher's exact test"
        " and Clopper and Pearson's intervals (1934). They hold for few seeds and with ties; where"
        " no outcome could be significant the answer is undecided. Several readings of Eq. 9 are"
        " judged each for itself."
    )
    yield (
        "Every number is computed from stored predictions; `ablation report --verify` recomputes"
        " them. The coverage of these intervals was simulated: see docs/benchmarks/coverage.md."
    )
    group = inputs.group
    if len(inputs.groups) > 1 and not group.mixed:
        others = [other for other in inputs.groups if other is not group]
        difference = describe(group, others)
        yield f"The runs shown differ from the experiment's others in: {difference}."


def _what_is_random(inputs: ReportInputs) -> str:
    """Say which factors the intervals range over."""
    plural = inputs.layout.group.plural
    about_splits = splits_text(inputs.measurements, plural) if inputs.group.runs else ""
    about_splits = about_splits or "The split is fixed."
    if inputs.group.runs and any(column.splits for column in inputs.measurements.columns):
        about_splits += (
            " Splits are draws from one corpus and share most of their training rows: what other"
            " training rows would change is in no interval (Nadeau and Bengio, 2003)."
        )
    if inputs.scope.languages == "random":
        return (
            f"Rows and seeds are random in scores, seeds and {plural} in differences, which are"
            f" means over {plural}; the rows' variance is in that between {plural}. {about_splits}"
        )
    return f"Rows and seeds are random, {plural} are fixed. {about_splits}"


def _verdict_rules() -> str:
    return (
        "Verdicts. A printed figure is one training's: it is compared by a prediction interval for"
        " a second experiment of its size (Patil, Peng and Leek, 2016). A claimed size is"
        f" replicated if at least {DEFAULTS.least_share:.0%} of it is shown; no effect is shown by"
        f" equivalence within {100 * DEFAULTS.smallest_effect:g} points (Schuirmann, 1987)."
        " Levels are divided by the number of claims, steps or cells that the paper prints"
        " (Bonferroni), counted before any run, so that no verdict depends on which runs there"
        " are; a claim of several effects is an intersection-union test (Berger, 1982)."
    )


def own_scale(inputs: ReportInputs) -> str:
    """Say which scale the labels of an own corpus were trained on."""
    layout = inputs.layout
    lowest, highest = layout.label_range
    settings = sorted({run.params.get("label.train_on", "") for run in inputs.group.runs} - {""})
    return (
        f"Scale. Labels go from {lowest:g} to {highest:g}; they were trained on the scale"
        f" {', '.join(settings) or 'of the corpus'} (label.train_on), since EPM depends on the unit"
        " of the labels. Losses and training curves are on that scale, all scores, errors and"
        " predictions on the corpus's own."
    )
