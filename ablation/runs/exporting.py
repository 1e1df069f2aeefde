"""Export the models of a suite's runs from their kept weights, each with its card."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ablation.core.files import write_atomically
from ablation.core.identity import RunKey
from ablation.runs.keeping import members_of
from ablation.runs.model_source import KeptModel
from ablation.runs.results import RunOutcome
from ablation.tracking import names
from ablation.tracking.reading import read_frame
from ablation.tracking.store import Store

if TYPE_CHECKING:
    from ablation.models.card import ScoredRows
    from ablation.models.kept_weights import KeptRun
    from ablation.training.records import RunRecord


def folder_name(key: RunKey) -> str:
    """Return the name of a run's exported folder, such as "epm-dev1-seed0"."""
    return f"{key.variant}-{key.split}-seed{key.seed}".replace(":", "-")


def export_run(
    store: Store, outcome: RunOutcome, others: Mapping[RunKey, RunOutcome], root: Path
) -> str:
    """Write the model of a run, or of an ensemble with its members, to a folder below `root`.

    Args:
        store: Holds the run's predictions, for the card.
        outcome: The run; nothing is written for a failed one.
        others: The outcomes of the suite's runs, among them an ensemble's members.
        root: The folder of all exported models.

    Returns:
        "", or why the run can't be exported.
    """
    from ablation.models.kept_weights import find_kept

    record, run_id = outcome.record, outcome.run_id
    if record is None or run_id is None:
        return ""
    kept: dict[RunKey, KeptRun] = {}
    for key in members_of(outcome.key, record.members) if record.members else [outcome.key]:
        member = others[key].record if key in others else None
        found = find_kept(member.identity) if member else None
        if found is None:
            return (
                f"not exported: the weights of {key} were not kept;"
                " --fresh --keep all trains it again and keeps them"
            )
        kept[key] = found
    members = record.members or {}
    shares = {key: float(members.get(key.variant, 1)) for key in kept}
    write_export(
        root / folder_name(outcome.key), KeptModel(outcome.key, kept, shares), record, store, run_id
    )
    return ""


def write_export(
    folder: Path, model: KeptModel, record: "RunRecord", store: Store, run_id: str
) -> None:
    """Write a run's kept model to `folder`, with a card made from its stored predictions."""
    scored = read_scored(store, run_id, record)
    if record.members:
        _export_ensemble(folder, model, record, scored)
    else:
        _export_one(folder, model.members[model.key], scored)


def read_scored(store: Store, run_id: str, record: "RunRecord") -> "ScoredRows":
    """Read the predictions of a finished run. Raises RunError if the server is unreachable."""
    from ablation.models.card import ScoredRows

    dev = read_frame(store, run_id, names.DEV_PREDICTIONS)
    test = None
    if record.test is not None:  # else the test rows have no labels, or there are none
        test = read_frame(store, run_id, names.TEST_PREDICTIONS)
    return ScoredRows(dev, test)


def _export_one(folder: Path, kept: "KeptRun", scored: "ScoredRows") -> None:
    from ablation.models.card import render_card
    from ablation.models.exported import load_kept, write_model

    loaded = load_kept(kept)
    write_model(folder, loaded)
    card = render_card(kept.about, scored, prefix=loaded.prefix)
    write_atomically(folder / "README.md", card, durable=False)


def _export_ensemble(
    folder: Path, model: KeptModel, record: "RunRecord", scored: "ScoredRows"
) -> None:
    """Write each member to a folder of its own, or link the member that was exported beside it."""
    from ablation.models.card import render_card
    from ablation.models.exported import link_model, load_kept, write_ensemble, write_model

    weights: dict[str, float] = {}
    for key, kept in model.members.items():
        name = folder_name(key)
        weights[name] = model.shares[key]
        if not link_model(folder.parent / name, folder / name, kept.about):
            write_model(folder / name, load_kept(kept))
    write_ensemble(folder, weights)
    first = next(iter(model.members.values())).about
    about = first.model_copy(
        update={"variant": model.key.variant, "identity": record.identity, "best_epoch": None}
    )
    write_atomically(folder / "README.md", render_card(about, scored, weights), durable=False)
