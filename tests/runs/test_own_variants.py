"""A file of variants and a loss of one's own, from the plan to the report."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ablation
from ablation.core.errors import UsageError
from ablation.data.corpus import load_corpus
from ablation.runs.model_source import open_model
from ablation.runs.request import RunRequest, resolve_run
from ablation.tracking import names
from ablation.tracking.reading import read_frame, read_json
from ablation.tracking.store import open_store
from reports.build import ReportRequest, list_numbers, read_inputs
from reports.contents import compose
from tests.runs.test_runner import carry_out, runs_of

ROWS = """
title = "Our rows"
[base]
title = "MSE"
question = "What does plain fine-tuning reach?"
loss = { regression = "mse", contrastive = "none" }
[components.ft]
title = "FT"
model = { frozen_tuning = true }
[variants.own]
title = "Own"
question = "Is ours better?"
loss = { regression = "losses.py:own" }
optimisation = { lr_head = RATE }
compared_with = ["base"]
[claims.own]
text = "Ours is better."
better = "own"
worse = "base"
on = ["dev1", "test seen"]
"""
LOSS = """
def own(prediction, label, *, weight=None):
    r = prediction - label
    return {"near": r.abs().mean(), "far": 0.1 * r.square().mean()}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "losses.py").write_text(LOSS, "utf-8")
    file = tmp_path / "rows.toml"
    file.write_text(ROWS.replace("RATE", "0.02"), "utf-8")
    return file


@pytest.fixture
def request_(small_corpus: Path, store_uri: str, file: Path) -> RunRequest:
    return RunRequest(
        data=small_corpus,
        profile="smoke",
        variants=(file,),
        splits=("dev1",),
        overrides={"optimisation.epochs": 1, "optimisation.log_every": 1},
        tracking_uri=store_uri,
    )


def test_rows_of_a_file_are_run_tracked_and_reported(
    request_: RunRequest, file: Path, tmp_path: Path
) -> None:
    outcomes = carry_out(request_)
    assert [o.key.variant for o in outcomes] == ["base", "own", "base+ft"]
    assert {o.state for o in outcomes} == {"finished"}
    store = open_store(request_.tracking_uri)
    (suite,) = runs_of(store, names.SUITE)
    for path, content in ((names.VARIANTS_FILE, file.read_text("utf-8")), ("code/losses.py", LOSS)):
        stored = store.client.download_artifacts(suite.info.run_id, path, str(tmp_path))
        assert Path(stored).read_text("utf-8") == content
    own = store.client.get_run(outcomes[1].run_id)
    assert {"train/loss_near", "train/loss_far"} <= own.data.metrics.keys()
    assert json.loads(own.data.tags[names.REPLACED])["optimisation.lr_head"] == "0.01"
    config = read_json(store, outcomes[1].run_id, names.CONFIG_FILE)
    assert config["loss"]["regression"].startswith("losses.py:own@")

    file.unlink()  # neither report nor bundle needs it
    (tmp_path / "losses.py").unlink()
    request = ReportRequest(tracking_uri=store.uri, texts=False)
    inputs = read_inputs(request)
    assert inputs.group.variants == ["base", "own", "base+ft"]
    assert len(inputs.groups) == 1
    assert [str(step) for step in inputs.steps[::4]] == ["MSE → Own", "MSE → FT"]
    assert list(inputs.claims) == ["own"]
    assert inputs.claims["own"].verdict == "undecided"  # one seed
    report = compose(inputs)
    assert report.tables[0].title
    bundle = ablation.bundle("ablation", tmp_path / "e.zip", tracking_uri=store.uri).file
    again = list_numbers(compose(read_inputs(ReportRequest(bundle=bundle))))
    numbers = list_numbers(report)
    for table in ("table3", "steps", "claims", "effects"):
        assert [cell["text"] for cell in again[table]] == [cell["text"] for cell in numbers[table]]


def test_a_row_that_changed_its_meaning_is_another_run_and_never_averaged_with_it(
    request_: RunRequest, file: Path
) -> None:
    carry_out(replace(request_, variants=(file, "base", "own"), seeds=(0, 1)))
    file.write_text(ROWS.replace("RATE", "0.05"), "utf-8")
    changed = replace(request_, variants=(file, "base", "own"))
    plan = {str(run.key): run.state for run in resolve_run(changed).runs}
    assert plan == {"base dev1 seed 0": "finished", "own dev1 seed 0": "stale"}
    carry_out(changed)
    group = read_inputs(ReportRequest(tracking_uri=request_.tracking_uri)).group
    own = [run for run in group.runs if run.variant == "own"]
    assert [(run.seed, run.params["optimisation.lr_head"]) for run in own] == [(0, "0.05")]


PARTS = """
import torch
class pool(torch.nn.Module):
    def __init__(self, size):
        super().__init__()
        self.query = torch.nn.Linear(size, 1)
    def forward(self, hidden, mask):
        score = self.query(hidden).squeeze(-1).masked_fill(~mask, -torch.inf)
        return torch.cat([(score.softmax(-1)[..., None] * hidden).sum(1), hidden[:, 0]], -1)
def head(size):
    return torch.nn.Sequential(torch.nn.Linear(size, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
"""


def test_a_pooling_and_a_head_of_ones_own_are_trained_stored_and_kept(
    request_: RunRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts.py").write_text(PARTS, "utf-8")
    settings = {
        "model.pooling": "parts.py:pool",
        "model.head": "parts.py:head",
        "label.train_on": "0..1",  # so that the head is changed after training
    }
    request = replace(
        request_, variants=("mse",), overrides={**request_.overrides, **settings}, keep="all"
    )
    with pytest.raises(UsageError, match=r"--export: mse: .*can't be exported"):
        resolve_run(replace(request, export=tmp_path / "models"))
    (outcome,) = carry_out(request)
    store = open_store(request.tracking_uri)
    (suite,) = runs_of(store, names.SUITE)
    stored = store.client.download_artifacts(suite.info.run_id, "code/parts.py", str(tmp_path))
    assert Path(stored).read_text("utf-8") == PARTS
    assert resolve_run(request).runs[0].is_reused
    corpus = load_corpus(str(request.data))
    dev = read_frame(store, str(outcome.run_id), names.DEV_PREDICTIONS)
    with open_model(str(outcome.run_id), store.uri) as predictor:
        again = predictor.predict(corpus.train["text"].iloc[dev["row"]].tolist())
    np.testing.assert_allclose(again, dev["prediction"], atol=1e-4)
    (tmp_path / "parts.py").write_text(PARTS.replace("4", "5"), "utf-8")
    assert resolve_run(request).runs[0].state == "stale"


def test_a_loss_that_cannot_be_trained_with_stops_everything_before_it_is_written(
    request_: RunRequest, file: Path
) -> None:
    (file.parent / "losses.py").write_text("def own(p, y):\n    return p - y\n", "utf-8")
    with pytest.raises(UsageError, match=r"losses\.py:own@\w+': returned shape"):
        carry_out(request_)
    assert not runs_of(open_store(request_.tracking_uri), names.SUITE)
