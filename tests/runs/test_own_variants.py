"""A file of variants and a loss of one's own, from the plan to the report."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import ablation
from ablation.core.errors import UsageError
from ablation.runs.request import RunRequest, resolve_run
from ablation.tracking import names
from ablation.tracking.reading import read_json
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


def test_a_loss_that_cannot_be_trained_with_stops_everything_before_it_is_written(
    request_: RunRequest, file: Path
) -> None:
    (file.parent / "losses.py").write_text("def own(p, y):\n    return p - y\n", "utf-8")
    with pytest.raises(UsageError, match=r"losses\.py:own@\w+': returned shape"):
        carry_out(request_)
    assert not runs_of(open_store(request_.tracking_uri), names.SUITE)
