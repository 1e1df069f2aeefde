"""Compare the rows of the table on a corpus that no figures were printed for.

Every variant is compared with the plainest one, and the components with each other; in a table of
the user's own, each row with those that it is said to be compared with. Where all folds
of a k-fold split were run, the comparison is of their mean: its variance is that of the folds'
differences times 1/k + n_dev/n_train, since folds share training rows (Nadeau and Bengio, 2003,
"Inference for the generalization error", Machine Learning 52).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

from ablation.data.splits import draw_kind
from reports.analysis.inference import ALPHA, NO_INTERVAL, Interval
from reports.analysis.labels import short_title
from reports.analysis.measures import NAN, TEST, Estimate, EvalSubset, Measurements
from reports.analysis.replication import DEFAULTS

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
        p: Two-sided, times nothing; NaN without an interval.
        p_holm: Adjusted over all comparisons of the report (Holm, 1979).
        over: The things that the interval ranges over, in words.
        runs: Ids of the runs behind it.
        reason: Why there is no interval; empty if there is one.
        title: The two variants' titles.
        target: The target, if the corpus has several.
    """

    worse: str
    better: str
    rows: str
    mean: float
    interval: Interval
    p: float
    p_holm: float
    over: str
    runs: tuple[str, ...]
    reason: str = ""
    title: str = ""
    target: str = ""

    @property
    def answer(self) -> Answer:
        """The verdict: a difference is shown at 5% over all comparisons, or shown to be small."""
        if not np.isfinite(self.p_holm):
            return "undecided"
        if self.p_holm < ALPHA:
            return "better" if self.mean > 0 else "worse"
        least = DEFAULTS.smallest_effect
        within = -least < self.interval.low and self.interval.high < least
        return "no difference" if within else "undecided"

    def __str__(self) -> str:
        return f"{self.title} ({self.target})" if self.target else self.title


def compare_variants(targets: Mapping[str, Measurements]) -> list[Comparison]:
    """Return the comparisons that the runs on each target allow, p adjusted over all of them.

    Args:
        targets: The measurements by the target's name; "" if there is one only.
    """
    return _with_holm(
        [
            replace(comparison, target=target)
            for target, measurements in targets.items()
            for comparison in _compare(measurements)
        ]
    )


def _compare(measurements: Measurements) -> list[Comparison]:
    """Return the comparisons that the group's runs allow, on the rows that decide.

    These are the test rows, without labels there all folds of a k-fold split if they were run,
    else the development rows of one split.
    """
    folds = complete_folds(measurements.group.splits)
    group = measurements.group
    declared = () if group.table.is_the_papers else group.table.steps
    pairs = list(declared) or _pairs(group.variants)
    if folds and not measurements.has_test:
        found = [_over_folds(measurements, *pair, folds) for pair in pairs]
    else:
        found = [_on_subset(measurements, *pair) for pair in pairs]
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

    Args:
        per_fold: (folds,), at least two; each fold's development rows are 1 of `folds` parts.
        level: Of the interval.
    """
    k = len(per_fold)
    mean = float(per_fold.mean())
    # n_dev / n_train = 1 / (k - 1)
    error = float(np.sqrt((1 / k + 1 / (k - 1)) * per_fold.var(ddof=1)))
    if error == 0:
        return mean, Interval(mean, mean), 1.0 if mean == 0 else 0.0
    reach = error * float(stats.t.ppf((1 + level) / 2, k - 1))
    p = 2 * float(stats.t.sf(abs(mean) / error, k - 1))
    return mean, Interval(mean - reach, mean + reach), p


def _pairs(variants: Sequence[str]) -> list[tuple[str, str]]:
    """Return (plainer, other) variants to compare."""
    plainest = "mse" if "mse" in variants else variants[0]
    pairs = [(plainest, variant) for variant in variants if variant != plainest]
    further = [(a, b) for a, b in _COMPONENTS if a in variants and b in variants]
    return list(dict.fromkeys([*pairs, *further]))


def _on_subset(measurements: Measurements, worse: str, better: str) -> Comparison:
    eval_set = TEST if measurements.has_test else draw_kind(measurements.test_from)
    subset = measurements.find(eval_set)
    estimate: Estimate = measurements.step(worse, better, subset)
    rows = str(subset) if subset.is_test else f"development rows of {subset}"
    return Comparison(
        worse,
        better,
        rows,
        estimate.mean,
        estimate.interval,
        estimate.p,
        NAN,
        estimate.unit,
        estimate.runs,
        estimate.obstacle,
    )


def _over_folds(
    measurements: Measurements, worse: str, better: str, folds: Sequence[str]
) -> Comparison:
    steps = [measurements.step(worse, better, EvalSubset(fold)) for fold in folds]
    rows = f"{len(folds)} folds"
    runs = tuple(run for step in steps for run in step.runs)
    means = np.array([step.mean for step in steps])
    if not np.isfinite(means).all():
        reason = "not every fold has both"
        return Comparison(worse, better, rows, NAN, NO_INTERVAL, NAN, NAN, "", runs, reason)
    mean, interval, p = corrected_interval(means)
    return Comparison(worse, better, rows, mean, interval, p, NAN, "folds", runs)


def _with_holm(comparisons: Sequence[Comparison]) -> list[Comparison]:
    tested = [comparison for comparison in comparisons if np.isfinite(comparison.p)]
    if not tested:
        return list(comparisons)
    adjusted = iter(multipletests([c.p for c in tested], method="holm")[1].tolist())
    return [replace(c, p_holm=next(adjusted)) if np.isfinite(c.p) else c for c in comparisons]
