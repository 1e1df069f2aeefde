"""What runs would take, from costs that were measured on this machine: now, or for an earlier plan.

A cost is kept in the state folder under everything that it depends on. Another machine, number of threads, library,
encoder, corpus, setting or version of the code measures anew. torch is imported only where something is measured.
"""

import contextlib
import hashlib
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from ablation.config.schema import RunConfig
from ablation.core.identity import RunKey
from ablation.core.state import state_folder
from ablation.data.splits import Split, make_split
from ablation.runs.plan import PlannedRun
from ablation.runs.request import Planned, Preparations
from ablation.tracking.provenance import processor

#: What decides how many cores and cards torch uses, beside the machine.
_VARIABLES: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES")


@dataclass(frozen=True)
class Cost:
    """Seconds for one token trained and one predicted, and the peak memory of a large batch in bytes.

    `keep_token_s`: seconds for one token's frozen outputs, which the first run of a kind computes for the others.
    """

    train_token_s: float
    predict_token_s: float
    memory_bytes: int
    keep_token_s: float = 0.0


@dataclass(frozen=True)
class Lengths:
    """Tokens of each row: `train` (rows,) of the labelled file, `test` (rows,) where there is one."""

    train: np.ndarray
    test: np.ndarray | None

    @property
    def of_all(self) -> int:
        return int(self.train.sum()) + self.of_test

    @property
    def of_test(self) -> int:
        return 0 if self.test is None else int(self.test.sum())


@dataclass(frozen=True)
class Measured:
    """A cost with the tokens of the corpus that it was measured on. `when` is ISO 8601, UTC."""

    cost: Cost
    lengths: Lengths
    when: str


@dataclass(frozen=True)
class Estimates:
    """Seconds for each run that would be trained; the costs behind them, and how many of those an earlier plan had measured."""

    seconds: dict[RunKey, float]
    costs: Sequence[Measured]
    from_earlier: int

    @property
    def memory_bytes(self) -> int:
        return max((each.cost.memory_bytes for each in self.costs), default=0)

    @property
    def oldest(self) -> str:
        """When the oldest of the costs was measured, as it is read."""
        return min(each.when for each in self.costs).replace("T", " ").replace("+00:00", " UTC")


def estimate_all(planned: Planned, *, anew: bool) -> Estimates:
    """What the runs still to do would take; with `anew`, kept costs are not used. Raises UsageError as `prepare_all` does.

    A kept cost says too that the encoder could be loaded, and had the layers asked for. The run that a cost belongs
    to first also bears what it leaves to the later ones: frozen layers' outputs.
    """
    preparations = Preparations(planned.corpus)
    found: dict[str, Measured] = {}
    seconds: dict[RunKey, float] = {}
    from_earlier = 0
    for run in planned.runs:
        if run.config is None or run.is_reused:
            continue
        key, once = _name(run, run.config), 0.0
        if key not in found:
            kept = None if anew else _load(key)
            from_earlier += kept is not None
            found[key] = kept or _measure(planned, run, run.config, preparations)
            if kept is None:
                _save(key, found[key])
            once = found[key].cost.keep_token_s * found[key].lengths.of_all
        split = make_split(planned.corpus, run.key.split, run.config.data.split_seed)
        seconds[run.key] = once + run_seconds(found[key].lengths, run.config, split, found[key].cost)
    return Estimates(seconds, list(found.values()), from_earlier)


def run_seconds(lengths: Lengths, config: RunConfig, split: Split, cost: Cost) -> float:
    """What one run takes: all epochs with their development rows, and the test rows once."""
    epochs = config.optimisation.epochs
    trained = epochs * lengths.train[split.train].sum()
    predicted = epochs * lengths.train[split.dev].sum() + lengths.of_test
    return float(trained * cost.train_token_s + predicted * cost.predict_token_s)


def cost_class(config: RunConfig) -> tuple[object, ...]:
    """Runs with equal classes cost the same for each token."""
    frozen = config.model.freeze_layers if config.model.frozen_tuning else None
    optimisation = config.optimisation
    return (
        *config.model.model_dump().values(),
        frozen,
        optimisation.batch_size,
        optimisation.micro_batch,
        optimisation.precision,
    )


def _measure(planned: Planned, run: PlannedRun, config: RunConfig, preparations: Preparations) -> Measured:
    from ablation.runs.estimate import measure
    from ablation.training.train_run import check_depth

    prepared = preparations.get(config)
    check_depth(config.model, prepared)
    split = make_split(planned.corpus, run.key.split, config.data.split_seed)
    when = datetime.now(UTC).isoformat(timespec="minutes")
    test = None if prepared.test is None else prepared.test.lengths
    return Measured(measure(prepared, config, split), Lengths(prepared.train.lengths, test), when)


def _name(run: PlannedRun, config: RunConfig) -> str:
    """The name of a cost's file: a digest of all that it depends on."""
    parts = {name: run.identity.parts[name] for name in ("data", "encoder", "code", "libraries")}
    told = [parts, cost_class(config), config.data.max_tokens, _machine()]
    return hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()[:32]


def _machine() -> list[object]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cards = sorted(card.name for card in Path("/proc/driver/nvidia/gpus").glob("*"))
    return [platform.node(), processor(), cores, cards, [os.environ.get(name) for name in _VARIABLES]]


def _file(key: str) -> Path:
    return state_folder() / "costs" / f"{key}.json"


def _load(key: str) -> Measured | None:
    """A kept cost; None where there is none, or none that can be read."""
    try:
        kept = json.loads(_file(key).read_text("utf-8"))
        test = None if kept["test"] is None else np.array(kept["test"])
        return Measured(Cost(**kept["cost"]), Lengths(np.array(kept["train"]), test), str(kept["when"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _save(key: str, measured: Measured) -> None:
    """Keep it, whole or not at all. A plan that can't is as good: the next one measures again."""
    lengths = measured.lengths
    content = {
        "when": measured.when,
        "cost": asdict(measured.cost),
        "train": lengths.train.tolist(),
        "test": None if lengths.test is None else lengths.test.tolist(),
    }
    file = _file(key)
    draft = file.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(content), "utf-8")
        draft.replace(file)
