"""Choose the model to use by a named rule, and register it with its weights."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ablation.core.counting import counted
from ablation.core.errors import UsageError
from ablation.runs.exporting import write_export
from ablation.runs.model_pages import page_params
from ablation.runs.model_source import find_model
from ablation.tracking import names
from ablation.tracking.models import (
    RankedRun,
    RegisteredVersion,
    champion_of,
    log_model,
    rank_runs,
    register_model,
)
from ablation.tracking.reading import read_json
from ablation.tracking.store import Store
from ablation.training.records import RunRecord

#: The rule by which a champion is chosen.
RULE: Final = "highest pooled Pearson on development rows"


@dataclass(frozen=True)
class Champion:
    """A registered version, its run, and the reason for it."""

    version: RegisteredVersion
    run_id: str
    reason: str


def register_best(store: Store, experiment: str, split: str, name: str) -> Champion:
    """Register the best run of a split whose weights were kept.

    Args:
        store: The runs' store.
        experiment: The experiment's id.
        split: The split whose development rows choose.
        name: The registered model's name.

    Returns:
        The champion. If it is the best run already, no version is added.

    Raises:
        UsageError: There is no finished run, or the best one's weights were not kept.
    """
    ranked = rank_runs(store, experiment, split)
    if not ranked:
        raise UsageError(f"no finished run of split {split!r} has a development score")
    best = ranked[0]
    if (current := champion_of(store, name)) is not None and current[1] == best.run_id:
        return Champion(current[0], best.run_id, f"still the {RULE} of {split}")
    second = f"; the next is {_scored(ranked[1])}" if len(ranked) > 1 else ""
    reason = (
        f"{RULE} of {split}: {_scored(best)}, of {counted(len(ranked), 'run')}{second}. The score"
        " is of the rows that chose, so it is too high. Test rows chose nothing."
    )
    return register_run(store, best.run_id, name, reason)


def register_run(store: Store, run_id: str, name: str, reason: str) -> Champion:
    """Log the model of a run with its weights, and register it as the champion.

    Args:
        store: The run's store.
        run_id: The run, or an ensemble.
        name: The registered model's name.
        reason: Why it is the champion; becomes the version's description.

    Raises:
        UsageError: The run's weights were not kept, or the name can't be used.
    """
    model = find_model(store, run_id)
    record = RunRecord.model_validate(read_json(store, run_id, names.RECORD_FILE))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        write_export(folder, model, record, store, run_id)
        is_pair = next(iter(model.members.values())).about.is_pair
        params = page_params(model.key, record)
        model_id = log_model(store, run_id, str(model.key), folder, params, is_pair=is_pair)
    version = register_model(store, model_id, name, reason)
    return Champion(version, run_id, reason)


def _scored(run: RankedRun) -> str:
    return f"{run.name} with {run.dev_pearson:.4f}"
