"""Group the runs that may be averaged: they differ in nothing but variant, split and seed.

Runs of different data, encoders, epochs, precision, code or other settings stand in groups of
their own. Libraries are not part of it (their versions are listed with each run's origin).
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from ablation.config.schema import FIELDS
from ablation.config.variant_files import parse_table
from ablation.config.variant_table import VariantTable
from ablation.config.variants import READING_ROWS, TABLE_3
from ablation.tracking import names
from ablation.tracking.reused import reused_runs
from reports.analysis.collect import Experiment, StoredRun, read_suite_json, read_suite_text

#: Settings that the table's rows themselves change: they make the row, not the group. Those that
#: only a reading of the paper changes are shared by all other rows. Runs of later versions record
#: what their row replaced (`names.REPLACED`).
_OF_VARIANTS: Final = frozenset(
    field
    for name, variant in TABLE_3.variants.items()
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
        table: The table that the runs' variants are rows of.
    """

    key: Key
    runs: tuple[StoredRun, ...]
    repeats: tuple[StoredRun, ...] = ()
    mixed: tuple[str, ...] = ()
    table: VariantTable = TABLE_3

    @cached_property
    def synthetic(self) -> bool:
        return any(run.synthetic for run in self.runs)

    @cached_property
    def splits(self) -> list[str]:
        return sorted({run.split for run in self.runs}, key=lambda s: (not s.startswith("dev1"), s))

    @cached_property
    def variants(self) -> list[str]:
        present = {run.variant for run in self.runs}
        known = self.table.variants
        return [name for name in known if name in present] + sorted(present - known.keys())

    @cached_property
    def seeds(self) -> list[int]:
        return sorted({run.seed for run in self.runs})


def group_runs(experiment: Experiment) -> list[Group]:
    """Group the experiment's finished runs: the newest suite's group first, then by size."""
    by_key: dict[Key, list[StoredRun]] = {}
    key_of: dict[str, Key] = {}
    trained = [run for run in experiment.finished if not run.member_runs]
    tables = _tables(experiment)
    # A variant with its own encoder (the baseline), or a setting of its own (another reading of
    # the paper), joins every group that differs in that alone.
    own_parts = {run.run_id: _own_parts(run, tables) for run in trained}
    for run in sorted(trained, key=lambda run: bool(own_parts[run.run_id])):
        key, own = _key(run), own_parts[run.run_id]
        key_of[run.run_id] = key
        joined = [other for other in by_key if own and _without(other, own) == _without(key, own)]
        for group_key in joined or [key]:
            by_key.setdefault(group_key, []).append(run)
    for run in (run for run in experiment.finished if run.member_runs):
        keys = {key_of[member] for member in run.member_runs.values() if member in key_of}
        by_key.setdefault(
            keys.pop() if len(keys) == 1 else (("members", "of several groups, or lost"),), []
        ).append(run)
    groups = [
        _latest_of(key, _as_now_defined(runs), _table_of(runs, experiment, tables))
        for key, runs in by_key.items()
    ]
    newest = _of_the_newest_suite(experiment)
    return sorted(
        groups, key=lambda g: (-len({r.run_id for r in g.runs} & newest), -len(g.runs), g.key)
    )


def pool(groups: Sequence[Group]) -> Group:
    """Pool all groups into one; of equal variant, split and seed the latest run is kept."""
    runs = sorted((run for group in groups for run in group.runs), key=lambda run: run.started)
    table = _merged([group.table for group in groups], {run.variant for run in runs})
    merged = _latest_of((), runs, table)
    repeats = (*merged.repeats, *(run for group in groups for run in group.repeats))
    return Group((), merged.runs, repeats, tuple(differing(groups)), table)


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
    replaced = run.replaced
    shared = {**run.params, **(replaced or {})}
    fields = SHARED_FIELDS if replaced is None else FIELDS
    return (
        *parts,
        *((field, "" if field in own else shared.get(field, "")) for field in fields),
    )


