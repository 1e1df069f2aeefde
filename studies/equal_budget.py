"""An ablation with equal budgets: each variant gets the same number of trials and runs at its best.

A space whose fields name `variant` is searched in one study per variant; their MLflow runs are
nested under one run.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

import optuna
import plotly.io

from ablation.config.variant_table import VariantTable
from ablation.config.variants import TABLE_3, load_table
from ablation.core.counting import counted
from ablation.core.errors import RunError, UsageError
from ablation.runs.runner import sigterm_as_interrupt
from ablation.tracking import names
from ablation.tracking.runs import adopt_run, reopen_run, start_run
from ablation.tracking.store import Store, experiment_id
from studies.outcome import best_trials, conclude, write_texts
from studies.profile import equal_budget_profile_text
from studies.space import load_space, variants_of
from studies.study import ResolvedSweep, SweepRequest, resolve_sweep, study_name
from studies.sweep import DEFAULT_EXPERIMENT, SweepResult, open_workers, sweep_with
from studies.trial import Echo


@dataclass(frozen=True)
class EqualBudgetResult:
    """The results by variant; `run_id` is the MLflow run above their studies."""

    name: str
    run_id: str
    store: Store
    results: Mapping[str, SweepResult]


def tunes_variants(space: str, variants: str = "") -> bool:
    """Return True if the space tunes several variants. Raises UsageError if it can't be read.

    Args:
        space: A shipped space or a TOML file.
        variants: The file of variants that the space's are rows of; the paper's table if empty.
    """
    return bool(variants_of(load_space(space, _table(variants))))


def resolve_equal_budget(request: SweepRequest) -> dict[str, ResolvedSweep]:
    """Return a study for each variant with its share of the trials, rounded up to be equal.

    Raises UsageError.
    """
    if request.objective != "pearson":
        raise UsageError(f"objective {request.objective!r}: variants are tuned for pearson alone")
    variants = variants_of(load_space(request.space, _table(request.variants)))
    share, name = math.ceil(request.trials / len(variants)), study_name(request)
    return {
        variant: resolve_sweep(
            replace(request, variant=variant, trials=share, study=f"{name}/{variant}")
        )
        for variant in variants
    }


def _table(variants: str) -> VariantTable:
    return load_table(variants) if variants else TABLE_3


def sweep_variants(request: SweepRequest, echo: Echo) -> EqualBudgetResult:
    """Run every variant's study until it has its share of the trials. Raises as `sweep` does."""
    sweeps = resolve_equal_budget(request)
    first = next(iter(sweeps.values()))
    name, began = study_name(request), monotonic()
    each = counted(first.request.trials, "trial")
    echo(f"{each} for each of {counted(len(sweeps), 'variant')}: {', '.join(sweeps)}")
    results: dict[str, SweepResult] = {}
    with sigterm_as_interrupt(), open_workers(first) as executor:
        parent = _open_run(first, name, request)
        for variant, resolved in sweeps.items():
            left = max(1.0, request.timeout - (monotonic() - began)) if request.timeout else 0.0
            nested = replace(resolved.request, parent=parent, timeout=left)
            results[variant] = sweep_with(
                replace(resolved, request=nested), executor, _prefixed(echo, variant)
            )
    return EqualBudgetResult(name, parent, first.store, results)


def conclude_equal_budget(tuned: EqualBudgetResult, folder: Path) -> None:
    """Write each variant's outcome below `folder`, best.toml and history.html, and end the runs.

    Raises RunError if a variant has no completed trial, or its study stopped before its share.
    """
    best = {variant: best_trials(result.study) for variant, result in tuned.results.items()}
    run = adopt_run(tuned.store, tuned.run_id, f"study {tuned.name}", {})
    reason = _incomplete(tuned)
    if not reason:  # what was found comes before any picture of it
        winners = [(result, best[variant][0]) for variant, result in tuned.results.items()]
        write_texts(run, folder, {"best.toml": equal_budget_profile_text(tuned.name, winners)})
    for variant, result in tuned.results.items():
        conclude(result, folder / variant)
    if reason:
        run.end("FAILED", reason)
        raise RunError(reason)
    history = optuna.visualization.plot_optimization_history(
        [result.study for result in tuned.results.values()], target_name="development Pearson"
    )
    write_texts(run, folder, {"history.html": plotly.io.to_html(history)})
    run.log_metrics(
        {
            names.metric_name(f"best_pearson/{variant}"): float(trials[0].values[0])
            for variant, trials in best.items()
        }
    )
    run.end("FINISHED")


def _incomplete(tuned: EqualBudgetResult) -> str:
    """Return why the variants can't be compared, or an empty text."""
    lacking = [v for v, result in tuned.results.items() if not best_trials(result.study)]
    if lacking:
        return f"no trial was completed for {', '.join(lacking)}"
    stopped = {v: result.stopped for v, result in tuned.results.items() if result.stopped}
    return "; ".join(f"{variant}: {reason}" for variant, reason in stopped.items())


def _prefixed(echo: Echo, variant: str) -> Echo:
    return lambda line: echo(f"{variant}: {line}")


def _open_run(resolved: ResolvedSweep, name: str, request: SweepRequest) -> str:
    """Return the id of the run above the variants' studies, found by its name or created."""
    client = resolved.store.client
    experiment = experiment_id(resolved.store, request.experiment or DEFAULT_EXPERIMENT)
    candidates = client.search_runs(
        [experiment],
        f"tags.`{names.KIND}` = '{names.STUDY}' and attributes.run_name = 'study {name}'",
    )
    for run in candidates:
        if names.PARENT not in run.data.tags:
            reopen_run(resolved.store, run.info.run_id)
            return str(run.info.run_id)
    tags = {
        names.KIND: names.STUDY,
        names.STUDY_NAME: name,
        names.CORPUS: resolved.corpus.name,
        names.PROFILE: request.profile,
        names.SYNTHETIC: str(resolved.corpus.synthetic).lower(),
        names.REFERENCE: resolved.corpus.reference or "none",
    }
    created = start_run(resolved.store, experiment, f"study {name}", tags)
    created.log_params(
        {"study": name, "space": request.space, "trials for each variant": resolved.request.trials}
    )
    created.end("FINISHED")
    reopen_run(resolved.store, created.run_id)
    return str(created.run_id)
