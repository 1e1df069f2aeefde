"""Write experiments with made-up results to a real store, as the ablation writes them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ablation.config.overrides import resolve_config
from ablation.config.variants import VARIANTS
from ablation.runs.results import log_result
from ablation.tracking import names
from ablation.tracking.runs import TrackedRun, start_run
from ablation.tracking.store import Store, experiment_id, open_store
from ablation.training.evaluation import scores
from ablation.training.records import RunRecord
from ablation.training.train_run import RunResult
from reports.analysis.inputs import ReportInputs
from reports.build import ReportRequest, read_inputs

SEEN, UNSEEN = ("en", "fr", "it", "zh"), ("ar", "ko")
HELD_OUT = ("it", "zh")


@dataclass(frozen=True)
class Made:
    """An experiment that was made up: its store and name."""

    uri: str
    name: str
    store: Store

    def request(self, **more: Any) -> ReportRequest:
        return ReportRequest(experiment=self.name, tracking_uri=self.uri, **more)

    def inputs(self, **more: Any) -> ReportInputs:
        return read_inputs(self.request(**more))


def corpus(
    rows: int, languages: Sequence[str], *, seed: int, text: Callable[[str, int], str] | None = None
) -> pd.DataFrame:
    """`rows` of each language; labels from 1 to 5, most of them low."""
    rng = np.random.default_rng(seed)
    language = np.repeat(languages, rows)
    label = np.clip(1 + rng.exponential(1.0, len(language)), 1, 5).round(2)
    texts = [text(x, i) if text else f"{x} text {i}" for i, x in enumerate(language)]
    return pd.DataFrame(
        {"row": np.arange(len(language)), "text": texts, "label": label, "language": language}
    )


def predictions(frame: pd.DataFrame, noise: float, rng: np.random.Generator) -> pd.DataFrame:
    """Label plus noise: the smaller `noise`, the higher the Pearson."""
    table = frame[["row", "language", "label"]].copy()
    table["prediction"] = frame["label"].to_numpy() + rng.normal(0, noise, len(frame))
    return table


def write_experiment(
    uri: str,
    *,
    name: str = "ablation",
    noise: Mapping[str, float] = {"mse": 0.6, "epm": 0.5},
    splits: Sequence[str] = ("dev1", "dev2"),
    seeds: Sequence[int] = (0, 1, 2),
    rows: int = 60,
    labelled: bool = True,
    synthetic: bool = False,
    settings: Mapping[str, Any] | None = None,
    data: str = "d" * 40,
    code: str = "c" * 40,
    curves: Callable[[str, int], np.ndarray] | None = None,
    text: Callable[[str, int], str] | None = None,
    collapsed: Sequence[str] = (),
    seed: int = 0,
) -> Made:
    """Write a suite whose runs predict the labels plus their variant's `noise`.

    Rows share their hardness among runs, so that comparisons are paired as real ones are. An
    ensemble averages the other variants' runs of its split and seed.
    """
    store = open_store(uri)
    experiment = experiment_id(store, name)
    train, test = (
        corpus(rows, SEEN, seed=1, text=text),
        corpus(rows, (*SEEN, *UNSEEN), seed=2, text=text),
    )
    tags: dict[str, object] = {
        names.PROFILE: "smoke",
        names.CORPUS: "made-up",
        names.SYNTHETIC: str(synthetic).lower(),
        f"{names.IDENTITY_PART}data": data,
        names.COMMIT: "f" * 40,
        names.DIRTY: "false",
    }
    suite = start_run(store, experiment, "suite", {names.KIND: names.SUITE, **tags})
    suite.log_json(
        names.ENVIRONMENT_FILE,
        {"host": "here", "processor": "a processor", "cores": 2, "memory_bytes": 2**34},
    )
    suite.log_table(names.TRAIN_CORPUS, train)
    suite.log_table(names.TEST_CORPUS, test if labelled else test.assign(label=np.nan))
    shared = np.random.default_rng(seed)
    outcomes = []
    for split in splits:
        dev = train if split.startswith("dev2") else train.iloc[::2]
        hard = {"dev": shared.normal(0, 0.5, len(dev)), "test": shared.normal(0, 0.5, len(test))}
        for each in seeds:
            tables: dict[str, tuple[pd.DataFrame, pd.DataFrame, str]] = {}
            for variant in (
                *[v for v in noise if not VARIANTS[v].combines_runs],
                *[v for v in noise if VARIANTS[v].combines_runs],
            ):
                rng = np.random.default_rng([seed, each, *variant.encode(), *split.encode()])
                members: dict[str, str] = {}
                if VARIANTS[variant].combines_runs:
                    members = {v: run_id for v, (_, _, run_id) in tables.items()}
                    mean = [
                        pd.concat([t[k]["prediction"] for t in tables.values()], axis=1).mean(
                            axis=1
                        )
                        for k in (0, 1)
                    ]
                    first = next(iter(tables.values()))
                    pair = first[0].assign(prediction=mean[0]), first[1].assign(prediction=mean[1])
                else:
                    pair = tuple(
                        predictions(f, noise[variant], rng).assign(
                            prediction=lambda t, h=hard[k]: t["prediction"] + h
                        )
                        for k, f in (("dev", dev), ("test", test))
                    )
                if variant in collapsed:
                    pair = tuple(frame.assign(prediction=2.0) for frame in pair)
                run = _write_run(
                    store,
                    experiment,
                    suite,
                    tags,
                    variant,
                    split,
                    each,
                    pair,
                    members,
                    labelled,
                    settings,
                    code,
                )
                if curves is not None and not members:
                    points = curves(variant, each)
                    frame = pd.DataFrame(
                        {
                            "step": np.arange(1, len(points) + 1),
                            "name": "train/pearson",
                            "value": points,
                        }
                    )
                    run.log_table(names.CURVES, frame)
                run.end("FINISHED")
                tables[variant] = (*pair, run.run_id)
                outcomes.append(
                    {
                        "run": f"{variant} {split} seed {each}",
                        "state": "finished",
                        "run_id": run.run_id,
                    }
                )
    suite.log_json(names.OUTCOMES_FILE, outcomes)
    suite.end("FINISHED")
    return Made(uri, name, store)


def _write_run(
    store: Store,
    experiment: str,
    suite: TrackedRun,
    tags: Mapping[str, object],
    variant: str,
    split: str,
    seed: int,
    pair: tuple[pd.DataFrame, ...],
    members: Mapping[str, str],
    labelled: bool,
    settings: Mapping[str, Any] | None,
    code: str,
) -> TrackedRun:
    dev, test = pair
    unseen = HELD_OUT if split.startswith("dev2") else ()
    parts = {
        "code": code,
        "encoder": "e" * 40,
        "config": variant.encode().hex(),
        "libraries": "numpy=1",
    }
    run = start_run(
        store,
        experiment,
        f"{variant} {split} {seed}",
        {
            names.KIND: names.RUN,
            names.VARIANT: variant,
            names.SPLIT: split,
            names.SEED: seed,
            names.IDENTITY: "i",
            names.ENCODER: "tiny",
            **tags,
            **({} if members else {f"{names.IDENTITY_PART}{k}": v for k, v in parts.items()}),
        },
        parent=suite,
    )
    if members:
        run.set_tags(
            {names.MEMBER_RUNS: json.dumps(dict(members)), f"{names.IDENTITY_PART}members": "m"}
        )
    else:
        run.log_params(
            resolve_config({"model.encoder": "tiny", **(settings or {})}, variant).flat()
        )
    record = RunRecord(
        variant=variant,
        split=split,
        seed=seed,
        identity="i",
        best_epoch=None if members else 2,
        collapsed=bool(dev["prediction"].nunique() == 1),
        unseen_in_training=unseen,
        dev=scores(dev, [x for x in SEEN if x not in unseen]),
        test=scores(test, SEEN) if labelled else None,
        members=dict.fromkeys(members, 1) or None,
        seconds=None if members else 10.0 + seed,
        tokens_per_second=None if members else 1000.0,
        parameters_total=100,
        parameters_trainable=50 if "ft" in variant else 100,
        layers_total=None if members else 4,
        layers_frozen=None if members else (2 if "ft" in variant else 0),
    )
    kl = pd.DataFrame(
        {"row": range(8), "language": ["en", "en", "fr", "fr", "it", "it", "zh", "zh"]}
    )
    distances = kl.join(
        pd.DataFrame(np.abs(np.subtract.outer(range(8), range(8))) / 10.0).add_prefix("kl_")
    )
    shown_test = test if labelled else test.assign(label=np.nan)
    log_result(run, RunResult(record, dev, shown_test, distances=None if members else distances))
    return run


@pytest.fixture
def experiment(store_uri: str) -> Callable[..., Made]:
    """Return `write_experiment` into a fresh store; call it again for another suite in it."""

    def make(**wanted: Any) -> Made:
        return write_experiment(store_uri, **wanted)

    return make


@pytest.fixture(scope="session")
def table_3(empty_store: Any, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Write a Table 3 with curves on which EPM is better, CL and FT do nothing; read-only."""
    import shutil

    uri = f"sqlite:///{shutil.copy(empty_store, tmp_path_factory.mktemp('table3') / 'mlflow.db')}"
    noise = {
        "mse": 1.2,
        "epm": 0.3,
        "epm+cl": 0.3,
        "epm+ft": 0.3,
        "epm+cl+ft": 0.3,
        "mse+cl": 1.2,
        "ensemble": 0.0,
    }
    return write_experiment(
        uri,
        noise=noise,
        seeds=(0, 1, 2),
        rows=40,
        curves=lambda variant, seed: (
            0.9 - np.exp(-np.arange(1, 21) / (3 if "epm" in variant else 6)) + 0.001 * seed
        ),
    )


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip figures and pages, for tests of a report's numbers."""
    for name in ("plotting.fix_layout", "plotting.save", "write_pdf", "write_html"):
        monkeypatch.setattr(f"reports.build.{name}", lambda *_, **__: None)
