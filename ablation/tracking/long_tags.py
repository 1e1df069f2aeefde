"""Spread values that are longer than a tag over several tags, and put them together again.

MLflow cuts a long value without an error, and half of a JSON object can't be read.
"""

from collections.abc import Mapping
from typing import Final

from ablation.tracking import names

#: Characters of a tag: MLflow's databases keep 5,000 in older versions and 8,000 in newer ones.
TAG_LENGTH: Final = 5000
#: Tags that are read again as a whole. Others, such as notes and reasons, are cut.
_WHOLE: Final = (
    names.MANIFEST,
    names.DIGESTS,
    names.RECORD,
    names.MEMBERS,
    names.MEMBER_RUNS,
    names.OWN_FIELDS,
    names.REPLACED,
    names.ENERGY,
)


def split_tags(tags: Mapping[str, object]) -> dict[str, str]:
    """Return tags of at most `TAG_LENGTH` characters: "name", "name.1", "name.2" for a long one.

    A value that fills its last part has an empty one after it, which ends it.
    """
    texts: dict[str, str] = {}
    for name, value in tags.items():
        text = str(value)
        texts[name] = text[:TAG_LENGTH]
        if name in _WHOLE:
            for number, start in enumerate(range(TAG_LENGTH, len(text) + 1, TAG_LENGTH), start=1):
                texts[f"{name}.{number}"] = text[start : start + TAG_LENGTH]
    return texts


def join_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Undo `split_tags`.

    A part that is not full is the last one: what follows it is left of an earlier, longer value.
    """
    joined = dict(tags)
    for name in _WHOLE:
        part, number = tags.get(name, ""), 0
        while len(part) == TAG_LENGTH:
            number += 1
            part = tags.get(f"{name}.{number}", "")
            joined[name] += part
        prefix = f"{name}."
        for other in [other for other in joined if other.startswith(prefix)]:
            if other.removeprefix(prefix).isdecimal():
                del joined[other]
    return joined
