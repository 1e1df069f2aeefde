"""Pearson of every run on every set of rows, computed from stored predictions, with its resamples.

A *measure* is one set of rows: a place (the development rows of a split, or the test rows) and a
subset of languages (all, seen in training, unseen, or one). Test columns come from the models of
one split, as in `ablation.runs.comparison`.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
import pandas as pd

from ablation.config import paper_figures
from ablation.config.variants import VARIANTS
from ablation.data.languages import ordered
from ablation.runs.comparison import test_split
from ablation.tracking import names
from ablation.training.records import RunRecord
from reports.analysis import inference as st
from reports.analysis.collect import Experiment, StoredRun, read_records, read_tables
from reports.analysis.groups import Group

TEST: Final = "test"
_PAPER_CELLS: Final = {
    ("dev1", "all"): "dev1",
    ("dev2", "all"): "dev2",
    (TEST, "seen"): "seen",
    (TEST, "unseen"): "unseen",
}


@dataclass(frozen=True, order=True)
class EvalSubset:
    """`place` is a split's name or `test`; `subset` is all, seen, unseen, or a language's code."""

    place: str
    subset: str = "all"

    def __str__(self) -> str:
        place = self.place if self.place == TEST else self.place.replace("dev", "Dev")
        if self.place == TEST and self.subset == "all":
            return "test overall"
        return place if self.subset == "all" else f"{place} {self.subset}"


@dataclass(frozen=True)
class AlignedPredictions:
    """Rows that several runs predicted: `predictions` (rows, runs), `label` (rows,), `language` (rows,)."""

    place: str
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
        """A run's place among `predictions`' columns."""
        return {run: i for i, run in enumerate(self.runs)}

    @cached_property
    def strata(self) -> np.ndarray:
        """(rows,): the index of each row's language in `languages`."""
        number = {language: i for i, language in enumerate(self.languages)}
        return np.array([number[language] for language in self.language], dtype=np.int64)

    def numbers(self, subset: str) -> list[int]:
        """A subset's languages by their index."""
        return [self.languages.index(language) for language in self.members(subset)]

    def rows_of(self, subset: str) -> np.ndarray:
        """(rows,): which rows are of a subset's languages."""
        return np.isin(self.strata, self.numbers(subset))

    def members(self, subset: str) -> list[str]:
        """The languages of a subset; none if the sample has no such rows."""
        if subset == "all":
            return self.languages
        if subset in ("seen", "unseen"):
            return [x for x in self.languages if (x in self.unseen) == (subset == "unseen")]
        return [subset] if subset in self.languages else []

    @property
    def subsets(self) -> list[str]:
        both = ["seen", "unseen"] if self.members("seen") and self.members("unseen") else []
        return ["all", *both, *self.languages]


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, or a difference of such means, in Pearson (not times 100), and how sure it is.

    `seeds` are those that all the runs share, `per_seed` (seeds,) the value with each. `over_rows`
    holds for other rows and these models, `over_seeds` for other trainings and these rows, `both`
    for both; `draws` (resamples,) are the resampled rows' means. NaN and no interval where the runs
    at hand can't tell.
    """

    mean: float
    sd: float
    seeds: tuple[int, ...]
    per_seed: np.ndarray
    over_rows: st.Interval
    over_seeds: st.Interval
    both: st.Combined
    p_rows: float
    detectable_rows: float
    detectable_seeds: float
    runs: tuple[str, ...]
    draws: np.ndarray

    @property
    def interval(self) -> st.Interval:
        """Over rows and seeds where there are seeds for that, else over rows alone."""
        return self.both.interval if np.isfinite(self.both.p) else self.over_rows

    @property
    def p(self) -> float:
        """The p that belongs to `interval`."""
        return self.both.p if np.isfinite(self.both.p) else self.p_rows

    @property
    def exists(self) -> bool:
        return bool(np.isfinite(self.mean))


MISSING: Final = Estimate(
    float("nan"),
    float("nan"),
    (),
    np.empty(0),
    st.NO_INTERVAL,
    st.NO_INTERVAL,
    st.Combined(st.NO_INTERVAL, float("nan"), float("nan")),
    float("nan"),
    float("nan"),
    float("nan"),
    (),
    np.empty(0),
)


@dataclass(frozen=True)
class Measurements:
    """Every run's Pearson on every measure, with paired resamples. `test_from` is the test columns' split."""

    group: Group
    records: Mapping[str, RunRecord]
    samples: tuple[AlignedPredictions, ...]
    test_from: str
    values: Mapping[tuple[str, EvalSubset], float]
    draws: Mapping[tuple[str, EvalSubset], np.ndarray]
    sample_of: Mapping[tuple[str, str], AlignedPredictions]
    _cache: dict[tuple[object, ...], Estimate] = field(default_factory=dict, compare=False)

    @cached_property
    def measures(self) -> list[EvalSubset]:
        """Those that have a Pearson in some run: splits first, in order, then the test rows."""
        known = {measure for (_, measure), value in self.values.items() if np.isfinite(value)}
        places = [*self.group.splits, TEST]
        subsets = ["all", "seen", "unseen"]
        ranked = {
            s: i
            for i, s in enumerate([*subsets, *ordered({m.subset for m in known} - set(subsets))])
        }
        return sorted(known, key=lambda m: (places.index(m.place), ranked[m.subset]))

    @property
    def columns(self) -> list[EvalSubset]:
        """Table 3's: every split's development rows, then test seen, unseen and overall; scored or not."""
        return [
            *(EvalSubset(split) for split in self.group.splits),
            *(EvalSubset(TEST, s) for s in ("seen", "unseen", "all")),
        ]

    @property
    def has_test(self) -> bool:
        return any(measure.place == TEST for measure in self.measures)

    @cached_property
    def analysed_place(self) -> str:
        """Where languages and errors are looked at: the test rows, without labels the development rows of `test_from`."""
        return TEST if self.has_test else self.test_from

    def runs(self, variant: str, place: str) -> dict[int, StoredRun]:
        """The runs behind a cell, by seed."""
        return self._cells.get((variant, self.test_from if place == TEST else place), {})

    @cached_property
    def _cells(self) -> dict[tuple[str, str], dict[int, StoredRun]]:
        """The runs by variant and split, then by seed."""
        found: dict[tuple[str, str], dict[int, StoredRun]] = {}
        for run in self.group.runs:
            found.setdefault((run.variant, run.split), {})[run.seed] = run
        return found

    def cell(self, variant: str, measure: EvalSubset) -> Estimate:
        """A variant's mean over its seeds."""
        return self.contrast({variant: 1.0}, measure)

    def step(self, worse: str, better: str, measure: EvalSubset) -> Estimate:
        """`better` minus `worse`, paired by seed and row."""
        return self.contrast({better: 1.0, worse: -1.0}, measure)

    def contrast(self, weights: Mapping[str, float], measure: EvalSubset) -> Estimate:
        """The sum of weights times variants' Pearson, over the seeds that all of them have."""
        key = (tuple(sorted(weights.items())), measure)
        if key not in self._cache:
            self._cache[key] = self._contrast(weights, measure)
        return self._cache[key]

    def _contrast(self, weights: Mapping[str, float], measure: EvalSubset) -> Estimate:
        by_variant = {variant: self.runs(variant, measure.place) for variant in weights}
        shared = sorted(set.intersection(*(set(runs) for runs in by_variant.values())))
        seeds, per_seed, ids, samples = [], [], [], []
        draws: list[np.ndarray] = []
        for seed in shared:
            runs = {variant: by_variant[variant][seed] for variant in weights}
            if not all(
                np.isfinite(self.values.get((run.run_id, measure), np.nan)) for run in runs.values()
            ):
                continue
            seeds.append(seed)
            per_seed.append(
                sum(w * self.values[(runs[v].run_id, measure)] for v, w in weights.items())
            )
            draws.append(
                np.sum(
                    [w * self.draws[(runs[v].run_id, measure)] for v, w in weights.items()], axis=0
                )
            )
            ids += [run.run_id for run in runs.values()]
            samples += [id(self.sample_of[(run.run_id, measure.place)]) for run in runs.values()]
        if not seeds:
            return MISSING
        values = np.array(per_seed)
        # Runs on other rows (mixed data sets) share no resamples: nothing over rows can be said of them.
        mean_draws = (
            np.mean(draws, axis=0) if len(set(samples)) == 1 else np.full(len(draws[0]), np.nan)
        )
        return Estimate(
            mean=float(values.mean()),
            sd=float(values.std(ddof=1)) if len(values) > 1 else float("nan"),
            seeds=tuple(seeds),
            per_seed=values,
            over_rows=st.percentile_interval(mean_draws),
            over_seeds=st.seed_interval(values),
            both=st.combine(mean_draws, values),
            p_rows=st.bootstrap_p(mean_draws, float(values.mean())),
            detectable_rows=st.detectable_over_rows(mean_draws),
            detectable_seeds=st.detectable_over_seeds(values),
            runs=tuple(ids),
            draws=mean_draws,
        )

    def williams(self, worse: str, better: str, measure: EvalSubset) -> dict[int, float]:
        """Williams' p for each seed that both variants have; NaN where the two runs predicted other rows."""
        a, b = self.runs(worse, measure.place), self.runs(better, measure.place)
        found = dict.fromkeys(sorted(a.keys() & b.keys()), float("nan"))
        for sample in (s for s in self.samples if s.place == measure.place):
            seeds = [
                seed
                for seed in found
                if a[seed].run_id in sample.column and b[seed].run_id in sample.column
            ]
            predictions = sample.predictions[sample.rows_of(measure.subset)]
            x, y = (
                predictions[:, np.array([sample.column[runs[s].run_id] for s in seeds], np.int64)]
                for runs in (b, a)
            )
            for seed, between in zip(seeds, st.paired_pearsons(x, y), strict=True):
                r12, r13 = (
                    self.values.get((runs[seed].run_id, measure), float("nan")) for runs in (b, a)
                )
                found[seed] = st.williams(r12, r13, float(between), len(predictions))[1]
        return found


