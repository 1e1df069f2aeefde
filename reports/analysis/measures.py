"""Compute the Pearson of every run on every subset of rows, and the uncertainty of contrasts.

An *eval set* is the development rows of a split, or the test rows; a subset of it is all of its
languages, those seen in training, the unseen ones, or a single one. Test columns come from the
models of one split, as in `ablation.runs.comparison`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, Literal

import numpy as np

from ablation.data.languages import ordered
from ablation.data.splits import by_kind, draw_kind
from ablation.runs.comparison import column_name, largest_grid, test_split, test_splits
from ablation.tracking import names
from ablation.training.records import RunRecord
from reports.analysis import inference
from reports.analysis.collect import Experiment, StoredRun, read_columns, read_records
from reports.analysis.groups import Group
from reports.analysis.replication import Evidence
from reports.analysis.variance_components import (
    LANGUAGES_SPLITS_AND_SEEDS,
    SEEDS_AND_LANGUAGES,
    SEEDS_AND_ROWS,
    SPLITS_SEEDS_AND_ROWS,
    Design,
    Uncertainty,
    analyse,
    contrast_interval,
    correlation_interval,
    pearson_influence,
    too_few_rows,
)

TEST: Final = "test"
NAN: Final = float("nan")
#: Runs whose rows' influences are computed together.
_RUNS_AT_ONCE: Final = 16
#: With one seed, what is said holds for other rows only.
_ROWS_ONLY: Final = Design(("seeds",), frozenset({"rows"}))
_ROWS_OVER_SPLITS: Final = Design(("splits", "seeds"), frozenset({"rows"}))
_FIXED_SPLITS: Final = Design(("splits", "seeds"), frozenset({"rows", "seeds"}))
#: Fewer splits say next to nothing about others.
LEAST_SPLITS: Final = 3
#: With fewer languages, an interval about languages in general is as wide as the scale.
LEAST_LANGUAGES: Final = 4
#: Splits as a sample of others (random), as those that they are (fixed), or random from
#: `LEAST_SPLITS` on.
SplitsAre = Literal["auto", "random", "fixed"]
#: Languages alike: differences are then means over languages, each of which counts alike.
LanguagesAre = Literal["fixed", "random"]


@dataclass(frozen=True)
class Scope:
    """The factors that a report's conclusions generalise to, beside other rows and other seeds."""

    splits: SplitsAre = "auto"
    languages: LanguagesAre = "fixed"


DEFAULT_SCOPE: Final = Scope()


@dataclass(frozen=True, order=True)
class EvalSubset:
    """Rows to score on.

    Attributes:
        eval_set: A split's name for its development rows, the kind of several splits, or `test`.
        languages: `all`, `seen`, `unseen`, or one language's code.
        splits: The splits to average over, whose development rows, or whose models on test rows,
            are scored; empty for one split.
    """

    eval_set: str
    languages: str = "all"
    splits: tuple[str, ...] = ()

    @property
    def is_test(self) -> bool:
        return self.eval_set == TEST

    def __str__(self) -> str:
        name = self.eval_set
        if name.startswith("dev"):
            name = f"D{name[1:]}"
        if self.splits and not self.is_test:
            name = column_name(name, self.splits)
        if self.is_test and self.languages == "all":
            return "test overall"
        return name if self.languages == "all" else f"{name} {self.languages}"


