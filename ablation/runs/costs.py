"""Keep measured costs of training in the state folder, one file for all that a cost depends on.

Another machine, number of threads, library, encoder, corpus, setting or version of the code has
another file and is measured anew. Nothing here imports torch.
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
from ablation.core.files import write_atomically
from ablation.core.state import state_folder
from ablation.runs.plan import PlannedRun
from ablation.tracking.provenance import processor

#: Variables that decide how many cores and cards torch uses on a machine.
_VARIABLES: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES")


@dataclass(frozen=True)
class Cost:
    """The cost of training on this machine.

    Attributes:
        train_token_s: Seconds for training on one token.
        predict_token_s: Seconds for predicting one token.
        memory_bytes: Peak memory of a step with the largest batch.
        cache_token_s: Seconds for one token's frozen layers, which the first run with the same
            encoder and depth computes for all of them.
        weights_bytes: Size of a run's kept weights; 0 if it was not measured.
    """

    train_token_s: float
    predict_token_s: float
    memory_bytes: int
    cache_token_s: float = 0.0
    weights_bytes: int = 0


@dataclass(frozen=True)
class Lengths:
    """Tokens of each row: `train` (rows,) of the labelled file, `test` (rows,) if there is one."""

    train: np.ndarray
    test: np.ndarray | None

    @property
    def total(self) -> int:
        """Number of tokens in both files."""
        return int(self.train.sum()) + self.test_total

    @property
    def test_total(self) -> int:
        """Number of tokens in the test file."""
        return 0 if self.test is None else int(self.test.sum())


@dataclass(frozen=True)
class MeasuredCost:
    """A cost and the corpus's tokens that it was measured with; `when` is ISO 8601, in UTC."""

    cost: Cost
    lengths: Lengths
    when: str


def cost_class(config: RunConfig) -> tuple[object, ...]:
    """Return the settings that a token's cost depends on: equal for runs that cost the same."""
    frozen = config.model.freeze_layers if config.model.frozen_tuning else None
    optimisation = config.optimisation
    return (
        *config.model.model_dump().values(),
        frozen,
        optimisation.batch_size,
        optimisation.micro_batch,
        optimisation.precision,
    )


def cost_key(run: PlannedRun, config: RunConfig, threads: int = 0) -> str:
    """Return the name of a cost's file: a digest of all that the cost depends on.

    Args:
        run: The run.
        config: Its settings.
        threads: The number of threads, if it is not the machine's own.
    """
    parts = {name: run.identity.parts[name] for name in ("data", "encoder", "code", "libraries")}
    content = [parts, cost_class(config), config.data.max_tokens, machine()]
    content += [threads] if threads else []
    return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()[:32]


def machine() -> list[object]:
    """Return what tells this machine from others that compute at another speed."""
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


def load_cost(key: str) -> MeasuredCost | None:
    """Return the cost that was kept under `key`; None if there is none, or it can't be read."""
    try:
        stored = json.loads(_file(key).read_text("utf-8"))
        test = None if stored["test"] is None else np.array(stored["test"])
        return MeasuredCost(
            Cost(**stored["cost"]), Lengths(np.array(stored["train"]), test), str(stored["when"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save_cost(key: str, measured: MeasuredCost) -> None:
    """Keep a cost under `key`. Ignore a folder that can't be written: the next plan measures."""
    lengths = measured.lengths
    content = {
        "when": measured.when,
        "cost": asdict(measured.cost),
        "train": lengths.train.tolist(),
        "test": None if lengths.test is None else lengths.test.tolist(),
    }
    file = _file(key)
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(content), durable=False)
