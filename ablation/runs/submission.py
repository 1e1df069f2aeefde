"""Refit chosen rows on all labelled rows, average them, and write the task's submission file.

Development rows choose each run's epoch. The refit then trains on them as well, for as many epochs,
so nothing is left to score it on: its score is foretold by the runs that it repeats.
"""

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from ablation.core.errors import RunError, UsageError
from ablation.core.files import write_atomically
from ablation.core.identity import Identity, RunKey, code_digest, identify
from ablation.core.interrupts import raise_if_interrupted
from ablation.core.locks import lock
from ablation.core.state import checkpoints_root
from ablation.runs.context import Preparations, origin_tags
from ablation.runs.keeping import about
from ablation.runs.plan import PlannedRun
from ablation.runs.progress import Progress
from ablation.runs.request import DEFAULT_EXPERIMENT, ResolvedRun, resolve_run
from ablation.runs.results import RunOutcome
from ablation.runs.runner import run_plan, sigterm_as_interrupt
from ablation.tracking import names
from ablation.tracking.reading import read_frame
from ablation.tracking.runs import fail_on_error, start_run
from ablation.tracking.store import experiment_id
from ablation.training.checkpoints import clear
from ablation.training.records import RunRecord

if TYPE_CHECKING:
    from ablation.runs.request import RunRequest
    from ablation.training.loop import Hooks

SUBMISSION_FILE: Final = "submission.csv"
#: The name of a refit's split: no row is held out.
ALL_ROWS: Final = "all"


@dataclass(frozen=True)
class DevelopmentScore:
    """The score that development rows foretell, as Pearson's r.

    Attributes:
        average: Of the average of the runs that are refitted, before they were.
        single: Of each of them, at its selected epoch.
        last_epoch: Of each of them at its last epoch, which was not selected.
        rows: Development rows.
    """

    average: float
    single: tuple[float, ...]
    last_epoch: tuple[float, ...]
    rows: int

    @property
    def optimism(self) -> float:
        """The mean gain of a run by having selected its epoch on the rows that score it."""
        return float(np.mean(self.single) - np.mean(self.last_epoch))


@dataclass(frozen=True)
class Submission:
    """A written submission: its file, its number of rows, the refitted runs, and the score."""

    file: Path
    rows: int
    keys: tuple[RunKey, ...]
    epochs: tuple[int, ...]
    development: DevelopmentScore
    run_id: str


@dataclass(frozen=True)
class _Refit:
    """A run that is refitted: the planned run, its record, and the refit's own identity."""

    run: PlannedRun
    record: RunRecord
    run_id: str
    identity: Identity

    @property
    def key(self) -> RunKey:
        return RunKey(self.run.key.variant, ALL_ROWS, self.run.key.seed)

    @property
    def epochs(self) -> int:
        return self.record.best_epoch or 0


def resolve_submission(request: "RunRequest") -> ResolvedRun:
    """Check a request whose runs are to be refitted.

    Raises:
        UsageError: There are no test rows, several splits, or an ensemble among the rows.
    """
    planned = resolve_run(request)
    if planned.corpus.test is None:
        raise UsageError(f"{planned.corpus.name}: no test rows to submit predictions for")
    if len({run.key.split for run in planned.runs}) > 1:
        raise UsageError("submit: give one split, such as --split dev1; it chooses the epochs")
    if combined := [run.key.variant for run in planned.runs if run.config is None]:
        raise UsageError(
            f"submit: {combined[0]!r} trains nothing; name the rows, whose refits are averaged"
        )
    return planned


def make_submission(
    planned: ResolvedRun, out: Path, development: Progress, refits: Progress
) -> Submission:
    """Train or reuse the development runs, refit them on all rows, and write the average.

    Args:
        planned: What `resolve_submission` returned.
        out: The file to write: `row` (from 0, as in the test file) and `score`, no text.
        development: Receives the events of the development runs.
        refits: Receives those of the refits.

    Raises:
        RunError: A run failed or collapsed.
        UsageError: The encoder can't be used.
    """
    outcomes = run_plan(planned, development)
    chosen = [_refit_of(run, outcome) for run, outcome in zip(planned.runs, outcomes, strict=True)]
    score = _development_score(planned, chosen)
    store, request = planned.store, planned.request
    experiment = experiment_id(store, request.experiment or DEFAULT_EXPERIMENT)
    tags = origin_tags(planned.corpus, str(request.profile)) | {names.KIND: names.SUBMISSION}
    rows = ",".join(dict.fromkeys(refit.key.variant for refit in chosen))
    with sigterm_as_interrupt():
        tracked = start_run(store, experiment, f"submission: {rows}", tags)
        with fail_on_error(tracked):
            tracked.log_params({"variants": rows, "seeds": _seeds(chosen), "split": _split(chosen)})
            predictions = _predict_all(planned, chosen, refits)
            content = submission_text(np.mean(predictions, axis=0))
            tracked.log_metrics(
                {"development/pearson": score.average, "development/optimism": score.optimism}
            )
            tracked.log_json("refits.json", [_as_json(refit) for refit in chosen])
            tracked.log_text(SUBMISSION_FILE, content)
            out.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(out, content)
        tracked.end("FINISHED")
    return Submission(
        out,
        len(predictions[0]),
        tuple(refit.key for refit in chosen),
        tuple(refit.epochs for refit in chosen),
        score,
        store.run_id(tracked.run_id),
    )


