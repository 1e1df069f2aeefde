"""Compute the Pearson of every run on every subset of rows, with paired resamples.

An *eval set* is the development rows of a split, or the test rows; a subset of it is all of its
languages, those seen in training, the unseen ones, or a single one. Test columns come from the
models of one split, as in `ablation.runs.comparison`.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
import pandas as pd

from ablation.data.languages import ordered
from ablation.runs.comparison import test_split
from ablation.tracking import names
from ablation.training.records import RunRecord
from reports.analysis import inference
from reports.analysis.collect import Experiment, StoredRun, read_records, read_tables
from reports.analysis.groups import Group

TEST: Final = "test"
NAN: Final = float("nan")
#: Models that are resampled together: bounds the memory of the sums.
_MODELS_AT_A_TIME: Final = 512


@dataclass(frozen=True, order=True)
class EvalSubset:
    """Rows to score on.

    Attributes:
        eval_set: A split's name for its development rows, or `test`.
        languages: `all`, `seen`, `unseen`, or one language's code.
    """

    eval_set: str
    languages: str = "all"

    @property
    def is_test(self) -> bool:
        return self.eval_set == TEST

    def __str__(self) -> str:
        name = self.eval_set if self.is_test else self.eval_set.replace("dev", "Dev")
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
    """

    eval_set: str
    runs: tuple[str, ...]
    row: np.ndarray
    label: np.ndarray
    language: np.ndarray
    predictions: np.ndarray
    unseen: tuple[str, ...]

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
        """Names of the subsets that have rows; seen and unseen only if both have."""
        both = ["seen", "unseen"] if self.members("seen") and self.members("unseen") else []
        return ["all", *both, *self.languages]

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
        return np.isin(self.strata, self.strata_of(subset))


