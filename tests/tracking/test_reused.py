"""The runs that a suite reused are named in its tags, however many they are."""

import json
import uuid

import pytest

from ablation.tracking import names
from ablation.tracking.long_tags import TAG_LENGTH
from ablation.tracking.reused import reused_runs, reused_tags


@pytest.mark.parametrize("count", [0, 1, 120, 121, 1000])
def test_no_run_is_lost_and_no_tag_is_cut(count: int) -> None:
    ids = [uuid.uuid4().hex for _ in range(count)]
    tags = {name: str(value) for name, value in reused_tags(ids).items()}
    assert all(len(value) <= TAG_LENGTH for value in tags.values())
    assert reused_runs(tags) == set(ids)


def test_a_list_that_an_older_version_cut_is_read_as_far_as_it_goes() -> None:
    ids = [uuid.uuid4().hex for _ in range(1000)]
    cut = json.dumps(ids)[:TAG_LENGTH]
    read = reused_runs({names.REUSED: cut})
    assert read == set(ids[: len(read)])
    assert len(read) > 100
