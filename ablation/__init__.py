"""Run, track and compare the ablation of a multilingual tweet intimacy system.

The folders are the pipeline: `data` feeds `training` with an encoder of `encoders`; `runs` plans
and trains runs, and hands what they measure to `tracking`. The names below are the Python API;
they are imported when they are first used, so that `import ablation` takes no time.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ablation.api import bundle, compare, load_results, plan, power, report, run, unbundle
    from ablation.core.errors import RunError, UsageError
    from ablation.models.predictor import Predictor, load_model
    from ablation.runs.request import ResolvedRun, RunRequest
    from reports.build import ReportRequest
    from reports.planner import PowerRequest

__version__ = "0.2.0"

__all__ = [
    "PowerRequest",
    "Predictor",
    "ReportRequest",
    "ResolvedRun",
    "RunError",
    "RunRequest",
    "UsageError",
    "bundle",
    "compare",
    "load_model",
    "load_results",
    "plan",
    "power",
    "report",
    "run",
    "unbundle",
]

_HOMES = {
    "PowerRequest": "reports.planner",
    "Predictor": "ablation.models.predictor",
    "ReportRequest": "reports.build",
    "ResolvedRun": "ablation.runs.request",
    "RunError": "ablation.core.errors",
    "RunRequest": "ablation.runs.request",
    "UsageError": "ablation.core.errors",
    "load_model": "ablation.models.predictor",
}

# Set before torch is imported. By default its threads spin while they wait for each other; if
# another process wants one of the cores, a spinning thread keeps the one that it waits for from
# running, and a training step takes up to ten times as long (see `ablation.training.parallel`).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Products in bfloat16 are compiled for each shape, and the last 1,024 are kept by oneDNN, and as
# many by each thread of torch. Hardly any two batches have as many tokens, so that only a step's
# own are met again, in its other layers: some twenty.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
os.environ.setdefault("LRU_CACHE_CAPACITY", "64")


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES.get(name, "ablation.api")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