_NO_COMBINED: Final = inference.Combined(inference.NO_INTERVAL, NAN, NAN)


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, or a difference of such means, with its uncertainty.

    Scores and their differences are Pearson correlations (not times 100). NaN and no interval stand
    where the runs can't tell.

    Attributes:
        mean, sd: Over seeds; the sd with n - 1.
        seeds: Seeds that all the runs share.
        per_seed: (seeds,), the value with each.
        over_rows: 95% for other rows, with these models.
        over_seeds: 95% for other trainings, on these rows.
        both: Interval, standard error and p for other rows and other trainings.
        p_rows: The p that belongs to `over_rows`.
        detectable_rows, detectable_seeds: Smallest difference shown with 80% power.
        runs: Ids of the runs behind it.
        draws: (resamples,), means on resampled rows.
    """

    mean: float = NAN
    sd: float = NAN
    seeds: tuple[int, ...] = ()
    per_seed: np.ndarray = field(default_factory=lambda: np.empty(0))
    over_rows: inference.Interval = inference.NO_INTERVAL
    over_seeds: inference.Interval = inference.NO_INTERVAL
    both: inference.Combined = _NO_COMBINED
    p_rows: float = NAN
    detectable_rows: float = NAN
    detectable_seeds: float = NAN
    runs: tuple[str, ...] = ()
    draws: np.ndarray = field(default_factory=lambda: np.empty(0))

    @property
    def interval(self) -> inference.Interval:
        """Over rows and seeds if there are seeds for that, else over rows alone."""
        return self.both.interval if np.isfinite(self.both.p) else self.over_rows

    @property
    def p(self) -> float:
        """The p that belongs to `interval`."""
        return self.both.p if np.isfinite(self.both.p) else self.p_rows

    @property
    def unit(self) -> str:
        """The units that `interval` ranges over, in words; empty without one."""
        if not self.exists or not np.isfinite(self.interval.low):
            return ""
        return "rows and seeds" if np.isfinite(self.both.p) else "rows"

    @property
    def exists(self) -> bool:
        return bool(np.isfinite(self.mean))


MISSING: Final = Estimate()


@dataclass(frozen=True)
class Measurements:
    """Every run's Pearson on every subset, with paired resamples.

    Attributes:
        group: The runs.
        records: Their typed records, by run id.
        samples: Their predictions, aligned by rows.
        test_from: The split whose models give the test columns.
        values: Pearson by run id and subset; NaN where it does not exist.
        draws: Resampled Pearsons (resamples,), by run id and subset.
    """

    group: Group
    records: Mapping[str, RunRecord]
    samples: tuple[AlignedPredictions, ...]
    test_from: str
    values: Mapping[tuple[str, EvalSubset], float]
    draws: Mapping[tuple[str, EvalSubset], np.ndarray]
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
        """Columns of Table 3, scored or not: each split, then test seen, unseen and overall."""
        return [
            *(EvalSubset(split) for split in self.group.splits),
            *(EvalSubset(TEST, languages) for languages in ("seen", "unseen", "all")),
        ]

    @property
    def has_test(self) -> bool:
        return any(subset.is_test for subset in self.subsets)

    @cached_property
    def analysed_set(self) -> str:
        """The eval set for languages and errors: test, without labels there `test_from`."""
        return TEST if self.has_test else self.test_from

    def languages_of(self, eval_set: str) -> list[str]:
        """Return the single languages that are scored on an eval set."""
        pooled = ("all", "seen", "unseen")
        return [
            subset.languages
            for subset in self.subsets
            if subset.eval_set == eval_set and subset.languages not in pooled
        ]

    def runs(self, variant: str, eval_set: str) -> dict[int, StoredRun]:
        """Return the runs behind a cell, by seed."""
        split = self.test_from if eval_set == TEST else eval_set
        return self._runs.get((variant, split), {})

    @cached_property
    def _runs(self) -> dict[tuple[str, str], dict[int, StoredRun]]:
        """Runs by variant and split, then by seed."""
        by_cell: dict[tuple[str, str], dict[int, StoredRun]] = {}
        for run in self.group.runs:
            by_cell.setdefault((run.variant, run.split), {})[run.seed] = run
        return by_cell

    @cached_property
    def _sample_of(self) -> dict[tuple[str, str], AlignedPredictions]:
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
        by_variant = {variant: self.runs(variant, subset.eval_set) for variant in weights}
        shared = sorted(set.intersection(*(set(runs) for runs in by_variant.values())))
        seeds, per_seed, ids, samples = [], [], [], []
        draws: list[np.ndarray] = []
        for seed in shared:
            terms = [(w, (by_variant[v][seed].run_id, subset)) for v, w in weights.items()]
            if not all(np.isfinite(self.values.get(key, NAN)) for _, key in terms):
                continue
            seeds.append(seed)
            per_seed.append(sum(w * self.values[key] for w, key in terms))
            draws.append(np.sum([w * self.draws[key] for w, key in terms], axis=0))
            ids += [run for _, (run, _) in terms]
            samples += [id(self._sample_of[run, subset.eval_set]) for _, (run, _) in terms]
        if not seeds:
            return MISSING
        values = np.array(per_seed)
        # Runs on other rows (mixed data) share no resamples: nothing is said over rows.
        same_rows = len(set(samples)) == 1
        mean_draws = np.mean(draws, axis=0) if same_rows else np.full(len(draws[0]), np.nan)
        return Estimate(
            mean=float(values.mean()),
            sd=float(values.std(ddof=1)) if len(values) > 1 else NAN,
            seeds=tuple(seeds),
            per_seed=values,
            over_rows=inference.percentile_interval(mean_draws),
            over_seeds=inference.seed_interval(values),
            both=inference.combine(mean_draws, values),
            p_rows=inference.bootstrap_p(mean_draws, float(values.mean())),
            detectable_rows=inference.detectable_over_rows(mean_draws),
            detectable_seeds=inference.detectable_over_seeds(values),
            runs=tuple(ids),
            draws=mean_draws,
        )

    def williams(self, worse: str, better: str, subset: EvalSubset) -> dict[int, float]:
        """Return Williams' p by shared seed; NaN where the two runs predicted other rows."""
        a, b = self.runs(worse, subset.eval_set), self.runs(better, subset.eval_set)
        p = dict.fromkeys(sorted(a.keys() & b.keys()), NAN)
        for sample in (s for s in self.samples if s.eval_set == subset.eval_set):
            column = sample.column
            seeds = [s for s in p if a[s].run_id in column and b[s].run_id in column]
            predictions = sample.predictions[sample.rows_of(subset.languages)]
            x, y = (
                predictions[:, np.array([column[runs[s].run_id] for s in seeds], np.int64)]
                for runs in (b, a)
            )
            between = inference.paired_pearsons(x, y)
            for seed, r23 in zip(seeds, between, strict=True):
                r12, r13 = (self.values.get((runs[seed].run_id, subset), NAN) for runs in (b, a))
                p[seed] = inference.williams(r12, r13, float(r23), len(predictions))[1]
        return p


