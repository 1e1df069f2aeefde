"""Write the settings that studies found as a profile for `ablation run --profile FILE`."""

from collections.abc import Mapping, Sequence
from typing import Any

import tomli_w
from optuna.trial import FrozenTrial, TrialState

from ablation.config.overrides import OF_VARIANT
from ablation.config.tuning_record import Tuning
from studies.space import configure
from studies.study import ResolvedSweep, is_counted
from studies.sweep import SweepResult


def profile_text(result: SweepResult, trial: FrozenTrial) -> str:
    """Return a profile of the sweep's overrides, the trial's parameters, and the tuning record."""
    resolved = result.resolved
    head = (
        f"# Trial {trial.number} of study {resolved.study_name!r}, "
        f"tuned on {', '.join(resolved.splits)} with variant {resolved.space.variant}."
    )
    flat = configure(resolved.space, resolved.overrides, trial.params, resolved.table).flat()
    chosen = {name: flat[name] for name in dict.fromkeys([*_general(resolved), *trial.params])}
    tuning = Tuning(
        study=resolved.study_name,
        splits=tuple(resolved.splits),
        fields=tuple(resolved.space.fields),
        trials={resolved.space.variant: scores_of(result)},
    )
    return f"{head}\n{_toml(chosen, {}, tuning)}"


def equal_budget_profile_text(name: str, best: Sequence[tuple[SweepResult, FrozenTrial]]) -> str:
    """Return a profile of the sweep's overrides and each variant's own best parameters.

    Args:
        name: The name of the study of all variants.
        best: The result and the best trial of each variant.
    """
    resolved = best[0][0].resolved
    head = (
        f"# Study {name!r}: every variant with the best of its own trials, "
        f"tuned on {', '.join(resolved.splits)}."
    )
    own = {result.resolved.space.variant: dict(trial.params) for result, trial in best}
    tuning = Tuning(
        study=name,
        splits=tuple(resolved.splits),
        fields=tuple(resolved.space.fields),
        each_its_own=True,
        trials={result.resolved.space.variant: scores_of(result) for result, _ in best},
    )
    return f"{head}\n{_toml(_general(resolved), own, tuning)}"


def scores_of(result: SweepResult) -> tuple[float, ...]:
    """Return each counted trial's development Pearson, in order; NaN for a pruned or failed one."""
    trials = [trial for trial in result.study.get_trials(deepcopy=False) if is_counted(trial)]
    return tuple(
        float(t.values[0]) if t.state == TrialState.COMPLETE and t.values else float("nan")
        for t in trials
    )


def _general(resolved: ResolvedSweep) -> dict[str, Any]:
    return {
        name: value for name, value in resolved.overrides.items() if not name.startswith(OF_VARIANT)
    }


def _toml(settings: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]], tuning: Tuning) -> str:
    tables = _by_section(settings)
    if own:
        tables["variant"] = {variant: _by_section(fields) for variant, fields in own.items()}
    return tomli_w.dumps({**tables, "tuning": tuning.model_dump()})


def _by_section(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return TOML tables; TOML has no null, so None is left out."""
    tables: dict[str, Any] = {}
    for name, value in flat.items():
        if value is not None:
            section, field = name.split(".", 1)
            tables.setdefault(section, {})[field] = value
    return tables
