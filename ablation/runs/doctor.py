"""What processes that died left behind: named, and mended where that is possible.

Every start of an ablation does the same for the runs that it is about to train.
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
    """A line for each thing that was amiss in the store and in the state folder, as it is found and mended."""
    for experiment in store.client.search_experiments():
        for name in end_orphans(store, experiment.experiment_id):
            yield f"run {name!r} of experiment {experiment.name!r}: its process is gone; ended as KILLED"
        for run_id, key in incomplete_runs(store, experiment.experiment_id):
            yield f"run {run_id} ({key}): finished, but its artifacts are not whole; the same ablation will train it again"
    for folder in sorted(checkpoints_root().glob("*/")):
        yield from _examine_checkpoints(folder)


def _examine_checkpoints(folder: Path) -> Iterator[str]:
    with try_lock(folder.name) as mine:
        if not mine:
            return  # a living process writes there
        for name in remove_corrupt(folder):
            yield f"checkpoint {folder / name}: damaged or half written; removed"
        left = list(folder.glob("epoch-*.json"))
        if not left:
            folder.rmdir()
