"""Values that are longer than a tag are read as they were written."""

import json
import uuid

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ablation.tracking import names
from ablation.tracking.damage import tag_problem
from ablation.tracking.long_tags import TAG_LENGTH, join_tags, split_tags
from ablation.tracking.past_runs import PastContent, create_past_run, fill_past_run
from ablation.tracking.reading import find_run
from ablation.tracking.runs import start_run
from ablation.tracking.store import experiment_id, open_store


@given(st.integers(0, 4 * TAG_LENGTH), st.integers(0, 4 * TAG_LENGTH))
@example(before=TAG_LENGTH + 1, length=TAG_LENGTH)
@example(before=3 * TAG_LENGTH, length=2 * TAG_LENGTH)
def test_every_length_is_read_again_also_after_a_longer_or_shorter_one(
    before: int, length: int
) -> None:
    values = {names.MEMBERS: "é" * length, "mlflow.runName": "x"}
    stored = split_tags({names.MEMBERS: "a" * before}) | split_tags(values)
    assert all(len(value) <= TAG_LENGTH for value in stored.values())
    assert join_tags(stored) == values


def test_what_nobody_reads_again_is_cut() -> None:
    assert split_tags({names.REASON: "x" * 9000, names.SEED: 1}) == {
        names.REASON: "x" * TAG_LENGTH,
        names.SEED: "1",
    }


@pytest.fixture
def members() -> dict[str, str]:
    return {f"variant-{i}": uuid.uuid4().hex for i in range(300)}


def test_a_value_that_fills_its_tags_replaces_a_longer_one(store_uri: str) -> None:
    store = open_store(store_uri)
    tags = {names.KIND: names.RUN, names.VARIANT: "ensemble", names.SPLIT: "dev1", names.SEED: "0"}
    run = start_run(store, experiment_id(store, "full"), "ensemble", tags)
    run.set_tags({names.MEMBERS: "a" * (TAG_LENGTH + 7)})
    run.set_tags({names.MEMBERS: "b" * TAG_LENGTH})
    run.end("FINISHED")
    assert find_run(store, run.run_id).tags[names.MEMBERS] == "b" * TAG_LENGTH


def test_an_ensemble_of_300_members_is_read_from_its_run_and_from_a_copy_of_it(
    store_uri: str, members: dict[str, str]
) -> None:
    store = open_store(store_uri)
    experiment = experiment_id(store, "many")
    tags = {names.KIND: names.RUN, names.VARIANT: "ensemble", names.SPLIT: "dev1", names.SEED: "0"}
    run = start_run(store, experiment, "ensemble", tags)
    run.set_tags({names.MEMBER_RUNS: json.dumps(members)})
    run.end("FINISHED")
    row = find_run(store, run.run_id)
    assert json.loads(row.tags[names.MEMBER_RUNS]) == members
    assert tag_problem(row.tags) == ""
    copy = create_past_run(store, experiment, row, "copy")
    fill_past_run(store, copy, PastContent(row.tags, {}, [], None, "FINISHED", 1))
    assert json.loads(find_run(store, copy).tags[names.MEMBER_RUNS]) == members
