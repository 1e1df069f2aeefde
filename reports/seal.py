"""Count a command's reading of an experiment's test scores, and say how many there were."""

from typing import Final

from ablation.core.errors import RunError, first_line
from ablation.tracking import names
from ablation.tracking.seal import record_reading
from reports.analysis.collect import Experiment

_PREDICTED_ONLY: Final = "predicted only"


def count_reading(experiment: Experiment, command: str) -> str:
    """Record that `command` reads the test scores, and return the sentence to print.

    The sentence is empty if no run has any, since nothing is read then, and for a bundle, which
    keeps no count. A store that can't be written
    to does not keep anybody from reading, but the sentence says that it was not counted.
    """
    store = experiment.source.store
    if store is None or not has_test_scores(experiment):
        return ""
    try:
        return str(record_reading(store, experiment.experiment_id, command))
    except RunError as error:
        return f"This reading of the test rows can't be counted: {first_line(error)}"


def has_test_scores(experiment: Experiment) -> bool:
    """Return whether any finished run's test rows have labels."""
    tags = (run.tags.get(names.TEST_READ, "") for run in experiment.finished)
    return any(tag and not tag.startswith(_PREDICTED_ONLY) for tag in tags)
