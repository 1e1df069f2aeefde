"""What runs would take, from costs that were measured on this machine: now, or for an earlier plan.

A cost is kept in the state folder under everything that it depends on. Another machine, number of threads, library,
encoder, corpus, setting or version of the code measures anew. torch is imported only where something is measured.
"""

import contextlib
import hashlib
import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ablation.config.schema import RunConfig
from ablation.core.state import state_folder
from ablation.runs.plan import PlannedRun
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


def cost_key(run: PlannedRun, config: RunConfig) -> str:
    """The name of a cost's file: a digest of all that it depends on."""
    parts = {name: run.identity.parts[name] for name in ("data", "encoder", "code", "libraries")}
    told = [parts, cost_class(config), config.data.max_tokens, _machine()]
    return hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()[:32]


def _machine() -> list[object]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cards = sorted(card.name for card in Path("/proc/driver/nvidia/gpus").glob("*"))
    return [
        platform.node(),
        processor(),
        cores,
        cards,
        [os.environ.get(name) for name in _VARIABLES],
    ]


def _file(key: str) -> Path:
    return state_folder() / "costs" / f"{key}.json"


def load_cost(key: str) -> Measured | None:
    """A kept cost; None where there is none, or none that can be read."""
    try:
        kept = json.loads(_file(key).read_text("utf-8"))
        test = None if kept["test"] is None else np.array(kept["test"])
        return Measured(
            Cost(**kept["cost"]), Lengths(np.array(kept["train"]), test), str(kept["when"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save_cost(key: str, measured: Measured) -> None:
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
