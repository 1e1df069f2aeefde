"""A fair ablation: every row of the table gets the same number of trials, and is then run at its own best.

A space whose fields name `variant` is searched in one study for each variant, all below one MLflow run.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

import optuna
import plotly.io

from ablation.core.errors import RunError, UsageError
from ablation.tracking import names
from ablation.tracking.runs import adopt_run, reopen_run, start_run
from ablation.tracking.store import Store, experiment_id
from studies.outcome import best_trials, conclude
from studies.profile import fair_profile_text
from studies.space import load_space, variants_of
from studies.study import ResolvedSweep, SweepRequest, name_of, resolve_sweep
from studies.sweep import SweepResult, sweep
from studies.trial import Echo


@dataclass(frozen=True)
class EqualBudgetResult:
    """All variants after their sweeps: `swept` by variant; `run_id` is the MLflow run above them."""

    name: str
    run_id: str
    store: Store
    swept: Mapping[str, SweepResult]


def is_fair(space: str) -> bool:
    """Whether the space tunes several variants. Raises UsageError if it can't be read."""
    return bool(variants_of(load_space(space)))


def lay_out_fairly(request: SweepRequest) -> dict[str, ResolvedSweep]:
    """A study for each variant, each with its share of the trials, rounded up to be equal. Raises UsageError."""
    if request.objective != "pearson":
        raise UsageError(f"objective {request.objective!r}: variants are tuned for pearson alone")
    variants = variants_of(load_space(request.space))
    share, name = math.ceil(request.trials / len(variants)), name_of(request)
    return {
        v: resolve_sweep(replace(request, variant=v, trials=share, study=f"{name}/{v}"))
        for v in variants
    }


def tune(request: SweepRequest, tell: Echo) -> EqualBudgetResult:
    """Carry every variant's study on until it has its share. Raises as `sweep` does."""
    laid = lay_out_fairly(request)
    first = next(iter(laid.values()))
    name, began = name_of(request), monotonic()
    tell(f"{first.request.trials} trials for each of {len(laid)} variants: {', '.join(laid)}")
    parent = _open_run(first, name, request)
    swept: dict[str, SweepResult] = {}
    for variant, each in laid.items():
        left = max(1.0, request.timeout - (monotonic() - began)) if request.timeout else 0.0
        mine = replace(each, request=replace(each.request, parent=parent, timeout=left))
        swept[variant] = sweep(mine, lambda line, v=variant: tell(f"{v}: {line}"))  # type: ignore[misc]
    return EqualBudgetResult(name, parent, first.store, swept)


def conclude_fairly(tuned: EqualBudgetResult, folder: Path) -> None:
    """Write each variant's outcome below `folder`, and for all of them best.toml and history.html; end the runs.

    Raises RunError if a variant has no completed trial: its row could not be run at its best.
    """
    for variant, swept in tuned.swept.items():
        conclude(swept, folder / variant)
    best = {variant: best_trials(swept.study) for variant, swept in tuned.swept.items()}
    run = adopt_run(tuned.store, tuned.run_id, f"study {tuned.name}", {})
    if lacking := [variant for variant, trials in best.items() if not trials]:
        reason = f"no trial was completed for {', '.join(lacking)}"
        run.end("FAILED", reason)
        raise RunError(reason)
    studies = [swept.study for swept in tuned.swept.values()]
    history = optuna.visualization.plot_optimization_history(
        studies, target_name="development Pearson"
    )
    files = {
        "best.toml": fair_profile_text(
            tuned.name, [(swept, best[variant][0]) for variant, swept in tuned.swept.items()]
        ),
        "history.html": plotly.io.to_html(history),
    }
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")
        run.log_text(name, text)
    run.log_metrics(
        {
            f"best_pearson/{_metric(variant)}": float(trials[0].values[0])
            for variant, trials in best.items()
        }
    )
    run.end("FINISHED")


def _open_run(laid: ResolvedSweep, name: str, request: SweepRequest) -> str:
    """The run above the variants' studies, found again by its name where a study goes on."""
    client, experiment = (
        laid.store.client,
        experiment_id(laid.store, request.experiment or "studies"),
    )
    known = client.search_runs(
        [experiment],
        f"tags.`{names.KIND}` = '{names.STUDY}' and attributes.run_name = 'study {name}'",
    )
    for run in known:
        if names.PARENT not in run.data.tags:
            reopen_run(laid.store, run.info.run_id)
            return str(run.info.run_id)
    tags = {
        names.KIND: names.STUDY,
        names.STUDY_NAME: name,
        names.CORPUS: laid.corpus.name,
        names.PROFILE: request.profile,
        names.SYNTHETIC: str(laid.corpus.synthetic).lower(),
    }
    opened = start_run(laid.store, experiment, f"study {name}", tags)
    opened.log_params(
        {"study": name, "space": request.space, "trials for each variant": laid.request.trials}
    )
    opened.end("FINISHED")
    reopen_run(laid.store, opened.run_id)
    return str(opened.run_id)


def _metric(variant: str) -> str:
    """MLflow's metric names take no plus sign or brackets."""
    return "".join(c if c.isalnum() else "-" for c in variant).strip("-")
