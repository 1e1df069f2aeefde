"""Estimate a mean over seeds or a contrast of such means, with its uncertainty."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from ablation.core.counting import counted
from reports.analysis import inference
from reports.analysis.predictions import AlignedPredictions
from reports.analysis.replication import Evidence
from reports.analysis.scope import LEAST_SPLITS, SplitsAre
from reports.analysis.subsets import EvalSubset
from reports.analysis.variance_components import (
    SEEDS_AND_ROWS,
    SPLITS_SEEDS_AND_ROWS,
    Design,
    Uncertainty,
    analyse,
    contrast_interval,
    correlation_interval,
    too_few_rows,
)

NAN: Final = float("nan")
#: With one seed, what is said holds for other rows only.
_ROWS_ONLY: Final = Design(("seeds",), frozenset({"rows"}))
_ROWS_OVER_SPLITS: Final = Design(("splits", "seeds"), frozenset({"rows"}))
_FIXED_SPLITS: Final = Design(("splits", "seeds"), frozenset({"rows", "seeds"}))


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, or a contrast of such means, with its uncertainty.

    Scores and their differences are Pearson correlations (not times 100). NaN and no interval stand
    where the runs can't tell.

    Attributes:
        mean, sd: Over seeds; the sd with n - 1.
        seeds: Seeds that all the runs share.
        per_seed: (seeds,), the value with each.
        rows: Distinct rows that it was scored on.
        labels: Distinct labels among them.
        weights: Of the contrast; (1,) for a score.
        uncertainty: Over rows and seeds, over rows alone for one seed; None if there is none.
        of_rows: Over rows alone, with these models; None if there is none.
        obstacle: Why there is no interval; empty if there is one.
        runs: Ids of the runs behind it.
        splits: The splits that it averages over; empty for one.
        by_split: (splits, seeds), the value with each; `per_seed` is their mean.
        splits_random: Whether the interval is for other splits, too.
        languages_random: Whether it is for other languages and not for other rows of these.
        rows_of_one: Distinct rows of one of its splits; `rows` if None.
    """

    mean: float = NAN
    sd: float = NAN
    seeds: tuple[int, ...] = ()
    per_seed: np.ndarray = field(default_factory=lambda: np.empty(0))
    rows: int = 0
    labels: int = 0
    weights: tuple[float, ...] = (1.0, -1.0)
    uncertainty: Uncertainty | None = None
    of_rows: Uncertainty | None = None
    obstacle: str = ""
    runs: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    by_split: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    splits_random: bool = False
    languages_random: bool = False
    rows_of_one: int | None = None

    @property
    def evidence(self) -> Evidence | None:
        """The evidence that a verdict rests on; None without any uncertainty."""
        if self.uncertainty is None:
            return None
        return Evidence(
            self.mean,
            self.uncertainty,
            len(self.seeds),
            self.rows,
            self.labels,
            max(1, len(self.splits)),
            self.weights,
            self.rows_of_one,
        )

    @property
    def interval(self) -> inference.Interval:
        """95% over rows and seeds (and splits, if random), or over rows alone for one seed."""
        return self._interval(self.uncertainty)

    @property
    def over_rows(self) -> inference.Interval:
        """95% for other rows, with these models."""
        return self._interval(self.of_rows)

    @property
    def over_seeds(self) -> inference.Interval:
        """95% for other trainings on these rows, Student's; none below two seeds."""
        half_width = inference.seed_interval(self.per_seed).half_width
        return self._bounded(half_width) if len(self.seeds) > 1 else inference.NO_INTERVAL

    @property
    def p(self) -> float:
        """The two-sided p of "it is 0" that belongs to `interval`."""
        return NAN if self.uncertainty is None else float(self.uncertainty.p(self.mean))

    @property
    def p_rows(self) -> float:
        """The two-sided p of "it is 0" that belongs to `over_rows`."""
        return NAN if self.of_rows is None else float(self.of_rows.p(self.mean))

    @property
    def detectable_over_rows(self) -> float:
        """The smallest difference that such a sample of rows shows with 80% power."""
        if self.of_rows is None:
            return NAN
        return inference.detectable_over_rows(float(self.of_rows.standard_error))

    @property
    def detectable_over_seeds(self) -> float:
        """The smallest difference that as many seeds show with 80% power; NaN below two."""
        return inference.detectable_over_seeds(self.per_seed)

    @property
    def unit(self) -> str:
        """The factors that `interval` ranges over, in words; empty without one."""
        if not np.isfinite(self.interval.low):
            return ""
        if len(self.seeds) < 2:
            return "rows"
        first = "languages" if self.languages_random else "rows"
        return f"{first}, seeds and splits" if self.splits_random else f"{first} and seeds"

    @property
    def exists(self) -> bool:
        return bool(np.isfinite(self.mean))

    def _interval(self, uncertainty: Uncertainty | None) -> inference.Interval:
        if uncertainty is None:
            return inference.NO_INTERVAL
        return self._bounded(float(uncertainty.half_width()))

    def _bounded(self, half_width: float) -> inference.Interval:
        if self.weights == (1.0,):
            return correlation_interval(self.mean, half_width)
        return contrast_interval(self.mean, half_width, self.weights)


