"""Group the runs that may be averaged: they differ in nothing but variant, split and seed.

Runs of different data, encoders, epochs, precision, code or other settings stand in groups of
their own. Libraries are not part of it (their versions are listed with each run's origin).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ablation.config.schema import FIELDS
from ablation.config.variants import READING_ROWS, VARIANTS
from ablation.tracking import names
from reports.analysis.collect import Experiment, StoredRun, read_suite_json

#: Settings that the table's rows themselves change: they make the row, not the group. Those that
#: only a reading of the paper changes are shared by all other rows.
_OF_VARIANTS: Final = frozenset(
    field
    for name, variant in VARIANTS.items()
    if name not in READING_ROWS
    for field in variant.changes
)
SHARED_FIELDS: Final = tuple(field for field in FIELDS if field not in _OF_VARIANTS)

Key = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Group:
    """Runs that may be compared and averaged, one for each variant, split and seed.

    Attributes:
        key: What the runs share.
        runs: Ordered by variant, split and seed.
        repeats: Finished runs of the same variant, split and seed that newer ones replace.
        mixed: What the runs differ in, if mixing them was forced.
    """

    key: Key
    runs: tuple[StoredRun, ...]
    repeats: tuple[StoredRun, ...] = ()
    mixed: tuple[str, ...] = ()

    @property
    def synthetic(self) -> bool:
        return any(run.synthetic for run in self.runs)

    @property
    def splits(self) -> list[str]:
        return sorted({run.split for run in self.runs}, key=lambda s: (not s.startswith("dev1"), s))

    @property
    def variants(self) -> list[str]:
        present = {run.variant for run in self.runs}
        return [name for name in VARIANTS if name in present] + sorted(present - VARIANTS.keys())

    @property
    def seeds(self) -> list[int]:
        return sorted({run.seed for run in self.runs})


def group_runs(experiment: Experiment) -> list[Group]:
    """Group the experiment's finished runs: the newest suite's group first, then by size."""
    by_key: dict[Key, list[StoredRun]] = {}
    key_of: dict[str, Key] = {}
    trained = [run for run in experiment.finished if not run.member_runs]
    # A variant with its own encoder (the baseline), or a setting of its own (another reading of
    # the paper), joins every group that differs in that alone.
    for run in sorted(trained, key=lambda run: bool(_own_parts(run))):
        key, own = _key(run), _own_parts(run)
        key_of[run.run_id] = key
        joined = [other for other in by_key if own and _without(other, own) == _without(key, own)]
        for group_key in joined or [key]:
            by_key.setdefault(group_key, []).append(run)
    for run in (run for run in experiment.finished if run.member_runs):
        keys = {key_of[member] for member in run.member_runs.values() if member in key_of}
        by_key.setdefault(
            keys.pop() if len(keys) == 1 else (("members", "of several groups, or lost"),), []
        ).append(run)
    groups = [_latest_of(key, runs) for key, runs in by_key.items()]
    newest = _of_the_newest_suite(experiment)
    return sorted(
        groups, key=lambda g: (-len({r.run_id for r in g.runs} & newest), -len(g.runs), g.key)
    )


def pool(groups: Sequence[Group]) -> Group:
    """Pool all groups into one; of equal variant, split and seed the latest run is kept."""
    runs = sorted((run for group in groups for run in group.runs), key=lambda run: run.started)
    merged = _latest_of((), runs)
    repeats = (*merged.repeats, *(run for group in groups for run in group.repeats))
    return Group((), merged.runs, repeats, tuple(differing(groups)))


def differing(groups: Iterable[Group]) -> list[str]:
    """Return the parts of their keys in which the groups differ, in words."""
    keys = [dict(group.key) for group in groups]
    fields = dict.fromkeys(field for key in keys for field in key)
    return [
        _WORDS.get(field, field)
        for field in fields
        if len({key.get(field, "") for key in keys}) > 1
    ]


def describe(group: Group, others: Sequence[Group]) -> str:
    """Say how `group` differs from the `others`: `encoder tiny, optimisation.epochs 2`."""
    key = dict(group.key)
    different = [f for f in key if any(dict(o.key).get(f) != key[f] for o in others)]
    return (
        ", ".join(f"{_WORDS.get(f, f)} {_short(f, key[f])}" for f in different)
        or "no settings apart"
    )


_WORDS: Final = {"code": "code version", "tuning": "how the settings were found"}


def _short(field: str, value: str) -> str:
    if field == "tuning":
        return f"by study {value[:10]}" if value else "by hand"
    return value[:10] if field in ("data", "code", "encoder") else value or "unknown"


def _key(run: StoredRun) -> Key:
    parts = ((name, run.part(name)) for name in ("data", "encoder", "code", "tuning"))
    # Settings tuned for each variant make the row, not the group.
    own = json.loads(run.tags.get(names.OWN_FIELDS) or "[]")
    return (
        *parts,
        *((field, "" if field in own else run.params.get(field, "")) for field in SHARED_FIELDS),
    )


def study_key(run: StoredRun) -> Key:
    """Return what a curve study's runs must share: all but variant, seed and temperature."""
    return (
        *((field, value) for field, value in _key(run) if field != "loss.tau"),
        ("split", run.split),
    )


def _own_parts(run: StoredRun) -> frozenset[str]:
    """Return the parts of the key that the run's variant itself sets."""
    changes = VARIANTS[run.variant].changes if run.variant in VARIANTS else {}
    own = {field for field in changes if field in SHARED_FIELDS}
    return frozenset(own | {"encoder"} if "model.encoder" in changes else own)


def _without(key: Key, parts: frozenset[str]) -> Key:
    return tuple(part for part in key if part[0] not in parts)


def _latest_of(key: Key, runs: Sequence[StoredRun]) -> Group:
    latest: dict[tuple[str, str, int], StoredRun] = {}
    repeats = []
    for run in runs:
        cell = (run.variant, run.split, run.seed)
        if cell in latest:
            repeats.append(latest[cell])
        latest[cell] = run
    order = {name: i for i, name in enumerate(VARIANTS)}
    kept = sorted(
        latest.values(),
        key=lambda r: (order.get(r.variant, len(order)), r.variant, r.split, r.seed),
    )
    return Group(key, tuple(kept), tuple(repeats))


def _of_the_newest_suite(experiment: Experiment) -> set[str]:
    """Return the run ids of the newest suite: those that it trained, and those it reused."""
    for suite in reversed(experiment.suites):
        listed = read_suite_json(experiment, suite, names.OUTCOMES_FILE) or []
        ids = {str(entry["run_id"]) for entry in listed if entry.get("run_id")}
        ids |= {run.run_id for run in experiment.finished if run.suite == suite.run_id}
        if ids:
            return ids
    return set()
