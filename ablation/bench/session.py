"""Run the sections of `ablation bench` and track their table as an MLflow run."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from ablation.bench.growth import measure_growth
from ablation.bench.memory import measure_memory, measure_runs
from ablation.bench.prediction import measure_prediction
from ablation.bench.startup import measure_start_up
from ablation.bench.suite import measure_suite
from ablation.bench.table import Row, as_json, as_markdown
from ablation.bench.tracking import measure_tracking
from ablation.bench.trainer import WARM_UP_STEPS
from ablation.bench.training import measure_training
from ablation.bench.workload import Workload, make_workload
from ablation.config.overrides import load_profile, merge_overrides, resolve_config
from ablation.config.schema import RunConfig
from ablation.core.counting import counted
from ablation.core.errors import UsageError
from ablation.core.files import write_atomically
from ablation.core.slugs import slug
from ablation.core.suggest import did_you_mean
from ablation.data.corpus import Corpus, load_corpus
from ablation.runs.precision import AUTO, FIELD
from ablation.runs.request import opened_run
from ablation.tracking import names, provenance
from ablation.tracking.runs import TrackedRun, adopt_run, fail_on_error, start_run
from ablation.tracking.store import Store, experiment_id, open_store
from ablation.training.train_run import choose_device

EXPERIMENT: Final = "bench"
Echo = Callable[[str], None]


@dataclass(frozen=True)
class BenchRequest:
    """A request to measure.

    Attributes:
        sections: Names of `SECTIONS`; all if empty.
        data: A corpus: "demo" or a folder.
        profile: A shipped profile or a TOML file. By default `small` on a CPU, and on a GPU
            `paper` (XLM-R large) in bfloat16.
        encoder: The encoder; the profile's if empty.
        rows: Rows drawn from the corpus for training and prediction.
        rounds: The number of measurements of each ratio.
        overrides: Values by field that replace the profile's.
        tracking_uri: The MLflow store; the default one if None.
    """

    sections: Sequence[str] = ()
    data: str = "demo"
    profile: str = ""
    encoder: str = ""
    rows: int = 512
    rounds: int = 3
    overrides: Mapping[str, object] = field(default_factory=dict)
    tracking_uri: str | None = None


@dataclass(frozen=True)
class ResolvedBench:
    """A checked request: the sections in their order, and what they measure with."""

    request: BenchRequest
    sections: list[str]
    store: Store
    corpus: Corpus
    config: RunConfig

    @cached_property
    def workload(self) -> Workload:
        """The texts and settings of training and prediction."""
        return make_workload(self.corpus, self.config, self.request.rows)


#: In the order of the table. Training, prediction and memory use the request's corpus and profile,
#: the others the demo's.
SECTIONS: Final[dict[str, Callable[[ResolvedBench], list[Row]]]] = {
    "training": lambda s: measure_training(s.workload, s.request.rounds, frozen=False),
    "frozen": lambda s: measure_training(s.workload, s.request.rounds, frozen=True),
    "memory": lambda s: [
        *measure_memory(s.request.data, s.config, s.request.rounds),
        *measure_runs(s.request.data, s.config),
    ],
    "prediction": lambda s: measure_prediction(s.workload, s.request.rounds),
    "tracking": lambda s: measure_tracking(s.workload, s.request.rounds),
    "startup": lambda s: measure_start_up(s.request.rounds),
    "growth": lambda s: measure_growth(),
    "suite": lambda s: measure_suite("demo", "demo", 1),
}


def select_sections(names: Sequence[str]) -> list[str]:
    """Return the named sections in their order, or all for no names. Raises UsageError."""
    for name in names:
        if name not in SECTIONS:
            raise UsageError(f"unknown section {name!r}: {did_you_mean(name, SECTIONS)}")
    return [name for name in SECTIONS if name in names] or list(SECTIONS)


def resolve_bench(request: BenchRequest) -> ResolvedBench:
    """Check what can be checked without measuring. Raises UsageError."""
    if request.rounds < 1 or request.rows < 2:
        raise UsageError(
            f"bench: --rounds {request.rounds}, --rows {request.rows}: give at least 1 and 2"
        )
    if find_spec("accelerate") is None:
        raise UsageError(
            "bench: Hugging Face's Trainer needs accelerate: pip install 'ablation-suite[bench]'"
        )
    profile, by_device = (
        ("paper", {"optimisation.precision": "bfloat16"})
        if choose_device().type == "cuda"
        else ("small", {})
    )
    if request.profile:
        profile, by_device = request.profile, {}
    encoder = {"model.encoder": request.encoder} if request.encoder else {}
    settings = merge_overrides(load_profile(profile), {**by_device, **encoder, **request.overrides})
    if settings.get(FIELD) == AUTO:  # on a CPU both are measured, this suite first in float32
        settings[FIELD] = "bfloat16" if choose_device().type == "cuda" else "float32"
    config = resolve_config(settings, "mse")
    sections, corpus = select_sections(request.sections), load_corpus(request.data)
    if {"training", "frozen"} & set(sections):
        _require_timed_steps(config, min(request.rows, len(corpus.train)))
    return ResolvedBench(
        replace(request, profile=profile),
        sections,
        open_store(request.tracking_uri),
        corpus,
        config,
    )


def _require_timed_steps(config: RunConfig, rows: int) -> None:
    """Raise UsageError if the steps that are not timed take all rows."""
    untimed = WARM_UP_STEPS * config.optimisation.batch_size
    if rows <= untimed:
        raise UsageError(
            f"bench: {rows} rows to train on, of which the first {untimed} are not timed; give more"
            " --rows of a larger corpus, or a smaller --set optimisation.batch_size"
        )


def run_bench(resolved: ResolvedBench, echo: Echo, show: Callable[[list[Row]], None]) -> list[Row]:
    """Measure the sections, and track the table as a run of the experiment `bench`.

    Args:
        resolved: The checked request.
        echo: Called with a line before each section.
        show: Called with each section's rows.

    Raises:
        RunError: The contenders don't compute the same, or a command failed.
    """
    run = _open(resolved)
    rows: list[Row] = []
    with fail_on_error(run):
        for name in resolved.sections:
            echo(f"measuring: {name}")
            measured = SECTIONS[name](resolved)
            show(measured)
            rows += measured
            for row in measured:
                metric = f"bench/{row.section}/{slug(row.what.lower(), longest=80)}"
                for number, value in enumerate(row.values):
                    run.log_metrics({metric: value}, number)
        run.log_text(names.BENCH_TABLE, as_markdown(rows, caption(resolved)))
        run.log_text(names.BENCH_FIGURES, as_json(rows))
    run.end("FINISHED")
    return rows


def write(folder: Path, rows: Sequence[Row], resolved: ResolvedBench) -> None:
    """Write the table as Markdown and its figures as JSON to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / names.BENCH_TABLE, as_markdown(rows, caption(resolved)))
    write_atomically(folder / names.BENCH_FIGURES, as_json(rows))


