"""Write experiments with made-up results to a real store, as the ablation writes them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from ablation.config.overrides import resolve_config
from ablation.config.variants import VARIANTS
from ablation.data.layout import CorpusLayout
from ablation.data.reference import MINT
from ablation.data.splits import LEAVE_ONE_OUT
from ablation.runs.results import log_result
from ablation.tracking import names
from ablation.tracking.runs import TrackedRun, start_run
from ablation.tracking.store import Store, experiment_id, open_store
from ablation.training.evaluation import scores
from ablation.training.records import RunRecord
from ablation.training.train_run import RunResult, epoch_table
from reports.analysis.inputs import ReportInputs
from reports.build import ReportRequest, read_inputs

SEEN, UNSEEN = ("en", "fr", "it", "zh"), ("ar", "ko")
HELD_OUT = ("it", "zh")
#: Standard deviation of the error that all models make on a row.
HARDNESS = 0.5


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


def weighted_pairs(frame: pd.DataFrame) -> pd.DataFrame:
    """A corpus with second texts, and weights from 1 to 4."""
    weight = 1.0 + np.arange(len(frame)) % 4
    return frame.assign(second_text="second " + frame["text"], weight=weight)


def predictions(frame: pd.DataFrame, noise: float, rng: np.random.Generator) -> pd.DataFrame:
    """Label plus noise: the smaller `noise`, the higher the Pearson."""
    columns = [name for name in ("row", "language", "label", "weight") if name in frame]
    table = frame[columns].copy()
    table["prediction"] = frame["label"].to_numpy() + rng.normal(0, noise, len(frame))
    return table


@dataclass(frozen=True)
class Plan:
    """A made-up experiment.

    Attributes:
        noise: By variant: the smaller, the higher its Pearson.
        splits, seeds: As in the ablation.
        rows: Rows of each language.
        labelled: Whether the test rows are.
        synthetic: Whether the corpus calls itself so.
        reference: The corpus whose printed figures apply.
        settings: Settings that differ from the defaults.
        data, code: Digests.
        curves: Training Pearson of a variant and seed at each step.
        text: Text of a row, by its language and number.
        collapsed: Variants that predict a constant.
        weighted_pairs: Whether rows are weighted pairs of texts.
        corpus_name: The corpus's name.
        layout: Its description; the paper's if None.
        epochs: Epochs whose predictions trained runs keep, equally good; none are kept for 0.
        seed: Of all noise.
    """

    noise: Mapping[str, float] = field(default_factory=lambda: {"mse": 0.6, "epm": 0.5})
    splits: Sequence[str] = ("dev1", "dev2")
    seeds: Sequence[int] = (0, 1, 2)
    rows: int = 60
    labelled: bool = True
    synthetic: bool = False
    reference: str = MINT
    settings: Mapping[str, Any] = field(default_factory=dict)
    data: str = "d" * 40
    code: str = "c" * 40
    curves: Callable[[str, int], np.ndarray] | None = None
    text: Callable[[str, int], str] | None = None
    collapsed: Sequence[str] = ()
    weighted_pairs: bool = False
    corpus_name: str = "made-up"
    layout: CorpusLayout | None = None
    epochs: int = 0
    seed: int = 0

    @property
    def variants(self) -> list[str]:
        """Trained variants, then the ensemble of them."""
        return sorted(self.noise, key=lambda v: VARIANTS[v].combines_runs)


class Suite(NamedTuple):
    """An open suite: its store, experiment and run, and the tags of its runs."""

    store: Store
    experiment: str
    run: TrackedRun
    tags: Mapping[str, object]


class Tables(NamedTuple):
    """A run's predictions on development and test rows, and its id."""

    dev: pd.DataFrame
    test: pd.DataFrame
    run_id: str = ""


