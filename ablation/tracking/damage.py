"""Recognise stored runs that were changed after they were written: edited tags, flipped bytes."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from ablation.core.errors import RunError
from ablation.tracking import names

_DIGITS: Final = 16


class DamagedRunError(RunError):
    """An artifact of a run is lost, or its bytes are not those that were written."""

    def __init__(self, run_id: str, problem: str) -> None:
        self.run_id = run_id
        super().__init__(f"run {run_id}: {problem}")


def artifact_digest(content: bytes) -> str:
    """Return the digest of an artifact as `names.DIGESTS` has it."""
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


def digests_of(tags: Mapping[str, str]) -> dict[str, str]:
    """Return a run's digests by artifact path; empty for runs of versions without them."""
    return {str(path): str(digest) for path, digest in _object(tags, names.DIGESTS).items()}


def check_artifact(run_id: str, path: str, content: bytes, digests: Mapping[str, str]) -> bytes:
    """Return `content`. Raises DamagedRunError if it is not what the run wrote to `path`."""
    if path in digests and digests[path] != artifact_digest(content):
        raise DamagedRunError(
            run_id, f"its artifact {path} was changed after it was written; train the run again"
        )
    return content


def tag_problem(tags: Mapping[str, str]) -> str:
    """Say which tag of a run can't be read, in one line; empty if all can."""
    for name in (names.VARIANT, names.SPLIT, names.SEED):
        if not tags.get(name):
            return f"its tag {name} is missing"
    seed = tags[names.SEED]
    if not (seed.isascii() and seed.isdecimal()):
        return f"its tag {names.SEED} is {seed[:40]!r}, no whole number"
    for name in (names.MANIFEST, names.MEMBERS, names.MEMBER_RUNS, names.DIGESTS):
        try:
            values = _object(tags, name)
        except ValueError:
            return f"its tag {name} is no JSON object: {tags[name][:40]!r}"
        if name in (names.MANIFEST, names.MEMBERS):
            wrong = [key for key, value in values.items() if type(value) is not int]
            if wrong:
                return f"its tag {name} has no whole number for {wrong[0][:40]!r}"
    return ""


def is_manifest(text: str) -> bool:
    """Return whether the text of `names.MANIFEST` is an object of sizes."""
    try:
        sizes = _object({names.MANIFEST: text}, names.MANIFEST)
    except ValueError:
        return False
    return all(type(size) is int for size in sizes.values())


def _object(tags: Mapping[str, str], name: str) -> dict[str, Any]:
    """Read a tag that holds a JSON object; an absent one is empty. Raises ValueError."""
    value = json.loads(tags.get(name) or "{}")
    if not isinstance(value, dict):
        raise ValueError(f"{name} holds no object")
    return value
