"""Compare the rows of the table on a corpus that no figures were printed for.

Every variant is compared with the plainest one, and the components with each other; in a table of
the user's own, each row with those that it is said to be compared with. Where all folds
of a k-fold split were run, the comparison is of their mean: its variance is that of the folds'
differences times 1/k + n_dev/n_train, since folds share training rows (Nadeau and Bengio, 2003,
"Inference for the generalization error", Machine Learning 52).

An answer is given at the level that the family leaves each comparison. The family is fixed before
the runs: the comparisons that the table makes, on each target of the corpus, run or not. So no
answer moves when another row or target is run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from scipy import stats

from ablation.config.variant_table import VariantTable
from ablation.config.variants import GROUPS, READING_ROWS
from ablation.core.counting import counted
from ablation.data.splits import draw_kind
from reports.analysis.estimates import NAN, Estimate
from reports.analysis.inference import ALPHA, NO_INTERVAL, Interval
from reports.analysis.labels import short_title
from reports.analysis.measures import Measurements
from reports.analysis.replication import DEFAULTS, Family
from reports.analysis.selection import FLATTERED, are_flattered
from reports.analysis.subsets import TEST, EvalSubset

Answer = Literal["better", "worse", "no difference", "undecided"]
#: Compared with each other if both were run, the plainer one first.
_COMPONENTS: Final = (("epm", "epm+cl"), ("epm", "epm+ft"), ("mse+cl", "epm+cl"))


@dataclass(frozen=True)
class Comparison:
    """A comparison of two variants on the rows that decide.

    Attributes:
        worse, better: The variants; differences are of the second minus the first.
        rows: The rows, in words.
        mean: The difference of Pearson.
        interval: 95%.
        equivalence: The interval at twice the level of the family for one comparison, which is two
            one-sided tests at that level.
        p: Two-sided, of this comparison alone; NaN without an interval.
        over: The things that the interval ranges over, in words.
        runs: Ids of the runs behind it.
        family: The comparisons that share an error rate, counted before any run.
        obstacle: Why there is no answer, whatever the interval; empty if nothing stands against it.
        title: The two variants' titles.
        target: The target, if the corpus has several.
    """

    worse: str
    better: str
    rows: str
    mean: float
    interval: Interval
    equivalence: Interval
    p: float
    over: str
    runs: tuple[str, ...]
    family: Family
    obstacle: str = ""
    title: str = ""
    target: str = ""

    @property
    def p_family(self) -> float:
        """p times the family's size, at most 1; NaN without a p."""
        return self.family.adjusted(self.p)

    @property
    def answer(self) -> Answer:
        """The verdict: a difference is shown at the family's level, or shown to be small."""
        if self.obstacle or not np.isfinite(self.p):
            return "undecided"
        if self.p_family < ALPHA:
            return "better" if self.mean > 0 else "worse"
        least = DEFAULTS.smallest_effect
        within = -least < self.equivalence.low and self.equivalence.high < least
        return "no difference" if within else "undecided"

    def __str__(self) -> str:
        return f"{self.title} ({self.target})" if self.target else self.title


def compare_variants(targets: Mapping[str, Measurements], of_corpus: int = 1) -> list[Comparison]:
    """Return the comparisons that the runs on each target allow.

    Args:
        targets: The measurements by the target's name; "" if there is one only.
        of_corpus: The number of targets that the corpus has, with runs or without.
    """
    return [
        replace(comparison, target=target)
        for target, measurements in targets.items()
        for comparison in _compare(measurements, of_corpus)
    ]


def comparison_family(table: VariantTable, pair: tuple[str, str], targets: int = 1) -> Family:
    """Return the family that a comparison of two rows belongs to, whichever of it were run.

    The rows of the paper's table under other readings are a family of their own.

    Args:
        table: The table of the rows.
        pair: The two rows.
        targets: The number of the corpus's targets.
    """
    if not table.is_the_papers:
        size = len(table.steps) or len(_pairs(list(table.variants)))
        return Family(f"the comparisons of “{table.title}”", size * targets)
    read_otherwise = {variant for variant in READING_ROWS if variant not in GROUPS["all"]}
    rows = [variant for variant in table.variants if variant not in read_otherwise]
    if not read_otherwise & set(pair):
        return Family("the comparisons of the table's rows", len(_pairs(rows)) * targets)
    size = len(_pairs([*rows, *read_otherwise])) - len(_pairs(rows))
    return Family("the comparisons of rows under other readings", size * targets)


