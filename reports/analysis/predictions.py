"""Read the predictions of several runs, aligned by the rows that they share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np

from ablation.data.languages import ordered
from ablation.data.splits import LEAVE_ONE_OUT, draw_kind
from ablation.tracking import names
from reports.analysis.collect import Experiment, StoredRun, read_columns
from reports.analysis.subsets import TEST
from reports.analysis.variance_components import (
    pearson_influence,
)

#: Runs whose rows' influences are computed together.
_RUNS_AT_ONCE: Final = 16


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
        # A single group is all there is, of which other splits have the others if held out in turn.
        is_one_of_several = draw_kind(self.eval_set) == LEAVE_ONE_OUT
        named = self.languages if len(self.languages) > 1 or is_one_of_several else []
        return ["all", *pooled, *named]

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


def read_aligned(
    experiment: Experiment,
    runs: Sequence[StoredRun],
    eval_set: str,
    unseen_by: Callable[[StoredRun, Sequence[str]], Sequence[str]],
) -> list[AlignedPredictions]:
    """Join the runs' labelled predictions; runs that predicted other rows make another sample.

    Args:
        experiment: The experiment.
        runs: Its runs.
        eval_set: See `EvalSubset`.
        unseen_by: Returns the languages that a run was not trained on, of those given.

    Raises:
        RunError: An artifact is lost.
    """
    predicted = _Predicted(experiment, runs, eval_set)
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
