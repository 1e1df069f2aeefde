"""Open a model by what a user calls it: a folder, a run's id, or a registered model."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ablation.core.errors import UsageError
from ablation.core.identity import RunKey
from ablation.tracking import names
from ablation.tracking.damage import tag_problem
from ablation.tracking.reading import find_run
from ablation.tracking.rows import RunRow
from ablation.tracking.store import Store, open_store

if TYPE_CHECKING:
    from ablation.models.exported import LoadedModel
    from ablation.models.kept_weights import KeptRun
    from ablation.models.predictor import Predictor

#: A run has one model, so whatever MLflow calls it says no more than the run.
_RUN: Final = re.compile(r"([0-9a-f]{32})/?|runs:/([0-9a-f]{32})(?:/[^/]+)?/?")


def run_id_of(source: str) -> str:
    """Return the id in a run's id, in MLflow's runs:/ID or runs:/ID/MODEL; empty for all else."""
    run = _RUN.fullmatch(source)
    return run[1] or run[2] if run else ""


def unknown_model(source: str) -> UsageError:
    """Return the error of a model that is no folder, no run and no registered model."""
    return UsageError(
        f"model {source!r}: no such folder; give a folder, a run as its id or runs:/ID, or"
        " models:/NAME@champion"
    )


@contextmanager
def open_model(source: str, tracking_uri: str | None = None) -> "Iterator[Predictor]":
    """Open a model to score texts with in the block.

    Args:
        source: The folder of an exported model or ensemble, the id of a finished run, whose
            weights must have been kept, alone, as "runs:/ID" or "runs:/ID/MODEL", or a registered
            model such as "models:/intimacy@champion".
        tracking_uri: The MLflow store of a run or a registered model.

    Raises:
        UsageError: There is no such model, or its weights were not kept.
    """
    from ablation.models.predictor import load_model

    folder = Path(source).expanduser()
    if folder.is_dir():
        yield load_model(folder)
    elif source.startswith("models:/"):
        from ablation.tracking.models import registered_folder

        with registered_folder(open_store(tracking_uri), source) as found:
            yield load_model(found)
    elif run := run_id_of(source):
        yield _predictor_of(open_store(tracking_uri), run)
    else:
        raise unknown_model(source)


@dataclass(frozen=True)
class KeptModel:
    """The kept weights of a run.

    Attributes:
        key: The run.
        members: The kept weights of each run that an ensemble averages; of others, of the run.
        shares: How often each of them enters the average.
    """

    key: RunKey
    members: "dict[RunKey, KeptRun]"
    shares: dict[RunKey, float]


def find_model(store: Store, run_id: str) -> KeptModel:
    """Find the kept weights of a finished run.

    Raises:
        UsageError: It is no run of one variant, split and seed, or its weights were not kept.
    """
    run = find_run(store, run_id)
    tags = run.tags
    if tags.get(names.KIND) not in (names.RUN, names.CURVE, names.TRIAL):
        raise UsageError(
            f"run {run_id}: it is a {tags.get(names.KIND, 'run of something else')}, not a run of"
            " one variant, split and seed; give one of its child runs"
        )
    if problem := tag_problem(tags):
        raise UsageError(f"run {run_id}: {problem}; train it again, or give another run")
    key = RunKey(tags[names.VARIANT], tags[names.SPLIT], int(tags[names.SEED]))
    if names.MEMBERS not in tags:
        return KeptModel(key, {key: _kept(run)}, {key: 1.0})
    shares: dict[str, int] = json.loads(tags[names.MEMBERS])
    runs: dict[str, str] = json.loads(tags[names.MEMBER_RUNS])
    keys = {name: RunKey(name, key.split, key.seed) for name in shares}
    return KeptModel(
        key,
        {keys[name]: _kept(find_run(store, runs[name])) for name in shares},
        {keys[name]: float(share) for name, share in shares.items()},
    )


def _predictor_of(store: Store, run_id: str) -> "Predictor":
    from ablation.models.exported import load_kept
    from ablation.models.predictor import Member, Predictor, place, single

    found = find_model(store, run_id)
    if len(found.members) == 1:
        return single(load_kept(next(iter(found.members.values()))))

    def loader(kept: "KeptRun") -> "Callable[[], LoadedModel]":
        return lambda: place(load_kept(kept))

    return Predictor(
        tuple(Member(loader(kept), found.shares[key]) for key, kept in found.members.items()),
        next(iter(found.members.values())).about.is_pair,
    )


def _kept(run: RunRow) -> "KeptRun":
    from ablation.models.kept_weights import find_kept

    kept = find_kept(run.tags.get(names.IDENTITY, ""))
    if kept is None:
        raise UsageError(
            f"run {run.run_id} ({run.tags.get('mlflow.runName')}): its weights were not kept on"
            " this machine; train it again with --fresh --keep all, or give the folder of an export"
        )
    return kept
