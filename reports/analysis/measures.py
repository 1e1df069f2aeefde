"""Compute the Pearson of every run on every subset of rows, and the uncertainty of contrasts.

Test columns come from the models of one split, as in `ablation.runs.comparison`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from ablation.core.counting import counted
from ablation.data.languages import ordered
from ablation.data.splits import LEAVE_ONE_OUT, by_kind, draw_kind
from ablation.runs.comparison import largest_grid, test_split, test_splits
from ablation.training.records import RunRecord
from reports.analysis import inference
from reports.analysis.collect import Experiment, StoredRun, read_records
from reports.analysis.estimates import (
    MISSING,
    NAN,
    Estimate,
    ScoredRows,
    with_uncertainty_on,
    with_uncertainty_over,
)
from reports.analysis.groups import Group
from reports.analysis.predictions import AlignedPredictions, read_aligned
from reports.analysis.scope import (
    DEFAULT_SCOPE,
    LEAST_LANGUAGES,
    Scope,
)
from reports.analysis.subsets import TEST, EvalSubset
from reports.analysis.variance_components import (
    LANGUAGES_SPLITS_AND_SEEDS,
    SEEDS_AND_LANGUAGES,
    analyse,
)


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
        of_test = [EvalSubset(TEST, x, tested) for x in self._test_parts]
        return [*of_dev, *of_test]

    @property
    def single_columns(self) -> list[EvalSubset]:
        """The columns with every split by itself, the test rows with the models of `test_from`."""
        of_test = [EvalSubset(TEST, languages) for languages in self._test_parts]
        return [*(EvalSubset(split) for split in self.group.splits), *of_test]

    @cached_property
    def _test_parts(self) -> tuple[str, ...]:
        """Seen, unseen and all test rows; all alone if their languages are only seen, or unseen."""
        tests = [sample for sample in self.samples if sample.eval_set == TEST]
        parts = [any(sample.members(part) for sample in tests) for part in ("seen", "unseen")]
        return ("all",) if tests and not all(parts) else ("seen", "unseen", "all")

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
    def developed(self) -> EvalSubset:
        """Development rows of `test_from`, or of all splits that each leave a group out."""
        kind = draw_kind(self.test_from)
        return self.find(kind) if kind == LEAVE_ONE_OUT else EvalSubset(self.test_from)

    @property
    def analysed(self) -> EvalSubset:
        """The rows for errors and costs: the test rows, without labels there `developed`."""
        return EvalSubset(TEST) if self.has_test else self.developed

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
        # Groups that are held out in turn are the splits of a column.
        are_random = (
            self.scope.languages == "random" and draw_kind(subset.eval_set) != LEAVE_ONE_OUT
        )
        if are_random and len(weights) > 1:
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
        few = (
            f"{counted(len(languages), 'language')}, an interval for others takes {LEAST_LANGUAGES}"
        )
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

        The interval is for other rows of these languages and other seeds: languages are fixed, but
        for those that are held out in turn.
        """
        languages = self.languages_of(subset)
        if not languages:
            return MISSING
        if draw_kind(subset.eval_set) == LEAVE_ONE_OUT:
            return self.cell(variant, replace(subset, languages="all"))
        estimate = self._mean({variant: 1.0}, replace(subset, languages="all"), languages)
        cells = [self.cell(variant, replace(subset, languages=x)) for x in languages]
        obstacles = [cell.obstacle for cell in cells if cell.obstacle]
        if not obstacles or not estimate.exists:
            return estimate
        return replace(estimate, obstacle=obstacles[0], uncertainty=None, of_rows=None)


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
        samples += read_aligned(
            experiment, runs, split, lambda run, _: records[run.run_id].unseen_in_training
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
    test = read_aligned(
        experiment, tested, TEST, lambda _, all_: [x for x in all_ if x not in labelled]
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
