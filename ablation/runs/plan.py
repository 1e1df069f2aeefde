"""Decide for each requested run if it is trained or reused, and why.

Nothing is trained here and no encoder's weights are loaded.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Final, Literal

from ablation.config.overrides import replaced_by_row, resolve_config
from ablation.config.schema import RunConfig
from ablation.config.variant_table import VariantTable
from ablation.config.variants import TABLE_3
from ablation.core.errors import UsageError
from ablation.core.identity import Identity, RunKey, code_digest, identify, libraries
from ablation.core.locks import require_locks
from ablation.data.corpus import Corpus
from ablation.data.splits import make_split, select_splits
from ablation.encoders.cache import ENVIRONMENT_VARIABLE, cache_folder
from ablation.encoders.sources import encoder_digest
from ablation.tracking.history import PastRun

#: Readings of Eq. 9, whose pairs are of one and of two groups.
_ACROSS_GROUPS: Final = ("as_printed", "attract")

State = Literal["to do", "finished", "failed", "stale"]


@dataclass(frozen=True)
class RunGrid:
    """The runs of a plan: every variant of `table` on every split with every seed."""

    variants: Sequence[str]
    splits: Sequence[str]
    seeds: Sequence[int]
    table: VariantTable = TABLE_3


@dataclass(frozen=True)
class History:
    """The runs of an experiment, newest first.

    `is_intact` checks a finished run's artifacts, `has_weights` tells if the weights of an identity
    were kept.
    """

    runs: Sequence[PastRun]
    is_intact: Callable[[PastRun], bool]
    has_weights: Callable[[str], bool] | None = None


@dataclass(frozen=True)
class PlannedRun:
    """One run of the plan. `config` is None for an ensemble, which trains nothing.

    A "finished" run is reused, as `run_id`. A "failed" or "stale" one is trained again, and
    `reason` says what happened or what has changed since. `replaced` are the settings that the
    variant replaces, as they would be without it. `weights_of` is a run that differs in the test
    rows alone, and whose kept weights predict the new ones instead of a training.
    """

    key: RunKey
    config: RunConfig | None
    identity: Identity
    state: State
    reason: str = ""
    run_id: str | None = None
    replaced: Mapping[str, str] = field(default_factory=dict)
    weights_of: PastRun | None = None

    @property
    def is_reused(self) -> bool:
        return self.state == "finished"


def digest_encoders(encoders: Iterable[str]) -> dict[str, str]:
    """Return the digest of each encoder's files by its name.

    Raises:
        RunError: Processes can't lock the folder in which encoders are made.
        UsageError: An encoder can't be used.
    """
    require_locks(cache_folder(), f"set {ENVIRONMENT_VARIABLE} to a folder on one with locks")
    return {encoder: encoder_digest(encoder) for encoder in encoders}


def make_plan(
    corpus: Corpus,
    settings: Mapping[str, Any],
    grid: RunGrid,
    history: History,
    *,
    fresh: bool = False,
    more_parts: Mapping[str, str] | None = None,
) -> list[PlannedRun]:
    """Plan every run of the grid: trained ones first, then the ensembles over them.

    Args:
        corpus: The data.
        settings: Fields of the profile and of the command line by dotted name.
        grid: Which runs.
        history: The runs that the experiment already has.
        fresh: Reuse nothing.
        more_parts: Further parts of the identities of trained runs: "tuning", the digest of how a
            study found the settings, and "threads".

    Raises:
        UsageError: A setting, split or encoder can't be used.
    """
    rows = grid.table.variants
    trained = [name for name in grid.variants if not rows[name].combines_runs]
    combined = [name for name in grid.variants if rows[name].combines_runs]
    configs = {name: resolve_config(settings, name, grid.table) for name in trained}
    replaced = {name: replaced_by_row(settings, name, grid.table) for name in trained}
    data = configs[trained[0]].data
    splits = select_splits(grid.splits, corpus, data.split_seed, data.equal_texts)
    check_groups(corpus, configs, splits)
    encoders = digest_encoders({config.model.encoder for config in configs.values()})
    shared = {"data": corpus.digest, "code": code_digest(), "libraries": libraries()}
    # Settings that a study found had more chances than chosen ones.
    shared |= more_parts or {}
    past: dict[RunKey, list[PastRun]] = {}
    for run in history.runs:
        past.setdefault(run.key, []).append(run)

    def planned(key: RunKey, config: RunConfig | None, identity: Identity) -> PlannedRun:
        run = _decide(
            PlannedRun(key, config, identity, "to do", replaced=replaced.get(key.variant, {})),
            past.get(key, []),
            None if fresh else history.is_intact,
        )
        if run.state != "stale" or config is None or history.has_weights is None:
            return run
        return _with_weights(run, past[key], corpus.train_digest, history)

    parts = {
        name: shared | {"config": config.digest(), "encoder": encoders[config.model.encoder]}
        for name, config in configs.items()
    }
    plan: list[PlannedRun] = []
    for split, seed, (name, config) in product(splits, grid.seeds, configs.items()):
        key = RunKey(name, split, seed)
        plan.append(planned(key, config, identify(key, parts[name])))
    members: dict[tuple[str, int], list[str]] = {}
    for member in plan:
        group = members.setdefault((member.key.split, member.key.seed), [])
        group.append(member.identity.digest)
    for split, seed, name in product(splits, grid.seeds, combined):
        key = RunKey(name, split, seed)
        plan.append(planned(key, None, ensemble_identity(key, members.get((split, seed), []))))
    return plan


def check_groups(corpus: Corpus, configs: Mapping[str, RunConfig], splits: Sequence[str]) -> None:
    """Raise UsageError for a language-contrastive loss on a split that trains on one group.

    Eq. 9 has no value there, so such a run would silently be one without the loss.
    """
    contrastive = [n for n, c in configs.items() if c.loss.contrastive in _ACROSS_GROUPS]
    if not contrastive:
        return
    others = [name for name in configs if name not in contrastive]
    instead = f"--variants {','.join(others)}" if others else "a loss without it"
    data = configs[contrastive[0]].data
    problems = []
    for name in splits:
        rows = make_split(corpus, name, data.split_seed, data.equal_texts).train
        if corpus.train["language"].iloc[rows].nunique() < 2:
            problems.append(
                f"split {name!r} trains on one group, and the language-contrastive loss of"
                f" {', '.join(contrastive)} needs two: use {instead}"
            )
    if problems:
        raise UsageError(problems)


def ensemble_identity(key: RunKey, members: Sequence[str]) -> Identity:
    """Identify an ensemble by the identities of its candidates and the code that selects."""
    return identify(key, {"code": code_digest(), "members": " ".join(sorted(members))})


def _decide(
    run: PlannedRun, past: Sequence[PastRun], is_intact: Callable[[PastRun], bool] | None
) -> PlannedRun:
    """Set the run's state. `past` has its key, newest first; without `is_intact` reuse nothing."""
    same = [other for other in past if other.identity == run.identity.digest]
    finished = [other for other in same if other.status == "FINISHED"]
    if finished and is_intact is None:
        return replace(run, reason="trained again, as requested")
    if usable := next((other for other in finished if is_intact and is_intact(other)), None):
        return replace(run, state="finished", run_id=usable.run_id)
    if finished:
        reason = "finished, but artifacts are missing, incomplete or changed"
        return replace(run, state="failed", reason=reason)
    if same and same[0].status == "RUNNING":
        return replace(run, reason="marked as running: another process is training it, or died")
    if same:
        reason = f"{same[0].status.lower()}: {same[0].reason or 'no reason was recorded'}"
        return replace(run, state="failed", reason=reason)
    if outdated := next((other for other in past if other.status == "FINISHED"), None):
        return replace(run, state="stale", reason=_what_changed(outdated, run))
    return run