def compute_measurements(
    experiment: Experiment, group: Group, *, seed: int = 0, resamples: int = st.RESAMPLES
) -> Measurements:
    """Read the group's predictions and compute everything from them. Raises RunError for a lost artifact."""
    records = read_records(experiment, group.runs)
    test_from = test_split(group.splits)
    tested = [run for run in group.runs if run.split == test_from]
    values, draws = (
        dict[tuple[str, EvalSubset], float](),
        dict[tuple[str, EvalSubset], np.ndarray](),
    )
    samples, resampled = list[AlignedPredictions](), list[Future[None]]()
    with ThreadPoolExecutor(
        1
    ) as pool:  # resampling is NumPy's work, reading is Python's: one goes on beside the other

        def take(found: Sequence[AlignedPredictions]) -> None:
            samples.extend(found)
            resampled.extend(
                pool.submit(_resample, sample, seed, resamples, values, draws) for sample in found
            )

        for split in group.splits:
            runs = [run for run in group.runs if run.split == split]
            dev = read_tables(experiment, runs, names.DEV_PREDICTIONS)
            take(_samples(split, runs, dev, lambda run, _: records[run.run_id].unseen_in_training))
        # Development rows are drawn from every language that has training rows, held out or not.
        labelled = {language for sample in samples for language in sample.languages}
        test = read_tables(experiment, tested, names.TEST_PREDICTIONS)
        take(
            _samples(
                TEST, tested, test, lambda _, languages: [x for x in languages if x not in labelled]
            )
        )
    for each in resampled:
        each.result()
    sample_of = {(run, sample.place): sample for sample in samples for run in sample.runs}
    return Measurements(group, records, tuple(samples), test_from, values, draws, sample_of)