def study_key(run: StoredRun) -> Key:
    """Return what a curve study's runs must share: all but variant, seed and temperature."""
    return (
        *((field, value) for field, value in _key(run) if field != "loss.tau"),
        ("split", run.split),
    )


def _tables(experiment: Experiment) -> dict[str, VariantTable]:
    """Return the table of each suite that was given a file of variants, by the suite's run id."""
    tables = {}
    for suite in experiment.suites:
        if names.VARIANTS_FROM not in suite.tags:
            continue
        text = read_suite_text(experiment, suite, names.VARIANTS_FILE)
        if text is not None:
            source = f"{suite.tags[names.VARIANTS_FROM]}.toml"
            tables[suite.run_id] = replace(parse_table(text, source, checked=False), text=text)
    return tables


def _table_of(
    runs: Sequence[StoredRun], experiment: Experiment, tables: Mapping[str, VariantTable]
) -> VariantTable:
    """Return the table of the newest suite that trained or reused one of the runs.

    Rows that only other suites' tables have stand below its own.
    """
    ids, suites = {run.run_id for run in runs}, {run.suite for run in runs}
    used = [
        tables.get(suite.run_id, TABLE_3)
        for suite in reversed(experiment.suites)
        if suite.run_id in suites or ids & reused_runs(suite.tags)
    ]
    return _merged(used or [TABLE_3], {run.variant for run in runs})


def _merged(tables: Sequence[VariantTable], present: Collection[str]) -> VariantTable:
    """Return the first table with the rows among `present` that only later ones have."""
    first, *others = tables
    further = {
        name: variant
        for table in (*reversed(others), TABLE_3)
        for name, variant in table.variants.items()
        if name in present and name not in first.variants
    }
    return replace(first, variants={**first.variants, **further}) if further else first


def _as_now_defined(runs: Sequence[StoredRun]) -> list[StoredRun]:
    """Leave out runs of a variant that meant something else than it does in its newest run."""
    newest = {run.variant: _definition(run) for run in sorted(runs, key=lambda run: run.started)}
    return [run for run in runs if _definition(run) == newest[run.variant]]


def _definition(run: StoredRun) -> tuple[tuple[str, str], ...]:
    """Return the settings that the run's variant replaces, with its own values."""
    return tuple(sorted((field, run.params.get(field, "")) for field in run.replaced or ()))


def _own_parts(run: StoredRun, tables: Mapping[str, VariantTable]) -> frozenset[str]:
    """Return the parts of the key that the run's variant itself sets.

    Of a run that recorded the settings that its variant replaced, the key has those.
    """
    if run.replaced is not None:
        return frozenset({"encoder"} if "model.encoder" in run.replaced else ())
    row = tables.get(run.suite, TABLE_3).variants.get(run.variant)
    changes = {} if row is None else row.changes
    own = {field for field in changes if field in SHARED_FIELDS}
    return frozenset(own | {"encoder"} if "model.encoder" in changes else own)


def _without(key: Key, parts: frozenset[str]) -> Key:
    return tuple(part for part in key if part[0] not in parts)


def _latest_of(key: Key, runs: Sequence[StoredRun], table: VariantTable) -> Group:
    latest: dict[tuple[str, str, int], StoredRun] = {}
    repeats = []
    for run in runs:
        cell = (run.variant, run.split, run.seed)
        if cell in latest:
            repeats.append(latest[cell])
        latest[cell] = run
    order = {name: i for i, name in enumerate(table.variants)}
    kept = sorted(
        latest.values(),
        key=lambda r: (order.get(r.variant, len(order)), r.variant, r.split, r.seed),
    )
    return Group(key, tuple(kept), tuple(repeats), table=table)


def _of_the_newest_suite(experiment: Experiment) -> set[str]:
    """Return the run ids of the newest suite: those that it trained, and those it reused."""
    for suite in reversed(experiment.suites):
        listed = read_suite_json(experiment, suite, names.OUTCOMES_FILE) or []
        ids = {str(entry["run_id"]) for entry in listed if entry.get("run_id")}
        ids |= {run.run_id for run in experiment.finished if run.suite == suite.run_id}
        if ids:
            return ids
    return set()