MISSING: Final = Estimate()


@dataclass(frozen=True)
class ScoredRows:
    """Rows that an estimate rests on: how far each moves it.

    Attributes:
        influence: (..., rows), of the rows on the value with each seed.
        row: (rows,), their numbers.
        label: (rows,).
        language: (rows,).
    """

    influence: np.ndarray
    row: np.ndarray
    label: np.ndarray
    language: np.ndarray


def with_uncertainty(
    estimate: Estimate, influence: np.ndarray, sample: AlignedPredictions, subset: EvalSubset
) -> Estimate:
    """Add the uncertainty to an estimate of one split.

    Args:
        estimate: The estimate.
        influence: (seeds, rows), of the subset's rows on its value with each seed.
        sample: The predictions behind it.
        subset: The rows that it is about.
    """
    mask = sample.rows_of(subset.languages)
    scored = ScoredRows(influence, sample.row[mask], sample.label[mask], sample.strata[mask])
    return with_uncertainty_on(estimate, scored)


def with_uncertainty_on(estimate: Estimate, scored: ScoredRows) -> Estimate:
    """Add the uncertainty over rows, and over seeds if there are several, to an estimate."""
    estimate = _with_rows(estimate, scored)
    if estimate.obstacle:
        return estimate
    strata = _without_single_rows(scored.language)
    of_rows = analyse(_ROWS_ONLY, estimate.per_seed, scored.influence, strata=strata)
    both = of_rows
    if len(estimate.seeds) > 1:
        both = analyse(SEEDS_AND_ROWS, estimate.per_seed, scored.influence, strata=strata)
    return replace(estimate, uncertainty=both, of_rows=of_rows)


def _with_rows(estimate: Estimate, scored: ScoredRows) -> Estimate:
    """Add the numbers of rows and labels, and why they give no interval."""
    label = scored.label
    estimate = replace(estimate, rows=len(label), labels=len(np.unique(label)))
    obstacle = too_few_rows(label)
    if obstacle is None and not np.isfinite(scored.influence).all():
        obstacle = "a single row decides the correlation"
    return replace(estimate, obstacle=obstacle) if obstacle else estimate


def with_uncertainty_over(
    estimate: Estimate, values: np.ndarray, scored: Sequence[ScoredRows], splits_are: SplitsAre
) -> Estimate:
    """Add the uncertainty of a mean over splits, whose rows may be others.

    Args:
        estimate: The estimate.
        values: (splits, seeds).
        scored: The rows of each split.
        splits_are: Random or fixed.
    """
    each = [_with_rows(estimate, rows) for rows in scored]
    together = join_rows(scored)
    estimate = _with_rows(estimate, together)
    rows_of_one = round(float(np.mean([one.rows for one in each])))
    estimate = replace(estimate, rows_of_one=rows_of_one)
    obstacle = next((one.obstacle for one in each if one.obstacle), estimate.obstacle)
    few = len(values) < LEAST_SPLITS
    if splits_are == "random" and few:
        obstacle = (
            f"{counted(len(values), 'split')}, an interval for others takes at least {LEAST_SPLITS}"
        )
    if obstacle:
        return replace(estimate, obstacle=obstacle)
    strata, influence = _without_single_rows(together.language), together.influence
    of_rows = analyse(_ROWS_OVER_SPLITS, values, influence, strata=strata)
    if len(estimate.seeds) < 2:
        return replace(estimate, uncertainty=of_rows, of_rows=of_rows)
    are_random = splits_are != "fixed" and not few
    design = SPLITS_SEEDS_AND_ROWS if are_random else _FIXED_SPLITS
    uncertainty = analyse(design, values, influence, strata=strata)
    return replace(estimate, uncertainty=uncertainty, of_rows=of_rows, splits_random=are_random)


def join_rows(scored: Sequence[ScoredRows]) -> ScoredRows:
    """Return the rows of several splits together: a row's influence on a split without it is 0.

    The influence (splits, seeds, rows) is on each split's value; it is centred within each split's
    languages, which keep their numbers of rows, and scaled to the number of all rows.
    """
    row, first = np.unique(np.concatenate([one.row for one in scored]), return_index=True)
    influence = np.zeros((len(scored), scored[0].influence.shape[0], len(row)))
    for i, one in enumerate(scored):
        centred = one.influence.copy()
        for language in np.unique(one.language):
            members = one.language == language
            if members.sum() > 1:
                centred[:, members] -= centred[:, members].mean(axis=1, keepdims=True)
        influence[i][:, np.searchsorted(row, one.row)] = centred * len(row) / len(one.row)
    label, language = (
        np.concatenate([getattr(one, name) for one in scored])[first]
        for name in ("label", "language")
    )
    return ScoredRows(influence, row, label, language)


def _without_single_rows(strata: np.ndarray) -> np.ndarray:
    """Merge strata (rows,) of a single row, which have no variance, with the largest one."""
    names, counts = np.unique(strata, return_counts=True)
    return np.where(np.isin(strata, names[counts == 1]), names[np.argmax(counts)], strata)
