"""Stored runs that were changed by hand, or by a disk."""

import pytest

from ablation.tracking import names
from ablation.tracking.damage import (
    DamagedRunError,
    artifact_digest,
    check_artifact,
    digests_of,
    tag_problem,
)

TAGS = {names.VARIANT: "mse", names.SPLIT: "dev1", names.SEED: "0"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({names.MANIFEST: '{"record.json": 2}', names.MEMBERS: '{"mse": 1}'}, ""),
        ({names.SEED: "abc"}, "ablation.seed is 'abc', no whole number"),
        ({names.SEED: "-1"}, "no whole number"),
        ({names.SEED: "\u0661"}, "no whole number"),
        ({names.SEED: ""}, "ablation.seed is missing"),
        ({names.VARIANT: ""}, "ablation.variant is missing"),
        ({names.MANIFEST: "{"}, "ablation.artifacts is no JSON object: '{'"),
        ({names.MANIFEST: "[1]"}, "is no JSON object"),
        ({names.MANIFEST: '{"record.json": "2"}'}, "no whole number for 'record.json'"),
        ({names.MEMBERS: '{"mse": null}'}, "no whole number for 'mse'"),
        ({names.MEMBER_RUNS: "mse"}, "ablation.member_runs is no JSON object"),
        ({names.DIGESTS: "7"}, "ablation.artifact_digests is no JSON object"),
    ],
)
def test_a_tag_that_cannot_be_read_is_named(changes: dict[str, str], words: str) -> None:
    problem = tag_problem(TAGS | changes)
    assert (words in problem) if words else problem == ""


def test_an_artifact_is_what_was_written_or_named() -> None:
    digests = digests_of({names.DIGESTS: f'{{"a": "{artifact_digest(b"one")}"}}'})
    assert check_artifact("run", "a", b"one", digests) == b"one"
    assert check_artifact("run", "of an older version", b"two", digests) == b"two"
    with pytest.raises(DamagedRunError, match="run 7: its artifact a was changed"):
        check_artifact("7", "a", b"two", digests)
