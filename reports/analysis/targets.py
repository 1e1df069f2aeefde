"""Find the other targets of a corpus that an experiment has runs on, to report on all together.

A corpus with several label columns is one corpus for each. Runs on two of them differ in the data
alone, and are never averaged; what is said of them is one family of comparisons.
"""

from collections.abc import Sequence

from ablation.core.slugs import slug
from ablation.data.layout import CorpusLayout
from ablation.tracking import names
from reports.analysis.collect import Experiment, read_layout
from reports.analysis.groups import Group

#: The part of a group's key that a target changes.
_DATA = "data"


def target_groups(
    experiment: Experiment, groups: Sequence[Group], shown: Group, layout: CorpusLayout
) -> dict[str, Group]:
    """Return the group of runs on each target of the corpus, by the target's name.

    Args:
        experiment: The experiment.
        groups: Its groups of runs, of which the first with a target is taken.
        shown: The group that the report is about, which is taken for its own.
        layout: The shown group's description of the corpus.

    Returns:
        The targets with runs, in the order of the description; none if there is one only.
    """
    targets = layout.columns.label
    if len(targets) < 2 or shown.mixed or not shown.runs:
        return {}
    found: dict[str, Group] = {}
    for group in (shown, *groups):
        if _apart_from_data(group) != _apart_from_data(shown):
            continue
        if group is not shown and read_layout(experiment, group.runs) != layout:
            continue
        if (target := target_of(group, layout)) is not None:
            found.setdefault(target, group)
    return {name: found[name] for name in targets if name in found} if len(found) > 1 else {}


def target_of(group: Group, layout: CorpusLayout) -> str | None:
    """Return the label column that a group's runs predict; None if it is not known."""
    suffixes = {label: f"-{slug(label)}" for label in layout.columns.label}
    corpora = {run.tags.get(names.CORPUS, "") for run in group.runs}
    fitting = [
        label
        for label, suffix in suffixes.items()
        if corpora and all(name.endswith(suffix) for name in corpora)
    ]
    return max(fitting, key=lambda label: len(suffixes[label])) if fitting else None


def _apart_from_data(group: Group) -> tuple[tuple[str, str], ...]:
    return tuple(part for part in group.key if part[0] != _DATA)
