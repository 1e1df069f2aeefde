"""Name the runs that a suite reused in its tags, however many they are, and read them back."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final

from ablation.tracking import names

#: Ids in a tag: MLflow's tags hold 8,000 characters, and longer values are cut.
_IN_A_TAG: Final = 120
_RUN_ID: Final = re.compile(r"[0-9a-f]{32}")


def reused_tags(run_ids: Sequence[str | None]) -> dict[str, object]:
    """Return the tags that name these runs: one, and one more for each further 120."""
    ids = [run for run in run_ids if run is not None]
    parts = [ids[start : start + _IN_A_TAG] for start in range(0, len(ids), _IN_A_TAG)] or [[]]
    return {names.REUSED + (f".{i}" if i else ""): json.dumps(p) for i, p in enumerate(parts)}


def reused_runs(tags: Mapping[str, str]) -> set[str]:
    """Return the ids of the runs that the suite with these tags reused.

    Version 0.1.0 cut the list after 138 ids: those are returned.
    """
    values = [value for name, value in tags.items() if name.startswith(names.REUSED)]
    return {run for value in values for run in _RUN_ID.findall(value)}
