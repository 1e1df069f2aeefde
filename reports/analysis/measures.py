"""Compute the Pearson of every run on every subset of rows, and the uncertainty of contrasts.

An *eval set* is the development rows of a split, or the test rows; a subset of it is all of its
languages, those seen in training, the unseen ones, or a single one. Test columns come from the
models of one split, as in `ablation.runs.comparison`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

import numpy as np

from ablation.data.languages import ordered
from ablation.runs.comparison import test_split
from ablation.tracking import names
from ablation.training.records import RunRecord
from reports.analysis import inference
from reports.analysis.collect import Experiment, StoredRun, read_columns, read_records
from reports.analysis.groups import Group
from reports.analysis.replication import Evidence
from reports.analysis.variance_components import (
    SEEDS_AND_ROWS,
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
#: With one seed, what is said holds for other rows only.
_ROWS_ONLY: Final = Design(("seeds",), frozenset({"rows"}))


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
        name = self.eval_set
        if name.startswith("dev"):
            name = f"D{name[1:]}"
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
            influence = pearson_influence(predictions, self.label[mask], weight)[1]
            self._influences[subset] = influence
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

    @property
    def evidence(self) -> Evidence | None:
        """The evidence that a verdict rests on; None without any uncertainty."""
        if self.uncertainty is None:
            return None
        return Evidence(
            self.mean, self.uncertainty, len(self.seeds), self.rows, self.labels, 1, self.weights
        )

    @property
    def interval(self) -> inference.Interval:
        """95% over rows and seeds, or over rows alone for one seed."""
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
        return "rows and seeds" if len(self.seeds) > 1 else "rows"

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
    """

    group: Group
    records: Mapping[str, RunRecord]
    samples: tuple[AlignedPredictions, ...]
    test_from: str
    values: Mapping[tuple[str, EvalSubset], float]
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
        by_variant = {variant: self.runs(variant, subset.eval_set) for variant in weights}
        shared = sorted(set.intersection(*(set(runs) for runs in by_variant.values())))
        terms = {
            seed: [(w, by_variant[v][seed].run_id) for v, w in weights.items()] for seed in shared
        }
        seeds = [
            seed
            for seed in shared
            if all(np.isfinite(self.values.get((run, subset), NAN)) for _, run in terms[seed])
        ]
        if not seeds:
            return MISSING
        values = np.array([sum(w * self.values[run, subset] for w, run in terms[s]) for s in seeds])
        runs = tuple(run for seed in seeds for _, run in terms[seed])
        samples = {id(sample): sample for sample in self._samples_of(runs, subset.eval_set)}
        estimate = Estimate(
            mean=float(values.mean()),
            sd=float(values.std(ddof=1)) if len(values) > 1 else NAN,
            seeds=tuple(seeds),
            per_seed=values,
            weights=tuple(weights.values()),
            runs=runs,
        )
        # Runs on other rows (mixed data) are not paired: nothing is said over rows.
        if len(samples) > 1:
            return replace(estimate, obstacle="the runs predicted different rows")
        (sample,) = samples.values()
        influences = sample.influences(subset.languages)
        influence = np.zeros((len(seeds), influences.shape[1]))
        for variant, weight in weights.items():
            columns = [sample.column[by_variant[variant][seed].run_id] for seed in seeds]
            with np.errstate(invalid="ignore"):  # of a score that does not exist
                influence += weight * influences[columns]
        return with_uncertainty(estimate, influence, sample, subset)

    def _samples_of(self, runs: Sequence[str], eval_set: str) -> list[AlignedPredictions]:
        return [self.sample_of[run, eval_set] for run in runs]

    def influence(self, run: str, subset: EvalSubset) -> np.ndarray:
        """Return the influence (rows,) of the subset's rows on a run's Pearson."""
        sample = self.sample_of[run, subset.eval_set]
        return np.asarray(sample.influences(subset.languages)[sample.column[run]])

    def language_mean(self, variant: str, eval_set: str) -> Estimate:
        """Return a variant's mean over the single languages, each of which counts alike.

        The interval is for other rows of these languages and other seeds: languages are fixed.
        """
        subsets = [EvalSubset(eval_set, x) for x in self.languages_of(eval_set)]
        cells = [self.cell(variant, subset) for subset in subsets]
        seeds = sorted(set.intersection(*(set(cell.seeds) for cell in cells)))
        runs = [self.runs(variant, eval_set)[seed].run_id for seed in seeds]
        if not seeds:
            return MISSING
        values = np.array([[self.values[run, subset] for subset in subsets] for run in runs])
        per_seed = values.mean(axis=1)
        estimate = Estimate(
            mean=float(per_seed.mean()),
            sd=float(per_seed.std(ddof=1)) if len(seeds) > 1 else NAN,
            seeds=tuple(seeds),
            per_seed=per_seed,
            weights=(1.0,),
            runs=tuple(runs),
        )
        obstacles = [cell.obstacle for cell in cells if cell.obstacle]
        if obstacles:
            return replace(estimate, obstacle=obstacles[0])
        sample = self.sample_of[runs[0], eval_set]
        influence = np.zeros((len(runs), len(sample.label)))
        for subset in subsets:
            mask = sample.rows_of(subset.languages)
            scale = len(mask) / (mask.sum() * len(subsets))
            columns = [sample.column[run] for run in runs]
            influence[:, mask] = scale * sample.influences(subset.languages)[columns]
        return with_uncertainty(estimate, influence, sample, EvalSubset(eval_set))


