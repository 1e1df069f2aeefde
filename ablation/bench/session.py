"""`ablation bench` from the sections asked for to a table, tracked as a run of its own."""

import difflib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from ablation.bench.growth import measure_growth
from ablation.bench.memory import measure_memory
from ablation.bench.prediction import measure_prediction
from ablation.bench.startup import measure_start_up
from ablation.bench.suite import measure_suite
from ablation.bench.table import Row, as_json, as_markdown
from ablation.bench.tracking import measure_tracking
from ablation.bench.training import measure_training
from ablation.bench.workload import Workload, make_workload
from ablation.config.schema import RunConfig, load_profile, override, resolve_config
from ablation.core.errors import UsageError
from ablation.data.corpus import Corpus, load_corpus
from ablation.tracking import names, provenance
from ablation.tracking.runs import TrackedRun, adopt_run, fail_on_error, start_run
from ablation.tracking.store import Store, experiment_id, open_store
from ablation.training.train_run import choose_device

EXPERIMENT: Final = "bench"
Echo = Callable[[str], None]


@dataclass(frozen=True)
class BenchRequest:
    """What the user asked for. `rows` are drawn from the corpus for training and prediction; ratios are taken `rounds` times.

    Without a profile it is `small` on a CPU, and on a GPU `paper` (XLM-R large) in bfloat16.
    """

    only: str = ""
    data: str = "demo"
    profile: str = ""
    encoder: str = ""
    rows: int = 512
    rounds: int = 3
    overrides: dict[str, object] = field(default_factory=dict)
    tracking_uri: str | None = None


@dataclass(frozen=True)
class ResolvedBench:
    """A request checked: the sections, and what they measure with."""

    request: BenchRequest
    sections: list[str]
    store: Store
    corpus: Corpus
    config: RunConfig

    @cached_property
    def workload(self) -> Workload:
        return make_workload(self.corpus, self.config, self.request.rows)


#: In the order of the table. Training, prediction and memory use the corpus and profile asked for, the others the demo's.
SECTIONS: Final[dict[str, Callable[[ResolvedBench], list[Row]]]] = {
    "training": lambda s: measure_training(s.workload, s.request.rounds, frozen=False),
    "frozen": lambda s: measure_training(s.workload, s.request.rounds, frozen=True),
    "memory": lambda s: measure_memory(s.request.data, s.config, s.request.rounds),
    "prediction": lambda s: measure_prediction(s.workload, s.request.rounds),
    "tracking": lambda s: measure_tracking(s.workload, s.request.rounds),
    "startup": lambda laid: measure_start_up(laid.request.rounds),
    "growth": lambda laid: measure_growth(),
    "suite": lambda s: measure_suite("demo", "demo", 1),
}


def parse_sections(text: str) -> list[str]:
    """Names from a list with commas, all for an empty one. Raises UsageError for an unknown one."""
    asked = [name.strip() for name in text.split(",") if name.strip()]
    for name in asked:
        if name not in SECTIONS:
            near = difflib.get_close_matches(name, SECTIONS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(SECTIONS)}"
            raise UsageError(f"unknown section {name!r}: {hint}")
    return [name for name in SECTIONS if name in asked] or list(SECTIONS)


def resolve_bench(request: BenchRequest) -> ResolvedBench:
    """Check what can be checked without measuring. Raises UsageError."""
    if request.rounds < 1 or request.rows < 2:
        raise UsageError("bench: --rounds from 1 on and --rows from 2 on are needed")
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
    config = resolve_config(
        override(load_profile(profile), {**by_device, **encoder, **request.overrides}), "mse"
    )
    sections, corpus = parse_sections(request.only), load_corpus(request.data)
    return ResolvedBench(
        replace(request, profile=profile),
        sections,
        open_store(request.tracking_uri),
        corpus,
        config,
    )


def run_bench(laid: ResolvedBench, tell: Echo, show: Callable[[list[Row]], None]) -> list[Row]:
    """Measure, and keep the table as a run of the experiment `bench`; `show` gets each section's rows as they come.

    Raises RunError if contenders don't compute the same.
    """
    run = _open(laid)
    rows: list[Row] = []
    with fail_on_error(run):
        for name in laid.sections:
            tell(f"measuring: {name}")
            found = SECTIONS[name](laid)
            show(found)
            rows += found
            for row in found:
                for number, value in enumerate(row.values):
                    run.log_metrics({f"bench/{row.section}/{_slug(row.what)}": value}, number)
        run.log_text(names.BENCH_TABLE, as_markdown(rows, caption(laid)))
        run.log_text(names.BENCH_FIGURES, as_json(rows))
    run.end("FINISHED")
    return rows


def write(folder: Path, rows: Sequence[Row], laid: ResolvedBench) -> None:
    """The table as Markdown and its figures as JSON, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names.BENCH_TABLE).write_text(as_markdown(rows, caption(laid)), "utf-8")
    (folder / names.BENCH_FIGURES).write_text(as_json(rows), "utf-8")


def caption(laid: ResolvedBench) -> str:
    """What was measured, on what."""
    request, environment = laid.request, provenance.environment()
    device = (
        environment["cuda_device"]
        or f"{environment['torch_threads']} threads of {environment['processor']}"
    )
    return (
        f"corpus {laid.corpus.name}, encoder {laid.config.model.encoder}, {request.rows} rows at most, "
        f"batches of {laid.config.optimisation.batch_size}, {request.rounds} rounds; {device}, "
        f"torch {environment['packages']['torch']}, transformers {environment['packages']['transformers']}"
    )


def _open(laid: ResolvedBench) -> TrackedRun:
    source = provenance.source()
    tags: dict[str, object] = {
        names.KIND: names.BENCH,
        names.CORPUS: laid.corpus.name,
        names.ENCODER: laid.config.model.encoder,
        names.PROFILE: laid.request.profile,
        names.COMMIT: source.commit or "none",
        names.DIRTY: str(source.dirty).lower(),
    }
    name, opened = f"bench on {choose_device().type}", os.environ.pop(names.MLFLOW_RUN_ID, None)
    # What `mlflow run` says of this run; the commands that are measured would take it for their own.
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
    run = (
        adopt_run(laid.store, opened, name, tags)
        if opened
        else start_run(laid.store, experiment_id(laid.store, EXPERIMENT), name, tags)
    )
    run.log_json(names.ENVIRONMENT_FILE, provenance.environment())
    return run


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text.lower()).strip("-")[:80]