def caption(resolved: ResolvedBench) -> str:
    """Return one line on the corpus, encoder, batches and device of the measurement."""
    request, environment = resolved.request, provenance.environment()
    device = (
        environment["cuda_device"]
        or f"{counted(environment['torch_threads'], 'thread')} of {environment['processor']}"
    )
    packages = environment["packages"]
    return (
        f"corpus {resolved.corpus.name}, encoder {resolved.config.model.encoder}, "
        f"{counted(request.rows, 'row')} at most, "
        f"batches of {resolved.config.optimisation.batch_size}, "
        f"{counted(request.rounds, 'round')}; {device}, "
        f"torch {packages['torch']}, transformers {packages['transformers']}"
    )


def _open(resolved: ResolvedBench) -> TrackedRun:
    source = provenance.source()
    tags: dict[str, object] = {
        names.KIND: names.BENCH,
        names.CORPUS: resolved.corpus.name,
        names.ENCODER: resolved.config.model.encoder,
        names.PROFILE: resolved.request.profile,
        names.COMMIT: source.commit or "none",
        names.DIRTY: str(source.dirty).lower(),
    }
    # Measured commands must not adopt the run and experiment that `mlflow run` opened for this one.
    name, opened = f"bench on {choose_device().type}", opened_run(resolved.store)
    os.environ.pop(names.MLFLOW_RUN_ID, None)
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
    run = (
        adopt_run(resolved.store, opened, name, tags)
        if opened
        else start_run(resolved.store, experiment_id(resolved.store, EXPERIMENT), name, tags)
    )
    run.log_json(names.ENVIRONMENT_FILE, provenance.environment())
    return run
