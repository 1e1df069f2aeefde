"""Compose a report: its title, its warnings, and the registered sections in their order."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from ablation.core.counting import counted
from ablation.tracking import names
from reports.analysis.groups import Group
from reports.analysis.inputs import ReportInputs
from reports.rendering.blocks import Report, Section
from reports.sections.registry import find_sections
from reports.sections.significance import few_seeds

#: The heading of the section on groups, whatever their kind is.
LANGUAGES: Final = "Languages"
SYNTHETIC_WARNING: Final = (
    "The data are synthetic: these scores are no benchmark, and they decide no claim of the paper."
)

SYNTHETIC_OTHERWISE: Final = (
    "The data are synthetic: these scores are no benchmark, and they decide no claim."
)


def compose(inputs: ReportInputs, sections: Sequence[str] = ()) -> Report:
    """Return the report with every section that has something to show.

    Args:
        inputs: What the report is made of.
        sections: Names of the sections to show; all by default.

    Raises:
        UsageError: A section's name is unknown.
    """
    group = inputs.group
    entries = [e for e in find_sections(sections) if group.runs or e.of_study]
    plural = inputs.layout.group.plural.capitalize()
    built = [
        Section(plural if entry.title == LANGUAGES else entry.title, tuple(entry.build(inputs)))
        for entry in entries
    ]
    runs = group.runs or inputs.experiment.curves
    data = ", ".join(sorted({run.tags.get(names.CORPUS, "") for run in runs}))
    comparability = inputs.comparability
    synthetic = any(run.synthetic for run in runs)
    kind = "synthetic data: no benchmark" if synthetic else "own data"
    if comparability.applies:
        kind = "the paper's data" if group.table.is_the_papers else "the publication's data"
    warnings = [*_warnings(inputs)] if group.runs else [SYNTHETIC_WARNING] * synthetic
    warnings += [f"{line}. It enters no number here." for line in inputs.experiment.damaged]
    return Report(
        title=f"Ablation report: {inputs.experiment.name}",
        subtitle=_subtitle(inputs) if group.runs else _study_subtitle(inputs),
        warnings=tuple(warnings),
        running=f"{inputs.experiment.name} · data {data} ({kind})",
        watermark=f"MIXED: {', '.join(group.mixed)}" if group.mixed else "",
        sections=tuple(section for section in built if section.blocks),
    )


def _subtitle(inputs: ReportInputs) -> str:
    group = inputs.group
    seeds = ", ".join(map(str, group.seeds))
    encoders = sorted({run.tags.get(names.ENCODER, "") for run in group.runs} - {""})
    parts = [
        counted(len(group.runs), "run"),
        counted(len(group.variants), "variant"),
        f"splits {', '.join(group.splits)}",
        f"{counted(len(group.seeds), 'seed')} ({seeds})",
        f"encoder {', '.join(encoders)}",
    ]
    return ", ".join(parts)


def _study_subtitle(inputs: ReportInputs) -> str:
    runs = len(inputs.curve_study.runs) if inputs.curve_study else 0
    return f"A study of training curves: {counted(runs, 'run')}"


def _warnings(inputs: ReportInputs) -> Iterator[str]:
    group = inputs.group
    if group.synthetic:
        yield SYNTHETIC_WARNING if group.table.is_the_papers else SYNTHETIC_OTHERWISE
    elif inputs.comparability.obstacle and inputs.layout.is_mint:
        yield (
            f"{inputs.comparability.obstacle.capitalize()}: its figures do not apply, and none of"
            " its claims is judged."
        )
    if group.mixed:
        yield (
            f"Mixed by force: the runs differ in {', '.join(group.mixed)}. Their means are not"
            " those of any one method, and the differences between rows may be those of the"
            " settings."
        )
    if len(group.seeds) == 1:
        yield (
            "One seed: the spread between trainings is unknown, so a difference between methods may"
            f" be luck. Intervals hold for other rows only. {few_seeds(1)}"
        )
    if not inputs.measurements.has_test:
        yield (
            "There are no labelled test rows: nothing is scored on them;"
            f" {inputs.layout.group.plural} and errors are those of development rows."
        )
    if inputs.budgets and inputs.budgets.warning:
        yield inputs.budgets.warning
    yield from _warnings_about_runs(inputs)


def _warnings_about_runs(inputs: ReportInputs) -> Iterator[str]:
    """Yield warnings about runs that are left out, lacking or collapsed."""
    group = inputs.group
    shown = [group.key, *(measured.group.key for measured in inputs.targets.values())]
    others = sum(len(other.runs) for other in inputs.groups if other.key not in shown)
    if others and not group.mixed:
        yield (
            f"No number includes {counted(others, 'further run')} with other data, encoder, code or"
            " settings."
        )
    states = Counter(run.status for run in inputs.experiment.runs if run.status != "FINISHED")
    if states:
        listed = ", ".join(f"{count} {status}" for status, count in sorted(states.items()))
        yield f"Unfinished runs enter no number here: {listed}."
    uneven = _uneven_seeds(group)
    if uneven:
        yield (
            f"Not every row has all seeds ({uneven}): a step is taken over the seeds that both its"
            " rows have."
        )
    records = inputs.measurements.records
    collapsed = ", ".join(str(run) for run in group.runs if records[run.run_id].collapsed)
    if collapsed:
        yield f"Collapsed to constant predictions, which have no Pearson: {collapsed}."


def _uneven_seeds(group: Group) -> str:
    """List the rows with fewer seeds than the others of their split, each with its splits."""
    counts = Counter((run.split, run.variant) for run in group.runs)
    most = {split: max(n for (s, _), n in counts.items() if s == split) for split in group.splits}
    splits: dict[tuple[str, str], list[str]] = {}
    for (split, variant), n in counts.items():
        if n < most[split]:
            splits.setdefault((variant, f"{n} of {most[split]}"), []).append(split)
    everywhere = set(group.splits)
    return ", ".join(
        f"{variant} {'on each split' if everywhere == set(on) and on[1:] else ' '.join(on)}:"
        f" {lacks}"
        for (variant, lacks), on in splits.items()
    )
