"""A run whose numbers go bad leaves the step behind, and it can be repeated."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from rich.console import Console

from ablation.core.errors import UsageError
from ablation.runs.progress import Progress
from ablation.runs.reproducer import BATCH, repeat
from ablation.runs.request import RunRequest, resolve_run
from ablation.runs.runner import run_plan
from ablation.tracking.store import open_store

WILD = {"optimisation.epochs": 1, "optimisation.warmup": 0, "optimisation.batch_size": 8}

TOO_FAST = {"optimisation.lr_encoder": 1e30, "optimisation.lr_head": 1e30}


def broken_run(
    corpus: Path, uri: str, variant: str, overrides: dict[str, float]
) -> tuple[MlflowClient, str, str]:
    """An ablation of one run whose numbers go bad: the store, the run's id, and its reason."""
    request = RunRequest(
        data=str(corpus),
        profile="smoke",
        variants=(variant,),
        splits=("dev1",),
        overrides=WILD | overrides,
        tracking_uri=uri,
    )
    (outcome,) = run_plan(resolve_run(request), Progress(Console(quiet=True)))
    assert outcome.state == "failed"
    assert outcome.run_id
    return open_store(uri).client, outcome.run_id, outcome.reason


@pytest.mark.parametrize(
    ("variant", "overrides"),
    [
        ("mse", {**TOO_FAST, "model.dropout": 0.3}),
        ("epm+cl+ft", {**TOO_FAST, "model.freeze_layers": 2}),
    ],
)
@pytest.mark.usefixtures("threads")
def test_the_step_is_kept_and_gives_the_same_loss_again(
    variant: str, overrides: dict[str, float], small_corpus: Path, store_uri: str, tmp_path: Path
) -> None:
    client, run_id, reason = broken_run(small_corpus, store_uri, variant, overrides)
    assert "is not a finite number at step" in reason
    folder = Path(client.download_artifacts(run_id, "reproducer", str(tmp_path)))
    kept = json.loads((folder / BATCH).read_text())
    assert (
        f"at step {kept['step']} (training rows {', '.join(map(str, kept['rows'][:8]))}" in reason
    )
    assert (
        len(kept["rows"]) == len(kept["ids"]) == len(kept["labels"]) == len(kept["languages"]) == 8
    )
    assert kept["config"]["loss"]["tau"] == 0.2
    then = {name: float(value) for name, value in kept["values"].items()}
    again = repeat(folder)
    assert not all(map(math.isfinite, again.values()))
    assert again.keys() == then.keys()
    np.testing.assert_array_equal(list(again.values()), list(then.values()))


def test_the_reproducer_is_counted_among_the_runs_artifacts(
    small_corpus: Path, store_uri: str
) -> None:
    client, run_id, _ = broken_run(small_corpus, store_uri, "mse", TOO_FAST)
    manifest = json.loads(client.get_run(run_id).data.tags["ablation.artifacts"])
    assert {
        "reproducer/batch.json",
        "reproducer/weights.safetensors",
        "reproducer/state.safetensors",
    } < manifest.keys()


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_a_folder_without_one_is_named(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / BATCH).write_text(content)
    with pytest.raises(UsageError, match="holds no reproducer of a run"):
        repeat(tmp_path)
