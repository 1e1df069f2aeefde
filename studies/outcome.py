"""The outcome of a sweep: the best settings as a profile, a table of trials, and Optuna's plots."""

import html
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import optuna
import plotly.graph_objects as go
from optuna.trial import FrozenTrial, TrialState

from ablation.core.files import write_atomically
from ablation.tracking.runs import TrackedRun, adopt_run
from studies.profile import profile_text
from studies.study_lock import StudyLock
from studies.sweep import SweepResult

mpl.use("Agg")  # pictures go to files
from matplotlib import pyplot as plt

#: A study's attribute: the number of its trials when its outcome was last written.
_CONCLUDED: Final = "concluded"
#: Optuna's plots by file name; a study too small for one goes without.
PLOTS: Final[dict[str, Callable[[optuna.Study], go.Figure]]] = {
    "history": optuna.visualization.plot_optimization_history,
    "intermediate": optuna.visualization.plot_intermediate_values,
    "importances": optuna.visualization.plot_param_importances,
    "slice": optuna.visualization.plot_slice,
    "contour": optuna.visualization.plot_contour,
    "parallel": optuna.visualization.plot_parallel_coordinate,
}
PARETO: Final = {"pareto": optuna.visualization.plot_pareto_front}
#: The same plots, drawn by matplotlib.
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
    """Return the best completed trial, or with two objectives the Pareto front; empty if none."""
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        return []
    return [study.best_trial] if len(study.directions) == 1 else study.best_trials


def plots(study: optuna.Study) -> dict[str, go.Figure]:
    """Return Optuna's plots by name, without those that need more trials or parameters."""
    figures = {}
    for name, plot in (PARETO if len(study.directions) > 1 else PLOTS).items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                figure = plot(study)
        except (ValueError, RuntimeError):  # importances of one trial, a contour of one parameter
            continue
        if figure.data:
            figures[name] = figure
    return figures


def draw(study: optuna.Study, folder: Path) -> list[Path]:
    """Write the same plots as pictures to `folder`/NAME.png, and return the files."""
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


def conclude(result: SweepResult, folder: Path) -> None:
    """Write best.toml, trials.csv, plots.html and plots/*.png, and end the study's MLflow run.

    Of several processes that worked on the study, one writes at a time.

    Args:
        result: The study after the sweep. The run ends as FAILED if it stopped early.
        folder: Where to write; the files also become artifacts of the run.
    """
    with StudyLock(result.resolved.storage_url):
        _conclude(result, folder)


def write_texts(run: TrackedRun, folder: Path, files: Mapping[str, str]) -> None:
    """Write texts by file name into a folder, and log them as artifacts of a study's run."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        write_atomically(folder / name, text, durable=False)
        run.log_text(name, text)


def _conclude(result: SweepResult, folder: Path) -> None:
    study, resolved = result.study, result.resolved
    folder.mkdir(parents=True, exist_ok=True)
    run = adopt_run(resolved.store, result.study_run, f"study {resolved.study_name}", {})
    best = best_trials(study)
    files: dict[str, str] = {
        "trials.csv": study.trials_dataframe(multi_index=False).to_csv(index=False)
    }
    if best:
        files["best.toml"] = profile_text(result, best[0])
        run.set_tags({"ablation.best_trial": best[0].number})
        trials = len(study.get_trials(deepcopy=False))
        # Another process may have logged the outcome of the same trials.
        if study.user_attrs.get(_CONCLUDED) != trials:
            run.log_metrics(_metrics(best[0], study), trials)
            study.set_user_attr(_CONCLUDED, trials)
    write_texts(run, folder, files)  # what was found comes before any picture of it
    if figures := plots(study):
        parts = [
            figure.to_html(full_html=False, include_plotlyjs=not i)
            for i, figure in enumerate(figures.values())
        ]
        title = f"Study {resolved.study_name}"
        page = f"<!doctype html><meta charset='utf-8'><title>{html.escape(title)}</title>"
        write_texts(run, folder, {"plots.html": page + "\n".join(parts)})
    for file in draw(study, folder / "plots"):
        run.log_file(f"plots/{file.name}", file)
    run.end("FAILED" if result.stopped else "FINISHED", result.stopped or None)


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
