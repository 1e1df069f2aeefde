"""What a sweep leaves behind: the best settings as a profile, a table of trials, and Optuna's plots."""

import html
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import optuna
import plotly.graph_objects as go
from filelock import FileLock
from optuna.trial import FrozenTrial, TrialState

from ablation.tracking.runs import adopt_run
from studies.profile import profile_text
from studies.storage import lock_file
from studies.sweep import SweepResult

mpl.use("Agg")  # pictures go to files; a worker has no screen
from matplotlib import pyplot as plt

#: A study's attribute: how many trials there were when its outcome was last written down.
_CONCLUDED: Final = "concluded"
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
#: The same, drawn by matplotlib.
PICTURES: Final[dict[str, Callable[[optuna.Study], Any]]] = {
    "history": optuna.visualization.matplotlib.plot_optimization_history,
    "intermediate": optuna.visualization.matplotlib.plot_intermediate_values,
    "importances": optuna.visualization.matplotlib.plot_param_importances,
    "slice": optuna.visualization.matplotlib.plot_slice,
    "contour": optuna.visualization.matplotlib.plot_contour,
    "parallel": optuna.visualization.matplotlib.plot_parallel_coordinate,
    "pareto": optuna.visualization.matplotlib.plot_pareto_front,
}


def best_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The best completed trial, or with two objectives the Pareto front; empty if none was completed."""
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        return []
    return [study.best_trial] if len(study.directions) == 1 else study.best_trials


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


def draw(study: optuna.Study, folder: Path) -> list[Path]:
    """The same plots as pictures, `folder`/NAME.png."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    with mpl.rc_context(
        {"figure.constrained_layout.use": True, "figure.figsize": (9, 6), "font.size": 8}
    ):
        for name in plots(study):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                axes = PICTURES[name](study)
            figure = np.atleast_1d(axes).flat[0].figure
            figure.savefig(folder / f"{name}.png", dpi=150)
            plt.close(figure)
            files.append(folder / f"{name}.png")
    return files


def conclude(swept: SweepResult, folder: Path) -> None:
    """Write best.toml, trials.csv, plots.html and plots/*.png to `folder` and to the study's MLflow run, and end that run.

    One process at a time, where several carried the study on.
    """
    with FileLock(lock_file(swept.laid.storage_url)):
        _conclude(swept, folder)


def _conclude(swept: SweepResult, folder: Path) -> None:
    study, laid = swept.study, swept.laid
    folder.mkdir(parents=True, exist_ok=True)
    run = adopt_run(laid.store, swept.study_run, f"study {laid.study_name}", {})
    best = best_trials(study)
    files: dict[str, str] = {
        "trials.csv": study.trials_dataframe(multi_index=False).to_csv(index=False)
    }
    if best:
        files["best.toml"] = profile_text(swept, best[0])
        run.set_tags({"ablation.best_trial": best[0].number})
        trials = len(study.get_trials(deepcopy=False))
        if (
            study.user_attrs.get(_CONCLUDED) != trials
        ):  # another process may have said it of the same trials
            run.log_metrics(_metrics(best[0], study), trials)
            study.set_user_attr(_CONCLUDED, trials)
    figures = plots(study)
    if figures:
        parts = [
            figure.to_html(full_html=False, include_plotlyjs=not i)
            for i, figure in enumerate(figures.values())
        ]
        title = f"Study {laid.study_name}"
        files["plots.html"] = (
            f"<!doctype html><meta charset='utf-8'><title>{html.escape(title)}</title>"
            + "\n".join(parts)
        )
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")
        run.log_text(name, text)
    for file in draw(study, folder / "plots"):
        run.log_file(f"plots/{file.name}", file)
    run.end("FINISHED")


def _metrics(best: FrozenTrial, study: optuna.Study) -> Mapping[str, float]:
    values = {"objective/best_pearson": float((best.values or [float("nan")])[0])}
    values |= {
        f"best/{name}": float(value)
        for name, value in best.params.items()
        if isinstance(value, int | float)
    }
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    return values | {
        f"trials/{state.name.lower()}": float(states.count(state)) for state in set(states)
    }