def submission_text(scores: np.ndarray) -> str:
    """Return a CSV of row numbers and scores (rows,)."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["row", "score"])
    writer.writerows((row, f"{score:.6f}") for row, score in enumerate(scores))
    return buffer.getvalue()


def _refit_of(run: PlannedRun, outcome: RunOutcome) -> _Refit:
    record = outcome.record
    if record is None or outcome.run_id is None:
        raise RunError(f"{run.key} failed, so its epochs are unknown: {outcome.reason}")
    if record.best_epoch is None:
        raise RunError(f"{run.key} collapsed to constant predictions; leave it out")
    parts = {**run.identity.parts, "code": code_digest(), "epochs": str(record.best_epoch)}
    key = RunKey(run.key.variant, ALL_ROWS, run.key.seed)
    return _Refit(run, record, outcome.run_id, identify(key, parts))


def _development_score(planned: ResolvedRun, chosen: Sequence[_Refit]) -> DevelopmentScore:
    from ablation.training.evaluation import pearson

    store = planned.store
    tables = [read_frame(store, refit.run_id, names.DEV_PREDICTIONS) for refit in chosen]
    label = tables[0]["label"].to_numpy()
    average = np.mean([table["prediction"].to_numpy() for table in tables], axis=0)
    curves = [read_frame(store, refit.run_id, names.CURVES) for refit in chosen]
    last = [_last_value(curve, "dev/pearson") for curve in curves]
    return DevelopmentScore(
        pearson(average, label) or float("nan"),
        tuple(refit.record.dev["pearson"] for refit in chosen),
        tuple(last),
        len(label),
    )


def _last_value(curve: pd.DataFrame, name: str) -> float:
    values = curve[curve["name"] == name].sort_values("step")["value"]
    return float(values.iloc[-1]) if len(values) else float("nan")


def _predict_all(
    planned: ResolvedRun, chosen: Sequence[_Refit], progress: Progress
) -> list[np.ndarray]:
    """Refit what has no kept weights, and predict the test rows with every refit."""
    preparations = Preparations(planned.corpus)
    progress.plan([(refit.key, refit.epochs) for refit in chosen])
    with progress:
        return [_predict_one(planned, refit, preparations, progress) for refit in chosen]


def _predict_one(
    planned: ResolvedRun, refit: _Refit, preparations: Preparations, progress: Progress
) -> np.ndarray:
    from ablation.models.exported import load_kept
    from ablation.models.kept_weights import find_kept, keep_weights
    from ablation.models.predictor import single
    from ablation.training.evaluation import predict
    from ablation.training.train_run import check_trainable, refit_run

    key, config, test = refit.key, refit.run.config, planned.corpus.test
    assert config is not None  # `resolve_submission` refuses ensembles
    assert test is not None
    slot = hashlib.sha256(f"refit {refit.identity.digest}".encode()).hexdigest()[:32]
    with lock(slot):
        kept = None if planned.request.fresh else find_kept(refit.identity.digest)
        if kept is not None:
            second = test["second_text"].tolist() if "second_text" in test else None
            predictions = single(load_kept(kept)).predict(test["text"].tolist(), second)
            progress.ended(key, "reused", note="kept weights")
            return predictions
        prepared = preparations.get(config)
        check_trainable(config, prepared)
        progress.started(key)
        folder = checkpoints_root() / slot
        model = refit_run(prepared, config, key.seed, refit.epochs, _hooks(key, progress), folder)
        origin = about(planned.corpus, refit.run, refit.record).model_copy(
            update={
                "identity": refit.identity.digest,
                "split": ALL_ROWS,
                "languages": tuple(planned.corpus.training_languages),
            }
        )
        try:
            keep_weights(model, prepared.vocabulary, origin)
        except OSError as error:
            progress.say(f"{key}: weights not kept: {error.strerror or error}")
        assert prepared.test is not None
        predictions = predict(model, prepared.test, config.optimisation.precision)
        clear(folder)
        progress.ended(key, "finished")
    return predictions


def _hooks(key: RunKey, progress: Progress) -> "Hooks":
    from ablation.training.loop import Hooks

    def on_step(done: int, total: int) -> None:
        progress.step(key, done, total)
        raise_if_interrupted()

    return Hooks(on_step=on_step, on_epoch=lambda epoch, scores: progress.epoch(key, epoch, scores))


def _as_json(refit: _Refit) -> dict[str, object]:
    return {
        "run": str(refit.run.key),
        "run_id": refit.run_id,
        "epochs": refit.epochs,
        "identity": refit.identity.digest,
    }


def _seeds(chosen: Sequence[_Refit]) -> str:
    return ",".join(map(str, dict.fromkeys(refit.key.seed for refit in chosen)))


def _split(chosen: Sequence[_Refit]) -> str:
    return chosen[0].run.key.split
