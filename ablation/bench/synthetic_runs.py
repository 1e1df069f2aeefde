"""Write synthetic corpora and finished runs in any number, to measure what grows with them.

A run is written as the runner writes it: plans reuse it, and reports read it.
"""

import csv
import itertools
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from ablation.data.corpus import Corpus, load_corpus
from ablation.data.languages import ordered
from ablation.data.seeding import seed_for
from ablation.data.splits import Split, make_split
from ablation.runs.plan import PlannedRun
from ablation.runs.request import ResolvedRun, RunRequest, resolve_run
from ablation.runs.results import log_result
from ablation.tracking import names
from ablation.tracking.runs import TrackedRun, start_run
from ablation.tracking.store import experiment_id
from ablation.training.evaluation import scores
from ablation.training.records import RunRecord
from ablation.training.train_run import RunResult, test_scores

VARIANTS: Final = ("mse", "epm", "epm+cl", "epm+ft", "epm+cl+ft")
SPLITS: Final = ("dev1", "dev2")
EPOCHS: Final = 11
POINTS_AN_EPOCH: Final = 12


def write_corpus(folder: Path, train_rows: int, test_rows: int) -> None:
    """Write train.csv and test.csv: the demo's texts, repeated with a number to make each unique.

    Args:
        folder: Where to write; it is created.
        train_rows: Rows of train.csv.
        test_rows: Rows of test.csv.
    """
    demo = load_corpus("demo")
    assert demo.test is not None
    folder.mkdir(parents=True)
    for name, frame, rows in (("train", demo.train, train_rows), ("test", demo.test, test_rows)):
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label", "language"])
            # Languages alternate, so that a few rows have all of them.
            alternating = (
                frame.sort_values("text")
                .groupby("language")
                .cumcount()
                .sort_values(kind="stable")
                .index
            )
            for number, row in zip(
                range(rows),
                itertools.cycle(frame.loc[alternating].itertuples(index=False)),
                strict=False,
            ):
                writer.writerow([f"{row.text} {number}", row.label, row.language])


def make_request(corpus: Path, store: str, runs: int) -> RunRequest:
    """Return a request for an ablation of `runs` runs, a multiple of ten."""
    seeds = runs // (len(VARIANTS) * len(SPLITS))
    return RunRequest(
        data=str(corpus),
        profile="smoke",
        variants=tuple(VARIANTS),
        splits=tuple(SPLITS),
        seeds=tuple(range(seeds)),
        tracking_uri=store,
    )


def write_runs(request: RunRequest) -> int:
    """Write every run of the request that has not finished as finished; return their number."""
    planned = resolve_run(request)
    experiment = experiment_id(planned.store, request.experiment or "ablation")
    splits = {name: make_split(planned.corpus, name, 0) for name in SPLITS}
    common: dict[str, object] = {
        names.PROFILE: request.profile,
        names.CORPUS: planned.corpus.name,
        names.SYNTHETIC: "false",
        f"{names.IDENTITY_PART}data": planned.corpus.digest,
        names.COMMIT: "none",
        names.DIRTY: "false",
    }
    suite = start_run(planned.store, experiment, "synthetic", {names.KIND: names.SUITE, **common})
    suite.log_json(names.ENVIRONMENT_FILE, {"host": "synthetic"})
    suite.log_table(names.TRAIN_CORPUS, planned.corpus.train.reset_index(names="row"))
    if planned.corpus.test is not None:
        suite.log_table(names.TEST_CORPUS, planned.corpus.test.reset_index(names="row"))
    unfinished = [run for run in planned.runs if not run.is_reused]
    for run in unfinished:
        _write_run(planned, run, splits[run.key.split], common, experiment, suite)
    suite.end("FINISHED")
    return len(unfinished)


def _write_run(
    planned: ResolvedRun,
    run: PlannedRun,
    split: Split,
    common: dict[str, object],
    experiment: str,
    suite: TrackedRun,
) -> None:
    assert run.config is not None
    identity = {
        f"{names.IDENTITY_PART}{name}": digest for name, digest in run.identity.parts.items()
    }
    tags: dict[str, object] = {
        names.KIND: names.RUN,
        names.VARIANT: run.key.variant,
        names.SPLIT: run.key.split,
        names.SEED: run.key.seed,
        names.IDENTITY: run.identity.digest,
        names.ENCODER: run.config.model.encoder,
        **common,
        **identity,
    }
    tracked = start_run(planned.store, experiment, str(run.key), tags, parent=suite)
    tracked.log_params(run.config.flat())
    tracked.log_json(names.CONFIG_FILE, run.config.model_dump(mode="json"))
    result = _result(planned.corpus, run, split)
    steps = np.arange(1, EPOCHS * POINTS_AN_EPOCH + 1)
    curve = pd.DataFrame(
        {"step": steps, "name": "train/pearson", "value": 0.8 - np.exp(-steps / 30)}
    )
    for name in ("train/pearson", "train/loss", "lr/encoder", "lr/head"):
        tracked.log_metrics({name: float(curve["value"].iloc[-1])}, int(steps[-1]))
    log_result(tracked, result)
    tracked.log_table(names.CURVES, curve)
    tracked.end("FINISHED")


def _result(corpus: Corpus, run: PlannedRun, split: Split) -> RunResult:
    """Return a result whose predictions are the labels plus noise."""
    rng = np.random.default_rng(
        seed_for("synthetic", run.key.seed, *run.key.variant.encode(), len(run.key.split))
    )
    dev = _predictions(corpus.train.iloc[split.dev], rng)
    test = None if corpus.test is None else _predictions(corpus.test, rng)
    seen = [language for language in corpus.training_languages if language not in split.unseen]
    record = RunRecord(
        variant=run.key.variant,
        split=run.key.split,
        seed=run.key.seed,
        identity=run.identity.digest,
        best_epoch=EPOCHS,
        collapsed=False,
        unseen_in_training=tuple(ordered(set(split.unseen))),
        dev=scores(dev, seen),
        test=test_scores(test, corpus),
        steps=EPOCHS * POINTS_AN_EPOCH,
        seconds=60.0,
        tokens_per_second=1000.0,
        parameters_total=100,
        parameters_trainable=100,
        layers_total=4,
        layers_frozen=0,
    )
    return RunResult(record, dev, test)


def _predictions(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    noisy = frame["label"].to_numpy() + rng.normal(0, 0.7, len(frame))
    table = frame.reset_index(names="row")[["row", "language", "label"]]
    return table.assign(prediction=noisy.astype(np.float32))