def paper_cell(variant: str, measure: EvalSubset) -> float:
    """What Table 3 (and the abstract, for the system's overall score) prints, as a correlation; NaN where nothing."""
    if measure == EvalSubset(TEST) and variant == "ensemble":
        return paper_figures.OVERALL / 100
    cells = VARIANTS[variant].paper if variant in VARIANTS else None
    name = _PAPER_CELLS.get((measure.place.split(":")[0], measure.subset))
    value = None if cells is None or name is None else getattr(cells, name)
    return float("nan") if value is None else value / 100


def paper_step(worse: str, better: str, measure: EvalSubset) -> float:
    """The difference of two of the paper's cells; NaN where one is not printed."""
    return paper_cell(better, measure) - paper_cell(worse, measure)


def _samples(
    place: str,
    runs: Sequence[StoredRun],
    frames: Mapping[str, pd.DataFrame | None],
    unseen_by: Callable[[StoredRun, Sequence[str]], Sequence[str]],
) -> list[AlignedPredictions]:
    """The runs' predictions side by side; runs that predicted other rows make a sample of their own."""
    alike: dict[tuple[bytes, ...], list[tuple[StoredRun, pd.DataFrame]]] = {}
    for run in runs:
        frame = frames.get(run.run_id)
        if frame is None:
            continue
        if not np.isfinite(frame["label"].to_numpy()).all():
            frame = frame[np.isfinite(frame["label"])]
        if len(frame):
            if (np.diff(frame["row"].to_numpy()) < 0).any():
                frame = frame.sort_values("row")
            rows = (
                frame["row"].to_numpy(np.int64).tobytes(),
                frame["label"].to_numpy(np.float64).tobytes(),
            )
            key = (*rows, run.part("data").encode())
            alike.setdefault(key, []).append((run, frame))
    found = []
    for members in alike.values():
        first = members[0][1]
        found.append(
            AlignedPredictions(
                place,
                tuple(run.run_id for run, _ in members),
                first["row"].to_numpy(),
                first["label"].to_numpy(np.float64),
                first["language"].to_numpy(),
                np.column_stack([frame["prediction"].to_numpy(np.float64) for _, frame in members]),
                tuple(unseen_by(members[0][0], ordered(set(first["language"])))),
            )
        )
    return found


def _resample(
    sample: AlignedPredictions,
    seed: int,
    resamples: int,
    values: dict[tuple[str, EvalSubset], float],
    draws: dict[tuple[str, EvalSubset], np.ndarray],
) -> None:
    # The rows' own seed: the same resamples whichever runs are compared on them.
    own_seed = zlib.crc32(f"{seed} {sample.place}".encode())
    at_a_time = 512  # models: bounds the memory of the sums, each part draws the same rows anew
    for start in range(0, len(sample.runs), at_a_time):
        part = slice(start, start + at_a_time)
        drawn = st.bootstrap_pearson(
            sample.predictions[:, part],
            sample.label,
            seed=own_seed,
            resamples=resamples,
            strata=sample.strata,
            subsets=[sample.numbers(subset) for subset in sample.subsets],
        )
        for subset, of_subset in zip(sample.subsets, drawn, strict=True):
            each, rows = EvalSubset(sample.place, subset), sample.rows_of(subset)
            found = st.pearsons(sample.predictions[rows, part], sample.label[rows])
            by_run = np.ascontiguousarray(of_subset.T, dtype=np.float32)
            for run, value, of_run in zip(sample.runs[part], found, by_run, strict=True):
                values[(run, each)], draws[(run, each)] = float(value), of_run
