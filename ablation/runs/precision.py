"""Choose the precision of matrix products that this machine is fastest in."""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final, get_args

from ablation.config.schema import ALSO_ACCEPTED, Precision
from ablation.core.errors import UsageError
from ablation.core.files import write_atomically
from ablation.core.state import state_folder
from ablation.core.suggest import did_you_mean
from ablation.runs.costs import machine

FIELD: Final = "optimisation.precision"
#: The value with which a profile or the command line leaves the choice to the machine.
(AUTO,) = ALSO_ACCEPTED[FIELD]


def resolve_precision(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the precision "auto" in a profile's overrides, also in those for one variant."""
    resolved: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            resolved[name] = resolve_precision(value)
        else:
            resolved[name] = fastest_precision() if (name, value) == (FIELD, AUTO) else value
    return resolved


def parse_precision(text: str) -> Precision:
    """Return the precision that `text` names, or that "auto" means here. Raises UsageError."""
    if text == AUTO:
        return fastest_precision()
    for precision in get_args(Precision):
        if text == precision:
            named: Precision = precision
            return named
    hint = did_you_mean(text, (*get_args(Precision), AUTO))
    raise UsageError(f"--precision {text!r}: {hint}")


def fastest_precision() -> Precision:
    """Return the precision of the faster matrix products here: measured once a machine, then kept.

    A state folder that can't be written is ignored: the next command measures again.
    """
    key = json.dumps([machine(), version("torch")])
    file = state_folder() / "costs" / f"precision-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    with contextlib.suppress(OSError):
        for precision in get_args(Precision):
            if file.read_text("utf-8") == precision:
                kept: Precision = precision
                return kept
    # Imported here: torch takes seconds, and a kept choice does not need it.
    from ablation.runs.matmul_peak import bfloat16_pays
    from ablation.training.train_run import choose_device

    measured: Precision = "bfloat16" if bfloat16_pays(choose_device()) else "float32"
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, measured, durable=False)
    return measured
