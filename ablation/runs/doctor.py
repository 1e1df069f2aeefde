"""Find what dead processes left behind, and fix what can be fixed.

Every command that trains does the same for the runs that it is about to train.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from ablation.core.counting import counted
from ablation.core.locks import try_lock
from ablation.core.state import checkpoints_root, weights_root
from ablation.encoders.cache import remove_stale_drafts
from ablation.tracking.history import incomplete_runs, past_runs
from ablation.tracking.orphans import end_orphans
from ablation.tracking.store import Store
from ablation.tracking.sync import unsent_runs
from ablation.training.checkpoints import remove_corrupt


def examine(store: Store) -> Iterator[str]:
    """Yield a line for each problem in the store and in the state folder, once it is fixed."""
    for experiment in store.client.search_experiments():
        for name in end_orphans(store, experiment.experiment_id):
            yield (
                f"run {name!r} of experiment {experiment.name!r}: "
                "its process is gone; ended as KILLED"
            )
        past = past_runs(store, experiment.experiment_id)
        for line in past.unreadable:
            yield f"experiment {experiment.name!r}: {line}"
        for run_id, key in incomplete_runs(store, past):
            yield (
                f"run {run_id} ({key}): finished, but artifacts are missing, incomplete or changed;"
                " the command that trained it will train it again"
            )
    for pending in unsent_runs(store):
        yield (
            f"{pending.folder}: {pending.server} has not received"
            f" {counted(pending.writes, 'write')} of {counted(pending.runs, 'run')}"
            f" ({pending.reason}); to send what is kept: ablation sync"
        )
    for draft in remove_stale_drafts():
        yield f"{draft}: left of an encoder that a killed process was converting; removed"
    for folder in sorted(checkpoints_root().glob("*/")):
        yield from _examine_checkpoints(folder)
    if any(weights_root().glob("*/")):
        from ablation.models.kept_weights import remove_corrupt_weights  # imports torch

        for folder in remove_corrupt_weights():
            yield f"weights {folder}: corrupt or incomplete; removed"


def describe_weights() -> str:
    """Say how many runs' weights are kept, and what they occupy; return "" if there are none."""
    sizes = [_size(folder) for folder in weights_root().glob("*/")]
    if not sizes:
        return ""
    return (
        f"kept weights: {counted(len(sizes), 'run')}, {sum(sizes) / 1e9:.2f} GB in {weights_root()}"
    )


def prune_weights(most_bytes: float) -> Iterator[str]:
    """Remove the kept weights that were written first until the rest take at most `most_bytes`."""
    folders = sorted(weights_root().glob("*/"), key=lambda folder: folder.stat().st_mtime)
    sizes = {folder: _size(folder) for folder in folders}
    total = sum(sizes.values())
    for folder in folders:
        if total <= most_bytes:
            return
        with try_lock(f"weights-{folder.name}") as acquired:
            if acquired:
                shutil.rmtree(folder, ignore_errors=True)
                total -= sizes[folder]
                yield f"weights {folder.name}: removed, {sizes[folder] / 1e6:.0f} MB"


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*"))


def _examine_checkpoints(folder: Path) -> Iterator[str]:
    if folder.is_symlink():
        yield f"checkpoints {folder}: is a symbolic link, which is not followed; remove it"
        return
    with try_lock(folder.name) as acquired:
        if not acquired:
            return  # a living process writes there
        for name in remove_corrupt(folder):
            yield f"checkpoint {folder / name}: corrupt or incomplete; removed"
        if not list(folder.glob("epoch-*.json")):
            folder.rmdir()