def with_uncertainty(
    estimate: Estimate, influence: np.ndarray, sample: AlignedPredictions, subset: EvalSubset
) -> Estimate:
    """Add the uncertainty to an estimate.

    Args:
        estimate: The estimate.
        influence: (seeds, rows), of the subset's rows on its value with each seed.
        sample: The predictions behind it.
        subset: The rows that it is about.
    """
    mask = sample.rows_of(subset.languages)
    label = sample.label[mask]
    estimate = replace(estimate, rows=len(label), labels=len(np.unique(label)))
    obstacle = too_few_rows(label)
    if obstacle is None and not np.isfinite(influence).all():
        obstacle = "a single row decides the correlation"
    if obstacle:
        return replace(estimate, obstacle=obstacle)
    strata = _without_single_rows(sample.strata[mask])
    of_rows = analyse(_ROWS_ONLY, estimate.per_seed, influence, strata=strata)
    both = of_rows
    if len(estimate.seeds) > 1:
        both = analyse(SEEDS_AND_ROWS, estimate.per_seed, influence, strata=strata)
    return replace(estimate, uncertainty=both, of_rows=of_rows)


def _without_single_rows(strata: np.ndarray) -> np.ndarray:
    """Merge strata (rows,) of a single row, which have no variance, with the largest one."""
    names, counts = np.unique(strata, return_counts=True)
    return np.where(np.isin(strata, names[counts == 1]), names[np.argmax(counts)], strata)


def compute_measurements(experiment: Experiment, group: Group) -> Measurements:
    """Read the group's predictions and compute everything from them.

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
    on_dev = Measurements(group, records, tuple(samples), test_from, values)
    return with_test_rows(experiment, on_dev, test_from)


def with_test_rows(
    experiment: Experiment, measurements: Measurements, test_from: str
) -> Measurements:
    """Return the measurements with the models of another split in the test columns.

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
    tested = [run for run in measurements.group.runs if run.split == test_from]
    test = _align(
        _Predicted(experiment, tested, TEST), lambda _, all_: [x for x in all_ if x not in labelled]
    )
    values = {key: v for key, v in measurements.values.items() if key[1].eval_set != TEST}
    values |= {key: value for sample in test for key, value in _pearsons(sample)}
    group, records = measurements.group, measurements.records
    return Measurements(group, records, (*dev, *test), test_from, values)


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