def compute_measurements(
    experiment: Experiment, group: Group, *, seed: int = 0, resamples: int = inference.RESAMPLES
) -> Measurements:
    """Read the group's predictions and compute everything from them.

    Raises:
        RunError: An artifact is lost.
    """
    records = read_records(experiment, group.runs)
    test_from = test_split(group.splits)
    tested = [run for run in group.runs if run.split == test_from]
    values = dict[tuple[str, EvalSubset], float]()
    draws = dict[tuple[str, EvalSubset], np.ndarray]()
    samples, resampled = list[AlignedPredictions](), list[Future[None]]()
    # Resampling is NumPy's work, reading is Python's: one goes on beside the other.
    with ThreadPoolExecutor(1) as pool:

        def add(aligned: Sequence[AlignedPredictions]) -> None:
            samples.extend(aligned)
            resampled.extend(
                pool.submit(_resample, sample, seed, resamples, values, draws) for sample in aligned
            )

        for split in group.splits:
            runs = [run for run in group.runs if run.split == split]
            dev = read_tables(experiment, runs, names.DEV_PREDICTIONS)
            add(_align(split, runs, dev, lambda run, _: records[run.run_id].unseen_in_training))
        # Development rows are drawn from every language that has training rows, held out or not.
        labelled = {language for sample in samples for language in sample.languages}
        test = read_tables(experiment, tested, names.TEST_PREDICTIONS)
        add(_align(TEST, tested, test, lambda _, all_: [x for x in all_ if x not in labelled]))
    for future in resampled:
        future.result()
    return Measurements(group, records, tuple(samples), test_from, values, draws)


def _align(
    eval_set: str,
    runs: Sequence[StoredRun],
    frames: Mapping[str, pd.DataFrame | None],
    unseen_by: Callable[[StoredRun, Sequence[str]], Sequence[str]],
) -> list[AlignedPredictions]:
    """Join the runs' labelled predictions; runs that predicted other rows make another sample."""
    alike: dict[tuple[bytes, ...], list[tuple[StoredRun, pd.DataFrame]]] = {}
    for run in runs:
        frame = frames.get(run.run_id)
        if frame is None:
            continue
        if not np.isfinite(frame["label"].to_numpy()).all():
            frame = frame[np.isfinite(frame["label"])]
        if not len(frame):
            continue
        if (np.diff(frame["row"].to_numpy()) < 0).any():
            frame = frame.sort_values("row")
        row, label = frame["row"].to_numpy(np.int64), frame["label"].to_numpy(np.float64)
        key = (row.tobytes(), label.tobytes(), run.part("data").encode())
        alike.setdefault(key, []).append((run, frame))
    samples = []
    for members in alike.values():
        (first_run, first), predictions = (
            members[0],
            [frame["prediction"].to_numpy(np.float64) for _, frame in members],
        )
        samples.append(
            AlignedPredictions(
                eval_set,
                tuple(run.run_id for run, _ in members),
                first["row"].to_numpy(),
                first["label"].to_numpy(np.float64),
                first["language"].to_numpy(),
                np.column_stack(predictions),
                tuple(unseen_by(first_run, ordered(set(first["language"])))),
            )
        )
    return samples


def _resample(
    sample: AlignedPredictions,
    seed: int,
    resamples: int,
    values: dict[tuple[str, EvalSubset], float],
    draws: dict[tuple[str, EvalSubset], np.ndarray],
) -> None:
    """Fill in Pearsons and resampled Pearsons of a sample's runs."""
    # The eval set's own seed: the same resamples whichever runs are compared on it.
    own_seed = zlib.crc32(f"{seed} {sample.eval_set}".encode())
    # Each part of the models draws the same rows anew.
    for start in range(0, len(sample.runs), _MODELS_AT_A_TIME):
        part = slice(start, start + _MODELS_AT_A_TIME)
        drawn = inference.bootstrap_pearson(
            sample.predictions[:, part],
            sample.label,
            seed=own_seed,
            resamples=resamples,
            strata=sample.strata,
            subsets=[sample.strata_of(subset) for subset in sample.subsets],
        )
        for name, of_subset in zip(sample.subsets, drawn, strict=True):
            subset, rows = EvalSubset(sample.eval_set, name), sample.rows_of(name)
            pearsons = inference.pearsons(sample.predictions[rows, part], sample.label[rows])
            by_run = np.ascontiguousarray(of_subset.T, dtype=np.float32)
            for run, value, of_run in zip(sample.runs[part], pearsons, by_run, strict=True):
                values[(run, subset)], draws[(run, subset)] = float(value), of_run
