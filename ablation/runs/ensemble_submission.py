"""Write the task's submission file from runs that have finished: nothing is trained.

On each split, forward selection by its development rows chooses runs from all rows and seeds, and
their test predictions are averaged (Caruana et al., 2004, as the ensemble of Table 3). Splits train
on other rows and languages: the averages of splits of one kind, such as Dev2's pairs, count alike,
and so do the kinds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from ablation.core.errors import UsageError
from ablation.core.files import write_atomically
from ablation.core.identity import RunKey
from ablation.core.suggest import did_you_mean
from ablation.data.splits import draw_kind
from ablation.runs.submission import SUBMISSION_FILE, submission_text
from ablation.tracking import names
from ablation.tracking.history import PastRun, past_runs
from ablation.tracking.reading import read_frame
from ablation.tracking.runs import fail_on_error, start_run
from ablation.tracking.store import Store

#: Ways of halving the development rows for the nested score.
_REPEATS: Final = 10


@dataclass(frozen=True)
class Selection:
    """The runs that a split's development rows selected.

    Attributes:
        split: The split's name.
        members: The names of the selected runs, and how often each enters the average.
        candidates: The number of runs that there were to select from.
        rows: Development rows.
        apparent: Pearson of the average on the rows that selected it.
        nested: Pearson of averages that were selected on the other half of the rows; NaN where
            halves are too small to have one.
        single: The mean Pearson of the candidates alone.
    """

    split: str
    members: Mapping[str, int]
    candidates: int
    rows: int
    apparent: float
    nested: float
    single: float


@dataclass(frozen=True)
class EnsembleSubmission:
    """A written submission: its file, its number of rows, and what was selected on each split."""

    file: Path
    rows: int
    selections: tuple[Selection, ...]
    run_id: str


@dataclass(frozen=True)
class Candidate:
    """A finished run with its development and test predictions, in the order of their rows.

    `experiment` is the name of its experiment where there are several to select from.
    """

    key: RunKey
    run_id: str
    dev: pd.DataFrame
    test: pd.DataFrame
    experiment: str = ""

    @property
    def name(self) -> str:
        return f"{self.experiment}: {self.key}" if self.experiment else str(self.key)


def submit_finished(
    store: Store,
    experiments: Mapping[str, str],
    out: Path,
    splits: Sequence[str] = (),
    variants: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> EnsembleSubmission:
    """Select among experiments' finished runs, average them, and write the submission.

    Of several corpora, or of one whose rows changed, that of the first experiment's newest run
    counts. The submission is tracked in the first experiment.

    Args:
        store: The tracking store.
        experiments: The ids of the experiments by their names.
        out: The file to write: `row` (from 0, as in the test file) and `score`, no text.
        splits: The splits, or kinds of split, whose runs to take; all if empty.
        variants: The rows to take; all if empty.
        seeds: The seeds to take; all if empty.

    Raises:
        UsageError: There are no such runs, or they have no test predictions.
        DamagedRunError: Predictions were lost or changed.
        RunError: The store can't be reached.
    """
    runs = _finished(store, experiments, splits, variants)
    if seeds and not (runs := [(name, run) for name, run in runs if run.key.seed in seeds]):
        raise UsageError("submit: no finished run of these splits and rows has these seeds")
    several = len(experiments) > 1
    selections, scores = combine([_read(store, run, name * several) for name, run in runs])
    content = submission_text(scores)
    first = next(iter(experiments.values()))
    tracked = start_run(store, first, "submission: finished runs", {names.KIND: names.SUBMISSION})
    with fail_on_error(tracked):
        tracked.log_params(
            {
                "experiments": ",".join(experiments),
                "splits": ",".join(s.split for s in selections),
                "variants": ",".join(variants),
            }
        )
        tracked.log_json("selected.json", [_as_json(selection) for selection in selections])
        if np.isfinite(foretold := _mean([selection.nested for selection in selections])):
            tracked.log_metrics({"development/pearson": foretold})
        tracked.log_text(SUBMISSION_FILE, content)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, content)
    tracked.end("FINISHED")
    return EnsembleSubmission(out, len(scores), selections, store.run_id(tracked.run_id))


def combine(
    candidates: Sequence[Candidate],
) -> tuple[tuple[Selection, ...], Float[np.ndarray, " rows"]]:
    """Select on each split, and return the selections and the mean of their averages.

    Splits of one kind count alike, and so do kinds.

    Args:
        candidates: Finished runs of one corpus, on any number of splits.

    Raises:
        UsageError: The runs predicted unlike test rows, or `select` can't choose.
    """
    rows = [candidate.test["row"].to_numpy() for candidate in candidates]
    if any(not np.array_equal(own, np.arange(len(rows[0]))) for own in rows):
        raise UsageError("submit: the runs predicted unlike test rows")
    by_split: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_split.setdefault(candidate.key.split, []).append(candidate)
    selections = tuple(select(split, of_split) for split, of_split in by_split.items())
    of_kinds: dict[str, list[np.ndarray]] = {}
    for selection, of_split in zip(selections, by_split.values(), strict=True):
        average = np.average(
            [candidate.test["prediction"].to_numpy() for candidate in of_split],
            axis=0,
            weights=[selection.members.get(candidate.name, 0) for candidate in of_split],
        )
        of_kinds.setdefault(draw_kind(selection.split), []).append(average)
    return selections, np.mean([np.mean(alike, axis=0) for alike in of_kinds.values()], axis=0)


def select(split: str, candidates: Sequence[Candidate]) -> Selection:
    """Select runs on all development rows; score the selection by nested halves.

    Raises:
        UsageError: The runs have other development rows, or none has a correlation.
    """
    from ablation.training.ensemble import average, select_members
    from ablation.training.evaluation import pearson

    first = candidates[0].dev
    if any(not np.array_equal(c.dev["row"], first["row"]) for c in candidates):
        raise UsageError(f"submit: the runs on {split} have unlike development rows")
    label = first["label"].to_numpy(float)
    weight = first["weight"].to_numpy(float) if "weight" in first else np.ones(len(label))
    by_name = {c.name: c.dev["prediction"].to_numpy(float) for c in candidates}
    alone = {name: pearson(p, label, weight) for name, p in by_name.items()}
    known = {name: by_name[name] for name, r in alone.items() if r is not None}
    if not known:
        raise UsageError(f"submit: no run on {split} has a correlation with the labels")
    members = select_members(known, label, weight=weight)

    def score(half: np.ndarray) -> float:
        """Select on a half of the rows, and score on the other."""
        on_half = {name: p[half] for name, p in known.items()}
        try:
            chosen = select_members(on_half, label[half], weight=weight[half])
        except ValueError:  # too few rows, or rows that are all alike
            return float("nan")
        others = average({name: p[~half] for name, p in known.items()}, chosen)
        r = pearson(others, label[~half], weight[~half])
        return float("nan") if r is None else r

    return Selection(
        split,
        {c.name: members[c.name] for c in candidates if c.name in members},
        len(candidates),
        len(label),
        pearson(average(known, members), label, weight) or 0.0,
        _mean([score(half) for half in _halves(first["language"].to_numpy())]),
        float(np.mean([r for r in alone.values() if r is not None])),
    )


def _finished(
    store: Store, experiments: Mapping[str, str], splits: Sequence[str], variants: Sequence[str]
) -> list[tuple[str, PastRun]]:
    """Return the newest finished run of each key that trained, with its experiment's name.

    All are of the corpus of the first experiment's newest run. Raises UsageError for names that no
    run has.
    """
    trained: dict[tuple[str, RunKey], PastRun] = {}
    for name, experiment in experiments.items():
        for run in past_runs(store, experiment).runs:  # newest first
            if run.status == "FINISHED" and "members" not in run.parts:
                trained.setdefault((name, run.key), run)
        if not any(of == name for of, _ in trained):
            raise UsageError(
                f"submit: experiment {name!r} has no finished run; train some with ablation run"
            )
    there = {key.split for _, key in trained}
    kinds = {draw_kind(split) for split in there}
    # Of a name that is both, such as dev2, the split is meant.
    wanted = {
        s for s in there if s in splits or (draw_kind(s) in splits and draw_kind(s) not in there)
    }
    for option, asked, known in (
        ("--split", splits, there | kinds),
        ("--variants", variants, {key.variant for _, key in trained}),
    ):
        for given in asked:
            if given not in known:
                raise UsageError(
                    f"submit: {option} {given}: no finished run has it:"
                    f" {did_you_mean(given, sorted(known))}"
                )
    chosen = [
        (name, run)
        for (name, key), run in trained.items()
        if (not splits or key.split in wanted) and (not variants or key.variant in variants)
    ]
    if not chosen:
        raise UsageError("submit: no finished run is of these splits and rows")
    data = chosen[0][1].parts.get("data")  # the newest run's of the first experiment
    of_corpus = [(name, run) for name, run in chosen if run.parts.get("data") == data]
    for name in experiments:
        if not any(of == name for of, _ in of_corpus):
            lacks = "of these splits and rows"
            if any(of == name for of, _ in chosen):
                lacks = f"on the corpus of {chosen[0][0]!r}: leave it out"
            raise UsageError(f"submit: experiment {name!r} has no finished run {lacks}")
    return sorted(of_corpus, key=lambda c: (c[1].key.split, c[0], c[1].key.variant, c[1].key.seed))


def _read(store: Store, run: PastRun, experiment: str) -> Candidate:
    if names.TEST_PREDICTIONS not in (run.manifest or ""):
        raise UsageError(f"submit: {run.key}: no test rows were predicted: the corpus has none")
    dev, test = (
        read_frame(store, run.run_id, path).sort_values("row", ignore_index=True)
        for path in (names.DEV_PREDICTIONS, names.TEST_PREDICTIONS)
    )
    return Candidate(run.key, run.run_id, dev, test, experiment)


def _mean(scores: Sequence[float]) -> float:
    """Return the mean of the scores that exist; NaN if none does."""
    known = [score for score in scores if np.isfinite(score)]
    return float(np.mean(known)) if known else float("nan")


def _halves(groups: np.ndarray) -> list[Bool[np.ndarray, " rows"]]:
    """Return masks of halves with every group's rows in proportion, each half and its other one."""
    rng = np.random.default_rng(0)
    masks = []
    for _ in range(_REPEATS):
        mask = np.zeros(len(groups), bool)
        for group in np.unique(groups):
            rows = rng.permutation(np.flatnonzero(groups == group))
            mask[rows[: len(rows) // 2 + int(rng.integers(2)) * (len(rows) % 2)]] = True
        masks += [mask, ~mask]
    return masks


def _as_json(selection: Selection) -> dict[str, object]:
    return {
        "split": selection.split,
        "members": dict(selection.members),
        "candidates": selection.candidates,
        "apparent": selection.apparent,
        "nested": selection.nested,
    }