def write_experiment(uri: str, *, name: str = "ablation", **wanted: Any) -> Made:
    """Write a suite whose runs predict the labels plus their variant's noise.

    Rows share their hardness among runs, so that comparisons are paired as real ones are. An
    ensemble averages the other variants' runs of its split and seed.

    Args:
        uri: The store.
        name: The experiment's name.
        wanted: Fields of `Plan`.
    """
    plan, store = Plan(**wanted), open_store(uri)
    train = corpus(plan.rows, SEEN, seed=1, text=plan.text)
    test = corpus(plan.rows, (*SEEN, *UNSEEN), seed=2, text=plan.text)
    if plan.weighted_pairs:
        train, test = weighted_pairs(train), weighted_pairs(test)
    tags: dict[str, object] = {
        names.PROFILE: "smoke",
        names.CORPUS: plan.corpus_name,
        names.SYNTHETIC: str(plan.synthetic).lower(),
        names.REFERENCE: "none" if plan.synthetic else plan.reference,
        f"{names.IDENTITY_PART}data": plan.data,
        names.COMMIT: "f" * 40,
        names.DIRTY: "false",
    }
    suite_tags = {names.KIND: names.SUITE, **tags}
    experiment = experiment_id(store, name)
    suite = start_run(store, experiment, "suite", suite_tags)
    machine = {"host": "here", "processor": "a processor", "cores": 2, "memory_bytes": 2**34}
    suite.log_json(names.ENVIRONMENT_FILE, machine)
    if plan.layout is not None:
        suite.log_json(names.CORPUS_LAYOUT, plan.layout.model_dump(mode="json"))
    suite.log_table(names.TRAIN_CORPUS, train)
    suite.log_table(names.TEST_CORPUS, test if plan.labelled else test.assign(label=np.nan))
    shared = np.random.default_rng(plan.seed)
    outcomes = []
    for split in plan.splits:
        rows = Tables(_dev_rows(split, train), test)
        hardness = [shared.normal(0, HARDNESS, len(frame)) for frame in (rows.dev, rows.test)]
        for seed in plan.seeds:
            written: dict[str, Tables] = {}
            for variant in plan.variants:
                is_ensemble = VARIANTS[variant].combines_runs
                members = dict(written) if is_ensemble else {}
                numbers = [plan.seed, seed, *variant.encode(), *split.encode()]
                rng = np.random.default_rng(numbers)
                tables = (
                    _average(members)
                    if members
                    else Tables(
                        *(
                            _add(predictions(frame, plan.noise[variant], rng), hard)
                            for frame, hard in zip(rows[:2], hardness, strict=True)
                        )
                    )
                )
                if variant in plan.collapsed:
                    tables = Tables(*(frame.assign(prediction=2.0) for frame in tables[:2]))
                run = _write_run(
                    plan,
                    Suite(store, experiment, suite, tags),
                    (variant, split, seed),
                    tables,
                    members,
                )
                written[variant] = tables._replace(run_id=run.run_id)
                title = f"{variant} {split} seed {seed}"
                outcomes.append({"run": title, "state": "finished", "run_id": run.run_id})
    suite.log_json(names.OUTCOMES_FILE, outcomes)
    suite.end("FINISHED")
    return Made(uri, name, store)


def _dev_rows(split: str, train: pd.DataFrame) -> pd.DataFrame:
    """Return every second row; all of them on Dev2 and hold, of a left-out language its own."""
    kind, _, group = split.partition(":")
    if kind == LEAVE_ONE_OUT:
        return train[train["language"] == group]
    return train if kind in ("dev2", "hold") else train.iloc[::2]


def _add(frame: pd.DataFrame, hardness: np.ndarray) -> pd.DataFrame:
    return frame.assign(prediction=frame["prediction"] + hardness)


def _average(members: Mapping[str, Tables]) -> Tables:
    """Return the mean predictions of several runs."""
    first = next(iter(members.values()))
    means = [
        pd.concat([tables[i]["prediction"] for tables in members.values()], axis=1).mean(axis=1)
        for i in (0, 1)
    ]
    return Tables(*(first[i].assign(prediction=means[i]) for i in (0, 1)))