@dataclass(frozen=True)
class AlignedPredictions:
    """Predictions of several runs on the same rows of one eval set.

    Attributes:
        eval_set: See `EvalSubset`.
        runs: Run ids, in the order of the columns of `predictions`.
        row, label, language: (rows,).
        predictions: (rows, runs).
        unseen: Languages without training rows.
        weight: (rows,), the rows' weights; None if all weigh alike.
    """

    eval_set: str
    runs: tuple[str, ...]
    row: np.ndarray
    label: np.ndarray
    language: np.ndarray
    predictions: np.ndarray
    unseen: tuple[str, ...]
    weight: np.ndarray | None = None
    _masks: dict[str, np.ndarray] = field(default_factory=dict, compare=False)
    _influences: dict[str, np.ndarray] = field(default_factory=dict, compare=False)

    @cached_property
    def languages(self) -> list[str]:
        return ordered(set(self.language.tolist()))

    @cached_property
    def column(self) -> dict[str, int]:
        """The column of `predictions` by run id."""
        return {run: i for i, run in enumerate(self.runs)}

    @cached_property
    def strata(self) -> np.ndarray:
        """The index of each row's language in `languages`, (rows,)."""
        number = {language: i for i, language in enumerate(self.languages)}
        return np.array([number[language] for language in self.language], dtype=np.int64)

    @property
    def subsets(self) -> list[str]:
        """Names of the subsets that have rows; of development rows, seen and unseen only if both.

        Test columns stand for seen and unseen languages, so either is scored on its own.
        """
        pooled = [name for name in ("seen", "unseen") if self.members(name)]
        if self.eval_set != TEST and len(pooled) < 2:
            pooled = []
        # A single group is all there is.
        return ["all", *pooled, *(self.languages if len(self.languages) > 1 else [])]

    def members(self, subset: str) -> list[str]:
        """Return a subset's languages; none if it has no rows."""
        if subset == "all":
            return self.languages
        if subset in ("seen", "unseen"):
            return [x for x in self.languages if (x in self.unseen) == (subset == "unseen")]
        return [subset] if subset in self.languages else []

    def strata_of(self, subset: str) -> list[int]:
        """Return a subset's languages as indices into `languages`."""
        return [self.languages.index(language) for language in self.members(subset)]

    def rows_of(self, subset: str) -> np.ndarray:
        """Return a mask (rows,) of a subset's rows."""
        if subset not in self._masks:
            self._masks[subset] = np.isin(self.strata, self.strata_of(subset))
        return self._masks[subset]

    def influences(self, subset: str) -> np.ndarray:
        """Return the influence (runs, rows) of the subset's rows on each run's Pearson."""
        if subset not in self._influences:
            mask = self.rows_of(subset)
            predictions = np.ascontiguousarray(self.predictions[mask].T)
            weight = None if self.weight is None else self.weight[mask]
            # A few runs at a time stay in the processor's cache.
            parts = [
                predictions[i : i + _RUNS_AT_ONCE]
                for i in range(0, len(predictions), _RUNS_AT_ONCE)
            ]
            influence = [pearson_influence(part, self.label[mask], weight)[1] for part in parts]
            self._influences[subset] = np.concatenate(influence)
        return self._influences[subset]


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
class Measurements:
    """Every run's Pearson on every subset.

    Attributes:
        group: The runs.
        records: Their typed records, by run id.
        samples: Their predictions, aligned by rows.
        test_from: The split whose models give the test columns.
        values: Pearson by run id and subset; NaN where it does not exist.
        scope: Whether several splits of a kind, and languages, are random or fixed.
    """

    group: Group
    records: Mapping[str, RunRecord]
    samples: tuple[AlignedPredictions, ...]
    test_from: str
    values: Mapping[tuple[str, EvalSubset], float]
    scope: Scope = DEFAULT_SCOPE
    _estimates: dict[tuple[object, ...], Estimate] = field(default_factory=dict, compare=False)

    @cached_property
    def subsets(self) -> list[EvalSubset]:
        """Subsets with a Pearson of some run: splits first, in order, then the test rows."""
        known = {subset for (_, subset), value in self.values.items() if np.isfinite(value)}
        eval_sets = [*self.group.splits, TEST]
        pooled = ["all", "seen", "unseen"]
        languages = ordered({subset.languages for subset in known} - set(pooled))
        rank = {name: i for i, name in enumerate([*pooled, *languages])}
        return sorted(known, key=lambda s: (eval_sets.index(s.eval_set), rank[s.languages]))

    @property
    def columns(self) -> list[EvalSubset]:
        """Columns of Table 3, scored or not: each split, then test seen, unseen and overall.

        Several draws of a split, or pairs of Dev2, are one column.
        """
        of_dev = [
            EvalSubset(kind, splits=splits) if len(splits) > 1 else EvalSubset(splits[0])
            for kind, splits in by_kind(self.group.splits).items()
        ]
        tested = self.test_splits if len(self.test_splits) > 1 else ()
        of_test = [EvalSubset(TEST, x, tested) for x in ("seen", "unseen", "all")]
        return [*of_dev, *of_test]

    @property
    def single_columns(self) -> list[EvalSubset]:
        """The columns with every split by itself, the test rows with the models of `test_from`."""
        of_test = [EvalSubset(TEST, languages) for languages in ("seen", "unseen", "all")]
        return [*(EvalSubset(split) for split in self.group.splits), *of_test]

    @cached_property
    def test_splits(self) -> tuple[str, ...]:
        """The splits over whose models the test columns average."""
        tested = {run for sample in self.samples if sample.eval_set == TEST for run in sample.runs}
        splits = {run.split for run in self.group.runs if run.run_id in tested}
        return tuple(split for split in self.group.splits if split in splits) or (self.test_from,)

    @property
    def tested_models(self) -> str:
        """The split, or the kind and number of splits, whose models the test columns are of."""
        kind = draw_kind(self.test_from)
        splits = self.test_splits if len(self.test_splits) > 1 else ()
        return str(EvalSubset(kind, splits=splits) if splits else EvalSubset(self.test_from))

    def find(self, eval_set: str, languages: str = "all") -> EvalSubset:
        """Return the column of a kind of split ("dev2") or of the test rows, on these languages."""
        columns = (c for c in self.columns if draw_kind(c.eval_set) == eval_set)
        column = next(columns, EvalSubset(eval_set))
        return replace(column, languages=languages)

    def is_scored(self, subset: EvalSubset) -> bool:
        """Tell if any run has a Pearson on the subset."""
        sets = [subset.eval_set] if subset.is_test or not subset.splits else subset.splits
        return any(EvalSubset(s, subset.languages) in self.subsets for s in sets)

    @property
    def has_test(self) -> bool:
        return any(subset.is_test for subset in self.subsets)

    @cached_property
    def analysed_set(self) -> str:
        """The eval set for languages and errors: test, without labels there `test_from`."""
        return TEST if self.has_test else self.test_from

    def languages_of(self, column: EvalSubset) -> list[str]:
        """Return the single languages that are scored on a column."""
        pooled = ("all", "seen", "unseen")
        sets = column.splits if column.splits and not column.is_test else (column.eval_set,)
        return ordered(
            {
                subset.languages
                for subset in self.subsets
                if subset.eval_set in sets and subset.languages not in pooled
            }
        )

    def runs(self, variant: str, eval_set: str) -> dict[int, StoredRun]:
        """Return the runs behind a cell, by seed."""
        split = self.test_from if eval_set == TEST else eval_set
        return self._runs.get((variant, split), {})

    def all_runs(self, variant: str, subset: EvalSubset) -> list[StoredRun]:
        """Return the runs of a variant that a subset is about, over all its splits and seeds."""
        splits = subset.splits or (self.test_from if subset.is_test else subset.eval_set,)
        return [run for s in splits for run in self._runs.get((variant, s), {}).values()]

    @cached_property
    def _runs(self) -> dict[tuple[str, str], dict[int, StoredRun]]:
        """Runs by variant and split, then by seed."""
        by_cell: dict[tuple[str, str], dict[int, StoredRun]] = {}
        for run in self.group.runs:
            by_cell.setdefault((run.variant, run.split), {})[run.seed] = run
        return by_cell

    @cached_property
    def scores(self) -> dict[EvalSubset, dict[str, float]]:
        """Pearson by subset, then by run id."""
        scores: dict[EvalSubset, dict[str, float]] = {}
        for (run, subset), value in self.values.items():
            scores.setdefault(subset, {})[run] = value
        return scores

    @cached_property
    def sample_of(self) -> dict[tuple[str, str], AlignedPredictions]:
        """The sample that a run's predictions on an eval set are in, by run id and eval set."""
        return {(run, sample.eval_set): sample for sample in self.samples for run in sample.runs}

    def cell(self, variant: str, subset: EvalSubset) -> Estimate:
        """Return a variant's mean over its seeds."""
        return self.contrast({variant: 1.0}, subset)

    def step(self, worse: str, better: str, subset: EvalSubset) -> Estimate:
        """Return `better` minus `worse`, paired by seed and row."""
        return self.contrast({better: 1.0, worse: -1.0}, subset)

    def contrast(self, weights: Mapping[str, float], subset: EvalSubset) -> Estimate:
        """Return the weighted sum of variants' Pearsons over the seeds that all of them have."""
        key = (tuple(sorted(weights.items())), subset)
        if key not in self._estimates:
            self._estimates[key] = self._contrast(weights, subset)
        return self._estimates[key]

    def _contrast(self, weights: Mapping[str, float], subset: EvalSubset) -> Estimate:
        if self.scope.languages == "random" and len(weights) > 1:
            column = replace(subset, languages="all")
            languages = self._members(column, subset.languages)
            if len(languages) > 1:
                return self._over_languages(weights, column, languages)
        return self._mean(weights, subset, (subset.languages,))

    def _members(self, column: EvalSubset, languages: str) -> list[str]:
        """Return the single languages of a column's rows that a subset's name stands for."""
        sets = column.splits if column.splits and not column.is_test else (column.eval_set,)
        members = {x for s in self.samples if s.eval_set in sets for x in s.members(languages)}
        return [x for x in self.languages_of(column) if x in members]

    def _over_languages(
        self, weights: Mapping[str, float], column: EvalSubset, languages: Sequence[str]
    ) -> Estimate:
        """Return a contrast's mean over languages, which stand for others."""
        estimate = self._mean(weights, column, languages)
        if estimate.uncertainty is None or len(estimate.seeds) < 2:
            return estimate
        estimate = replace(estimate, languages_random=True)
        each = [self._mean(weights, replace(column, languages=x), (x,)) for x in languages]
        few = f"{len(languages)} languages, an interval for others takes {LEAST_LANGUAGES}"
        unlike = "not every language has the same runs"
        if len(each) < LEAST_LANGUAGES or any(e.runs != estimate.runs for e in each):
            why = few if len(each) < LEAST_LANGUAGES else unlike
            return replace(estimate, obstacle=why, uncertainty=None)
        values = np.array([e.by_split for e in each])
        if estimate.splits_random:
            uncertainty = analyse(LANGUAGES_SPLITS_AND_SEEDS, values)
        else:
            uncertainty = analyse(SEEDS_AND_LANGUAGES, values.mean(axis=1))
        return replace(estimate, uncertainty=uncertainty)

    def _mean(
        self, weights: Mapping[str, float], subset: EvalSubset, parts: Sequence[str]
    ) -> Estimate:
        """Return a weighted sum of variants' Pearsons, each the mean over `parts` of the rows."""
        splits = subset.splits or (self.test_from if subset.is_test else subset.eval_set,)
        runs_of = {split: self._complete(weights, subset, split, parts) for split in splits}
        splits, seeds = largest_grid(runs_of)
        if not seeds:
            return MISSING
        terms = [_Terms(self, _on(subset, split), runs_of[split], seeds, parts) for split in splits]
        values = np.array([term.values(weights) for term in terms])
        per_seed = values.mean(axis=0)
        estimate = Estimate(
            mean=float(values.mean()),
            sd=float(values.std(ddof=1)) if values.size > 1 else NAN,
            seeds=seeds,
            per_seed=per_seed,
            weights=tuple(weights.values()),
            runs=tuple(run for term in terms for run in term.runs),
            splits=splits if len(splits) > 1 else (),
            by_split=values,
        )
        # Runs on other rows (mixed data) are not paired: nothing is said over rows.
        if any(term.sample is None for term in terms) or (len(splits) > 1 and self.group.mixed):
            return replace(estimate, obstacle="the runs predicted different rows")
        scored = [term.scored(weights) for term in terms]
        if len(splits) == 1:
            return with_uncertainty_on(estimate, scored[0])
        return with_uncertainty_over(estimate, values, scored, self.scope.splits)

    def _complete(
        self, weights: Mapping[str, float], subset: EvalSubset, split: str, parts: Sequence[str]
    ) -> dict[int, dict[str, str]]:
        """Return run ids by seed and variant of a split, of seeds that have every Pearson."""
        by_variant = {variant: self._runs.get((variant, split), {}) for variant in weights}
        shared = sorted(set.intersection(*(set(runs) for runs in by_variant.values())))
        on = _on(subset, split)
        scores = [self.scores.get(replace(on, languages=x), {}) for x in parts]
        return {
            seed: {variant: runs[seed].run_id for variant, runs in by_variant.items()}
            for seed in shared
            if all(
                math.isfinite(score.get(runs[seed].run_id, NAN))
                for runs in by_variant.values()
                for score in scores
            )
        }

    def influence(self, run: str, subset: EvalSubset) -> np.ndarray:
        """Return the influence (rows,) of the subset's rows on a run's Pearson."""
        sample = self.sample_of[run, subset.eval_set]
        return np.asarray(sample.influences(subset.languages)[sample.column[run]])

    def language_mean(self, variant: str, subset: EvalSubset) -> Estimate:
        """Return a variant's mean over the single languages, each of which counts alike.

        The interval is for other rows of these languages and other seeds: languages are fixed.
        """
        languages = self.languages_of(subset)
        if not languages:
            return MISSING
        estimate = self._mean({variant: 1.0}, replace(subset, languages="all"), languages)
        cells = [self.cell(variant, replace(subset, languages=x)) for x in languages]
        obstacles = [cell.obstacle for cell in cells if cell.obstacle]
        if not obstacles or not estimate.exists:
            return estimate
        return replace(estimate, obstacle=obstacles[0], uncertainty=None, of_rows=None)


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


