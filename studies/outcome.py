"""What a sweep leaves behind: the best settings as a profile, a table of trials, and Optuna's plots."""

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import optuna
import plotly.graph_objects as go
from optuna.trial import FrozenTrial, TrialState

from ablation.tracking.runs import adopt_run
from studies.space import VARIANT, configure
from studies.study import Laid
from studies.sweep import Swept

#: File name to Optuna's plot, each where the study has what it takes.
PLOTS: Final[dict[str, Callable[[optuna.Study], go.Figure]]] = {
    "history": optuna.visualization.plot_optimization_history,
    "intermediate": optuna.visualization.plot_intermediate_values,
    "importances": optuna.visualization.plot_param_importances,
    "slice": optuna.visualization.plot_slice,
    "contour": optuna.visualization.plot_contour,
    "parallel": optuna.visualization.plot_parallel_coordinate,
}
PARETO: Final = {"pareto": optuna.visualization.plot_pareto_front}


def best_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The best completed trial, or with two objectives the Pareto front; empty if none was completed."""
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        return []
    return [study.best_trial] if len(study.directions) == 1 else study.best_trials


def profile_text(laid: Laid, trial: FrozenTrial) -> str:
    """The trial's settings as a profile file: what the sweep's profile changed, and what the trial chose."""
    variant, config = configure(laid.space, laid.differences, trial.params)
    chosen = {**laid.differences, **{f: v for f, v in trial.params.items() if f != VARIANT}}
    flat = config.flat()
    tables: dict[str, dict[str, Any]] = {}
    for name in chosen:
        section, field = name.split(".", 1)
        tables.setdefault(section, {})[field] = flat[name]
    lines = [f"# Trial {trial.number} of study {laid.study_name!r}, tuned on {', '.join(laid.splits)} with variant {variant}."]
    for section, fields in tables.items():
        lines += ["", f"[{section}]", *(f"{field} = {json.dumps(value)}" for field, value in fields.items() if value is not None)]
    return "\n".join(lines) + "\n"


def plots(study: optuna.Study) -> dict[str, go.Figure]:
    """Optuna's plots by name; those that the study has too few trials or parameters for are left out."""
    found = {}
    for name, plot in (PARETO if len(study.directions) > 1 else PLOTS).items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                figure = plot(study)
        except (ValueError, RuntimeError):  # importances of one trial, a contour of one parameter
            continue
        if figure.data:
            found[name] = figure
    return found


def conclude(swept: Swept, folder: Path) -> None:
    """Write best.toml, trials.csv and plots.html to `folder` and to the study's MLflow run, and end that run."""
    study, laid = swept.study, swept.laid
    folder.mkdir(parents=True, exist_ok=True)
    run = adopt_run(laid.store, swept.study_run, f"study {laid.study_name}", {})
    best = best_trials(study)
    files: dict[str, str] = {"trials.csv": study.trials_dataframe(multi_index=False).to_csv(index=False)}
    if best:
        files["best.toml"] = profile_text(laid, best[0])
        run.points(_metrics(best[0], study))
        run.tags({"ablation.best_trial": best[0].number})
    figures = plots(study)
    if figures:
        parts = [figure.to_html(full_html=False, include_plotlyjs=not i) for i, figure in enumerate(figures.values())]
        title = f"Study {laid.study_name}"
        files["plots.html"] = f"<!doctype html><meta charset='utf-8'><title>{title}</title>" + "\n".join(parts)
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")
        run.text(name, text)
    run.end("FINISHED")


def _metrics(best: FrozenTrial, study: optuna.Study) -> Mapping[str, float]:
    values = {"objective/best_pearson": float((best.values or [float("nan")])[0])}
    values |= {f"best/{name}": float(value) for name, value in best.params.items() if isinstance(value, int | float)}
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    return values | {f"trials/{state.name.lower()}": float(states.count(state)) for state in set(states)}