def _with_weights(
    run: PlannedRun, past: Sequence[PastRun], train_data: str, history: History
) -> PlannedRun:
    """Add the run, if there is one, that differs in the test rows alone and has kept weights."""
    for other in past:
        differing = {n for n, d in run.identity.parts.items() if other.parts.get(n) != d}
        if (
            other.status == "FINISHED"
            and differing == {"data"}
            and other.train_data == train_data
            and history.has_weights is not None
            and history.has_weights(other.identity)
            and history.is_intact(other)
        ):
            reason = "changed since: the test rows; its kept weights predict the new ones"
            return replace(run, weights_of=other, reason=reason)
    return run


#: Words for the parts of an identity.
_PARTS: Final = {
    "config": "settings",
    "data": "the data",
    "encoder": "the encoder's weights",
    "code": "the code",
    "libraries": "library versions",
    "members": "the members",
    "tuning": "how the settings were found",
    "threads": "the number of threads",
}


def _what_changed(past: PastRun, run: PlannedRun) -> str:
    parts = run.identity.parts
    changed = [name for name, digest in parts.items() if past.parts.get(name) != digest]
    words = [
        (_changed_fields(past, run.config) if name == "config" else "") or _PARTS.get(name, name)
        for name in changed
    ]
    return "changed since: " + ("; ".join(words) or "its tags")


def _changed_fields(past: PastRun, config: RunConfig | None) -> str:
    """List the settings that differ, such as "loss.tau 0.2 -> 0.5"."""
    fields = {} if config is None else config.flat()
    return ", ".join(
        f"{field} {past.params[field]} -> {value}"
        for field, value in fields.items()
        if field in past.params and past.params[field] != str(value)
    )