@dataclass(frozen=True)
class _Terms:
    """The runs of one split behind an estimate: ids by seed and variant, on `parts` of the rows."""

    measurements: Measurements
    subset: EvalSubset
    run_of: Mapping[int, Mapping[str, str]]
    seeds: Sequence[int]
    parts: Sequence[str]

    @property
    def runs(self) -> tuple[str, ...]:
        return tuple(run for seed in self.seeds for run in self.run_of[seed].values())

    @property
    def sample(self) -> AlignedPredictions | None:
        """The sample that all the runs are in; None if they predicted different rows."""
        sample_of = self.measurements.sample_of
        samples = {id(s): s for s in (sample_of[r, self.subset.eval_set] for r in self.runs)}
        return next(iter(samples.values())) if len(samples) == 1 else None

    def values(self, weights: Mapping[str, float]) -> np.ndarray:
        """Return the weighted sum with each seed, (seeds,)."""
        scores = [self.measurements.scores[replace(self.subset, languages=x)] for x in self.parts]
        total = np.zeros(len(self.seeds))
        for variant, weight in weights.items():
            runs = [self.run_of[seed][variant] for seed in self.seeds]
            total += weight * np.mean([[score[run] for score in scores] for run in runs], axis=1)
        return total

    def scored(self, weights: Mapping[str, float]) -> ScoredRows:
        """Return the influence of each row on the weighted sum."""
        sample = self.sample
        if sample is None:
            raise ValueError("The runs predicted different rows.")
        masks = [sample.rows_of(part) for part in self.parts]
        used = np.logical_or.reduce(masks)
        influence = np.zeros((len(self.seeds), int(used.sum())))
        for part, mask in zip(self.parts, masks, strict=True):
            scale = used.sum() / (mask.sum() * len(self.parts))
            influences = sample.influences(part)
            for variant, weight in weights.items():
                columns = [sample.column[self.run_of[seed][variant]] for seed in self.seeds]
                with np.errstate(invalid="ignore"):  # of a score that does not exist
                    weighted = scale * weight * influences[columns]
                    if len(self.parts) == 1:
                        influence += weighted
                    else:
                        influence[:, mask[used]] += weighted
        return ScoredRows(influence, sample.row[used], sample.label[used], sample.strata[used])


