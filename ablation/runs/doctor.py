"""Find what dead processes left behind, and fix what can be fixed.

Every command that trains does the same for the runs that it is about to train.
"""

from collections.abc import Iterator
from pathlib import Path

from ablation.core.locks import try_lock
from ablation.core.state import checkpoints_root
from ablation.tracking.history import incomplete_runs
from ablation.tracking.orphans import end_orphans
from ablation.tracking.store import Store
from ablation.training.checkpoints import remove_corrupt


def examine(store: Store) -> Iterator[str]:
    """Yield a line for each problem in the store and in the state folder, once it is fixed."""
    for experiment in store.client.search_experiments():
        for name in end_orphans(store, experiment.experiment_id):
            yield (
                f"run {name!r} of experiment {experiment.name!r}: "
                "its process is gone; ended as KILLED"
            )
        for run_id, key in incomplete_runs(store, experiment.experiment_id):
            yield (
                f"run {run_id} ({key}): finished, but artifacts are missing or incomplete; "
                "the command that trained it will train it again"
            )
    for folder in sorted(checkpoints_root().glob("*/")):
        yield from _examine_checkpoints(folder)


def _examine_checkpoints(folder: Path) -> Iterator[str]:
    with try_lock(folder.name) as acquired:
        if not acquired:
            return  # a living process writes there
        for name in remove_corrupt(folder):
            yield f"checkpoint {folder / name}: corrupt or incomplete; removed"
        if not list(folder.glob("epoch-*.json")):
            folder.rmdir()