def _write_run(
    plan: Plan,
    suite: Suite,
    cell: tuple[str, str, int],
    tables: Tables,
    members: Mapping[str, Tables],
) -> TrackedRun:
    """Write a run with its record, predictions, distances and curve; `cell` is its variant, ..."""
    variant, split, seed = cell
    is_trained = not members
    own = {names.KIND: names.RUN, names.VARIANT: variant, names.SPLIT: split, names.SEED: seed}
    run = start_run(
        suite.store,
        suite.experiment,
        f"{variant} {split} {seed}",
        {**own, names.IDENTITY: "i", names.ENCODER: "tiny", **suite.tags},
        parent=suite.run,
    )
    if is_trained:
        config = variant.encode().hex()
        parts = {"code": plan.code, "encoder": "e" * 40, "config": config, "libraries": "numpy=1"}
        run.set_tags({f"{names.IDENTITY_PART}{k}": v for k, v in parts.items()})
        settings = dict(plan.settings)
        run.log_params(resolve_config(settings, variant).flat())
    else:
        ids = {name: tables.run_id for name, tables in members.items()}
        run.set_tags({names.MEMBER_RUNS: json.dumps(ids), f"{names.IDENTITY_PART}members": "m"})
    kind, _, group = split.partition(":")
    unseen = {"dev2": HELD_OUT, "hold": HELD_OUT, LEAVE_ONE_OUT: (group,)}.get(kind, ())
    frozen = "ft" in variant
    trained = {
        "best_epoch": 2,
        "seconds": 10.0 + seed,
        "tokens_per_second": 1000.0,
        "layers_total": 4,
        "layers_frozen": 2 if frozen else 0,
    }
    record = RunRecord(
        variant=variant,
        split=split,
        seed=seed,
        identity="i",
        collapsed=bool(tables.dev["prediction"].nunique() == 1),
        unseen_in_training=unseen,
        dev=scores(tables.dev, [x for x in SEEN if x not in unseen]),
        test=scores(tables.test, SEEN) if plan.labelled else None,
        members=dict.fromkeys(members, 1) or None,
        parameters_total=100,
        parameters_trainable=50 if frozen else 100,
        **(trained if is_trained else dict.fromkeys(trained)),
    )
    test = tables.test if plan.labelled else tables.test.assign(label=np.nan)
    distances = _distances() if is_trained else None
    epochs = _epochs(plan, cell, tables.dev) if is_trained and plan.epochs else None
    log_result(run, RunResult(record, tables.dev, test, distances=distances, epochs=epochs))
    if plan.curves is not None and is_trained:
        points = plan.curves(variant, seed)
        steps = np.arange(1, len(points) + 1)
        frame = pd.DataFrame({"step": steps, "name": "train/pearson", "value": points})
        run.log_table(names.CURVES, frame)
    run.end("FINISHED")
    return run


def _epochs(plan: Plan, cell: tuple[str, str, int], dev: pd.DataFrame) -> pd.DataFrame:
    """Return predictions of equally good epochs, the run's own last."""
    rng = np.random.default_rng([7, cell[2], *cell[0].encode(), *cell[1].encode()])
    others = [
        dev["label"].to_numpy() + rng.normal(0, np.hypot(plan.noise[cell[0]], HARDNESS), len(dev))
        for _ in range(plan.epochs - 1)
    ]
    return epoch_table(dev["row"].to_numpy(), [*others, dev["prediction"].to_numpy()])


def _distances() -> pd.DataFrame:
    """Return the KL matrix of a batch of eight rows in four languages."""
    batch = pd.DataFrame({"row": range(8), "language": np.repeat(["en", "fr", "it", "zh"], 2)})
    kl = np.abs(np.subtract.outer(range(8), range(8))) / 10.0
    return batch.join(pd.DataFrame(kl).add_prefix("kl_"))


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
