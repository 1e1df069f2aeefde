"""What a command would do, before it does it: the runs asked for, and what is known of each.

Nothing is trained here and no encoder's weights are loaded.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from ablation.config.schema import RunConfig, resolve_config
from ablation.config.variants import VARIANTS
from ablation.core.identity import Identity, RunKey, code_digest, identify, libraries
from ablation.data.corpus import Corpus
from ablation.data.splits import parse_splits
from ablation.encoders.sources import encoder_digest
from ablation.tracking.history import PastRun

State = Literal["to do", "finished", "failed", "stale"]


@dataclass(frozen=True)
class PlannedRun:
    """One run of the plan. `config` is None for an ensemble, which trains nothing.

    `state`: "finished" runs are reused (`run_id` says which); "failed" and "stale" ones are
    trained again, `reason` saying what happened or what has changed since.
    """

    key: RunKey
    config: RunConfig | None
    identity: Identity
    state: State
    reason: str = ""
    run_id: str | None = None

    @property
    def is_reused(self) -> bool:
        return self.state == "finished"


def make_plan(
    corpus: Corpus,
    differences: Mapping[str, Any],
    variants: Sequence[str],
    splits: str,
    seeds: Sequence[int],
    past: Sequence[PastRun],
    *,
    intact: Callable[[PastRun], bool],
    fresh: bool = False,
    tuning: str = "",
) -> list[PlannedRun]:
    """Every run of variants x splits x seeds, trained ones first, then the ensembles over them.

    `differences` are the profile's and the command line's; `past` the experiment's runs, newest
    first; `intact` tells whether a finished one still has its artifacts, `fresh` ignores them;
    `tuning` is the digest of how the settings were found, where they were. Raises UsageError before
    anything else happens if a setting, split or encoder is not usable.
    """
    trained = [name for name in variants if not VARIANTS[name].combines_runs]
    combined = [name for name in variants if VARIANTS[name].combines_runs]
    configs = {name: resolve_config(differences, name) for name in trained}
    some_config = configs[trained[0]]
    split_names = parse_splits(splits, corpus, some_config.data.split_seed)
    encoders = {name: encoder_digest(name) for name in {c.model.encoder for c in configs.values()}}
    shared = {"data": corpus.digest, "code": code_digest(), "libraries": libraries()}
    if tuning:
        shared["tuning"] = tuning  # the same settings chosen by hand had another chance
    plan: list[PlannedRun] = []
    of_key: dict[RunKey, list[PastRun]] = {}
    for run in past:
        of_key.setdefault(run.key, []).append(run)
    for split in split_names:
        for seed in seeds:
            for name, config in configs.items():
                key = RunKey(name, split, seed)
                parts = {
                    **shared,
                    "config": config.digest(),
                    "encoder": encoders[config.model.encoder],
                }
                plan.append(
                    _planned(
                        key,
                        config,
                        identify(key, parts),
                        of_key.get(key, []),
                        None if fresh else intact,
                    )
                )
    members_of: dict[tuple[str, int], list[str]] = {}
    for planned in plan:
        members_of.setdefault((planned.key.split, planned.key.seed), []).append(
            planned.identity.digest
        )
    for split in split_names:
        for seed in seeds:
            members = members_of.get((split, seed), [])
            for name in combined:
                key = RunKey(name, split, seed)
                plan.append(
                    _planned(
                        key,
                        None,
                        ensemble_identity(key, members),
                        of_key.get(key, []),
                        None if fresh else intact,
                    )
                )
    return plan


def ensemble_identity(key: RunKey, members: Sequence[str]) -> Identity:
    """An ensemble is what its candidates are: their identities, and the code that selects."""
    return identify(key, {"code": code_digest(), "members": " ".join(sorted(members))})


def _planned(
    key: RunKey,
    config: RunConfig | None,
    identity: Identity,
    mine: Sequence[PastRun],
    intact: Callable[[PastRun], bool] | None,
) -> PlannedRun:
    """`mine` are the past runs of this key, newest first; `intact` is None where finished ones are to be ignored."""
    same = [run for run in mine if run.identity == identity.digest]
    finished = [run for run in same if run.status == "FINISHED"]
    if finished and intact is None:
        return PlannedRun(key, config, identity, "to do", "asked for afresh")
    if usable := next((run for run in finished if intact is not None and intact(run)), None):
        return PlannedRun(key, config, identity, "finished", run_id=usable.run_id)
    if finished:
        return PlannedRun(
            key, config, identity, "failed", "finished, but its artifacts are not whole any more"
        )
    if same and same[0].status == "RUNNING":
        return PlannedRun(
            key,
            config,
            identity,
            "to do",
            "marked as running: another process has it, or died with it",
        )
    if same:
        reason = f"{same[0].status.lower()}: {same[0].reason or 'no reason was recorded'}"
        return PlannedRun(key, config, identity, "failed", reason)
    if outdated := next((run for run in mine if run.status == "FINISHED"), None):
        return PlannedRun(key, config, identity, "stale", _what_changed(outdated, config, identity))
    return PlannedRun(key, config, identity, "to do")


_WHAT: Final = {
    "config": "settings",
    "data": "the data",
    "encoder": "the encoder's weights",
    "code": "the code",
    "libraries": "library versions",
    "members": "the members",
    "tuning": "how the settings were found",
}


def _what_changed(run: PastRun, config: RunConfig | None, identity: Identity) -> str:
    changed = [name for name, digest in identity.parts.items() if run.parts.get(name) != digest]
    words = []
    for name in changed:
        if name == "config" and config is not None:
            fields = [
                f"{field} {run.params[field]} -> {value}"
                for field, value in config.flat().items()
                if field in run.params and run.params[field] != str(value)
            ]
            words.append(", ".join(fields) or _WHAT[name])
        else:
            words.append(_WHAT.get(name, name))
    return "changed since: " + "; ".join(words)