def _on(subset: EvalSubset, split: str) -> EvalSubset:
    """Return the subset with the models of one split."""
    return EvalSubset(subset.eval_set if subset.is_test else split, subset.languages)


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
        obstacle = f"{len(values)} splits, an interval for others takes at least {LEAST_SPLITS}"
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


def compute_measurements(
    experiment: Experiment, group: Group, scope: Scope = DEFAULT_SCOPE
) -> Measurements:
    """Read the group's predictions and compute everything from them.

    Args:
        experiment: The experiment.
        group: Its runs to measure.
        scope: Whether several splits of a kind, and languages, are random or fixed.

    Raises:
        RunError: An artifact is lost.
    """
    records = read_records(experiment, group.runs)
    test_from = test_split(group.splits)
    samples: list[AlignedPredictions] = []
    for split in group.splits:
        runs = [run for run in group.runs if run.split == split]
        samples += _align(
            _Predicted(experiment, runs, split),
            lambda run, _: records[run.run_id].unseen_in_training,
        )
    values = {key: value for sample in samples for key, value in _pearsons(sample)}
    on_dev = Measurements(group, records, tuple(samples), test_from, values, scope)
    return with_test_rows(experiment, on_dev, test_from, test_splits(group.splits))


def with_test_rows(
    experiment: Experiment,
    measurements: Measurements,
    test_from: str,
    splits: Sequence[str] = (),
) -> Measurements:
    """Return the measurements with the models of another split in the test columns.

    Args:
        experiment: The experiment.
        measurements: Its measurements on development rows.
        test_from: The split.
        splits: All splits whose models are scored on test rows; `test_from` alone if empty.

    Raises:
        RunError: An artifact is lost.
    """
    dev = [sample for sample in measurements.samples if sample.eval_set != TEST]
    # Development rows are drawn from every language that has training rows, held out or not.
    # Those of a corpus's own development file may have none.
    labelled = {
        language
        for sample in dev
        for language in sample.languages
        if sample.eval_set != "given" or language not in sample.unseen
    }
    wanted = splits or (test_from,)
    tested = [run for run in measurements.group.runs if run.split in wanted]
    test = _align(
        _Predicted(experiment, tested, TEST), lambda _, all_: [x for x in all_ if x not in labelled]
    )
    values = {key: v for key, v in measurements.values.items() if key[1].eval_set != TEST}
    values |= {key: value for sample in test for key, value in _pearsons(sample)}
    group, records = measurements.group, measurements.records
    scope = measurements.scope
    return Measurements(group, records, (*dev, *test), test_from, values, scope)