def _compare(measurements: Measurements, targets: int) -> list[Comparison]:
    """Return the comparisons that the group's runs allow, on the rows that decide.

    These are the test rows, without labels there all folds of a k-fold split if they were run,
    else the development rows of one split.
    """
    folds = complete_folds(measurements.group.splits)
    group = measurements.group
    declared = () if group.table.is_the_papers else group.table.steps
    pairs = list(declared) or _pairs(group.variants)
    found = []
    for pair in pairs:
        family = comparison_family(group.table, pair, targets)
        if folds and not measurements.has_test:
            found.append(_over_folds(measurements, pair, folds, family))
        else:
            found.append(_on_subset(measurements, pair, family))
    return [
        replace(
            comparison,
            title=f"{short_title(comparison.worse, group.table)} →"
            f" {short_title(comparison.better, group.table)}",
        )
        for comparison in found
        if np.isfinite(comparison.mean)
    ]


def complete_folds(splits: Sequence[str]) -> tuple[str, ...]:
    """Return the folds of the first k-fold split all of whose folds are there."""
    folded = [split.split(":") for split in splits if split.startswith("kfold:")]
    for count in dict.fromkeys(int(parts[1]) for parts in folded):
        names = tuple(f"kfold:{count}:{i}" for i in range(1, count + 1))
        if set(names) <= set(splits):
            return names
    return ()


def corrected_interval(per_fold: np.ndarray, level: float = 0.95) -> tuple[float, Interval, float]:
    """Return mean, interval and two-sided p of a difference by fold.

    Without an interval and a p where all folds differ alike: a spread of 0 is no knowledge of it.

    Args:
        per_fold: (folds,), at least two; each fold's development rows are 1 of `folds` parts.
        level: Of the interval.
    """
    k = len(per_fold)
    mean = float(per_fold.mean())
    # n_dev / n_train = 1 / (k - 1)
    error = float(np.sqrt((1 / k + 1 / (k - 1)) * per_fold.var(ddof=1)))
    if not error > 1e-12 * max(1.0, abs(mean)):
        return mean, NO_INTERVAL, NAN
    reach = error * float(stats.t.ppf((1 + level) / 2, k - 1))
    p = 2 * float(stats.t.sf(abs(mean) / error, k - 1))
    return mean, Interval(mean - reach, mean + reach), p


def _pairs(variants: Sequence[str]) -> list[tuple[str, str]]:
    """Return (plainer, other) variants to compare."""
    plainest = "mse" if "mse" in variants else variants[0]
    pairs = [(plainest, variant) for variant in variants if variant != plainest]
    further = [(a, b) for a, b in _COMPONENTS if a in variants and b in variants]
    return list(dict.fromkeys([*pairs, *further]))


def _on_subset(measurements: Measurements, pair: tuple[str, str], family: Family) -> Comparison:
    eval_set = TEST if measurements.has_test else draw_kind(measurements.test_from)
    subset = measurements.find(eval_set)
    estimate: Estimate = measurements.step(*pair, subset)
    evidence = estimate.evidence
    return Comparison(
        *pair,
        rows=str(subset) if subset.is_test else f"development rows of {subset}",
        mean=estimate.mean,
        interval=estimate.interval,
        equivalence=NO_INTERVAL if evidence is None else evidence.interval(_equivalence(family)),
        p=estimate.p,
        over=estimate.unit,
        runs=estimate.runs,
        family=family,
        obstacle=estimate.obstacle
        or (evidence and evidence.obstacle)
        or _flattered(pair, subset, measurements),
    )


def _over_folds(
    measurements: Measurements, pair: tuple[str, str], folds: Sequence[str], family: Family
) -> Comparison:
    steps_on = [EvalSubset(fold) for fold in folds]
    steps = [measurements.step(*pair, subset) for subset in steps_on]
    found = Comparison(
        *pair,
        rows=counted(len(folds), "fold"),
        mean=NAN,
        interval=NO_INTERVAL,
        equivalence=NO_INTERVAL,
        p=NAN,
        over="",
        runs=tuple(run for step in steps for run in step.runs),
        family=family,
    )
    means = np.array([step.mean for step in steps])
    if not np.isfinite(means).all():
        return replace(found, obstacle="not every fold has both")
    mean, interval, p = corrected_interval(means)
    found = replace(found, obstacle=_flattered(pair, steps_on[0], measurements))
    if not np.isfinite(p):
        return replace(found, mean=mean, obstacle="all folds differ alike")
    equivalence = corrected_interval(means, _equivalence(family))[1]
    return replace(found, mean=mean, interval=interval, equivalence=equivalence, p=p, over="folds")


def _flattered(pair: tuple[str, str], subset: EvalSubset, measurements: Measurements) -> str:
    return FLATTERED if are_flattered(pair, subset, measurements.group.table) else ""


def _equivalence(family: Family) -> float:
    """Return the coverage of the interval that is two one-sided tests at the family's level."""
    return 1 - 2 * family.per_claim
