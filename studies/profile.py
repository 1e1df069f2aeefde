"""The settings that studies found, as a profile file that `ablation run --profile FILE` takes."""

from collections.abc import Mapping, Sequence
from typing import Any

import tomli_w
from optuna.trial import FrozenTrial, TrialState

from ablation.config.schema import OF_VARIANT
from ablation.config.tuning_record import Tuning
from studies.space import configure
from studies.study import ResolvedSweep, counts
from studies.sweep import SweepResult


def profile_text(swept: SweepResult, trial: FrozenTrial) -> str:
    """What the sweep's profile changed, what the trial chose, and how it was found."""
    laid = swept.laid
    rows, variant = ", ".join(laid.splits), laid.space.variant
    head = f"# Trial {trial.number} of study {laid.study_name!r}, tuned on {rows} with variant {variant}."
    flat = configure(laid.space, laid.differences, trial.params).flat()
    chosen = {name: flat[name] for name in dict.fromkeys([*_general(laid), *trial.params])}
    tuning = Tuning(
        study=laid.study_name,
        splits=tuple(laid.splits),
        fields=tuple(laid.space.fields),
        trials={laid.space.variant: values_of(swept)},
    )
    return f"{head}\n{_toml(chosen, {}, tuning)}"


def fair_profile_text(name: str, tuned: Sequence[tuple[SweepResult, FrozenTrial]]) -> str:
    """What the sweep's profile changed, and for each variant the settings of its own best trial."""
    laid = tuned[0][0].laid
    head = f"# Study {name!r}: every variant with the best of its own trials, tuned on {', '.join(laid.splits)}."
    own = {swept.laid.space.variant: dict(trial.params) for swept, trial in tuned}
    tuning = Tuning(
        study=name,
        splits=tuple(laid.splits),
        fields=tuple(laid.space.fields),
        each_its_own=True,
        trials={swept.laid.space.variant: values_of(swept) for swept, _ in tuned},
    )
    return f"{head}\n{_toml(_general(laid), own, tuning)}"


def values_of(swept: SweepResult) -> tuple[float, ...]:
    """The development Pearson of each trial that counts, in order; NaN for a pruned or failed one."""
    trials = [trial for trial in swept.study.get_trials(deepcopy=False) if counts(trial)]
    return tuple(
        float(t.values[0]) if t.state == TrialState.COMPLETE and t.values else float("nan")
        for t in trials
    )


def _general(laid: ResolvedSweep) -> dict[str, Any]:
    return {
        name: value for name, value in laid.differences.items() if not name.startswith(OF_VARIANT)
    }


def _toml(settings: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]], tuning: Tuning) -> str:
    tables = _by_section(settings)
    if own:
        tables["variant"] = {variant: _by_section(fields) for variant, fields in own.items()}
    return tomli_w.dumps({**tables, "tuning": tuning.model_dump()})


def _by_section(flat: Mapping[str, Any]) -> dict[str, Any]:
    """TOML has no null: what is None stays away, which is what it means."""
    tables: dict[str, Any] = {}
    for name, value in flat.items():
        if value is not None:
            section, field = name.split(".", 1)
            tables.setdefault(section, {})[field] = value
    return tables