def _pearsons(sample: AlignedPredictions) -> Iterator[tuple[tuple[str, EvalSubset], float]]:
    """Yield the Pearson of each of the sample's runs on each of its subsets."""
    for name in sample.subsets:
        subset, rows = EvalSubset(sample.eval_set, name), sample.rows_of(name)
        weight = None if sample.weight is None else sample.weight[rows]
        pearsons = inference.pearsons(sample.predictions[rows], sample.label[rows], weight)
        for run, value in zip(sample.runs, pearsons, strict=True):
            yield (run, subset), float(value)


@dataclass(frozen=True)
class _Predicted:
    """Runs of an experiment and the eval set whose predictions are read."""

    experiment: Experiment
    runs: Sequence[StoredRun]
    eval_set: str

    @property
    def path(self) -> str:
        return names.TEST_PREDICTIONS if self.eval_set == TEST else names.DEV_PREDICTIONS

    def columns(self, *wanted: str) -> dict[str, dict[str, np.ndarray]]:
        return read_columns(self.experiment, self.runs, self.path, wanted)

    def languages_and_weights(self, run: StoredRun) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the rows' languages (rows,) as a run has them, and their weights if any."""
        frame = self.experiment.source.read_frame(run.run_id, self.path)
        language = frame["language"].to_numpy().astype(object)
        return language, frame["weight"].to_numpy(np.float64) if "weight" in frame else None


