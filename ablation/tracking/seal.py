"""Count how often the scores of an experiment's test rows were read.

Test scores are logged, and not printed while runs end: choosing a method by them would spend the
test rows. Each command that shows them, or computes with them, leaves a tag of its own on the
experiment, so that two at once are both counted.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

from ablation.core.errors import RunError
from ablation.tracking import names
from ablation.tracking.long_tags import TAG_LENGTH
from ablation.tracking.retry import describe_error, retry_until_available
from ablation.tracking.store import Store
from ablation.tracking.uris import redact_uri


@dataclass(frozen=True)
class Readings:
    """Readings of an experiment's test rows: how many by each command."""

    experiment: str
    by: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.by.values())

    def __str__(self) -> str:
        """Say how often, and by what."""
        times = "once" if self.total == 1 else f"{self.total} times"
        listed = ", ".join(f"{command} {count}" for command, count in sorted(self.by.items()))
        return f"Test rows of experiment {self.experiment!r} were read {times} ({listed})."


def record_reading(store: Store, experiment: str, command: str) -> Readings:
    """Record that `command` reads the test scores of the experiment with this id.

    Returns:
        All readings so far, this one included.

    Raises:
        RunError: The store can't be written to, or its server is unreachable.
    """
    from mlflow.exceptions import MlflowException

    tag = f"{names.TEST_READING}{uuid4().hex}"
    when = datetime.now(UTC).isoformat(timespec="seconds")
    write = partial(
        store.client.set_experiment_tag, experiment, tag, f"{when} {command}"[:TAG_LENGTH]
    )
    try:
        retry_until_available(write, store.uri)
        return readings(store, experiment)
    except (MlflowException, OSError) as error:
        raise RunError(
            f"tracking store {redact_uri(store.uri)}: {describe_error(error)}"
        ) from error


def readings(store: Store, experiment: str) -> Readings:
    """Return the readings so far. Raises RunError if the server is unreachable."""
    found = retry_until_available(partial(store.client.get_experiment, experiment), store.uri)
    commands = [
        str(value).partition(" ")[2]
        for tag, value in found.tags.items()
        if tag.startswith(names.TEST_READING)
    ]
    return Readings(str(found.name), Counter(commands))