def _align(
    predicted: _Predicted, unseen_by: Callable[[StoredRun, Sequence[str]], Sequence[str]]
) -> list[AlignedPredictions]:
    """Join the runs' labelled predictions; runs that predicted other rows make another sample."""
    orders, tables = {}, predicted.columns("row", "label", "prediction")
    alike: dict[tuple[bytes, ...], list[StoredRun]] = {}
    for run in (run for run in predicted.runs if run.run_id in tables):
        order = orders[run.run_id] = _labelled(tables[run.run_id])
        if len(order):
            # Rows of the same data have the same languages: one run's are read.
            row, label = (tables[run.run_id][name][order] for name in ("row", "label"))
            digest = run.part("data").encode()
            key = (row.astype(np.int64).tobytes(), label.astype(np.float64).tobytes(), digest)
            alike.setdefault(key, []).append(run)
    samples = []
    for members in alike.values():
        first, order = tables[members[0].run_id], orders[members[0].run_id]
        language, weight = predicted.languages_and_weights(members[0])
        language, weight = language[order], None if weight is None else weight[order]
        predictions = [tables[run.run_id]["prediction"][orders[run.run_id]] for run in members]
        samples.append(
            AlignedPredictions(
                predicted.eval_set,
                tuple(run.run_id for run in members),
                first["row"][order],
                first["label"][order].astype(np.float64),
                language,
                np.column_stack(predictions).astype(np.float64),
                tuple(unseen_by(members[0], ordered(set(language)))),
                weight,
            )
        )
    return samples


def _labelled(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the indices of labelled rows in the order of `row`."""
    labelled = np.flatnonzero(np.isfinite(columns["label"]))
    return np.asarray(labelled[np.argsort(columns["row"][labelled], kind="stable")])
