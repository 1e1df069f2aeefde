"""The record of how a profile's settings were tuned.

A sweep writes it into the profile that it produces, and runs made with that profile carry it, so
that a report can say whether all rows of its table had the same number of trials.
"""

import hashlib
import json

from pydantic import BaseModel, ConfigDict, ValidationError

from ablation.config.overrides import TUNING, read_profile
from ablation.config.tables import validation_problems
from ablation.core.errors import UsageError


class Tuning(BaseModel):
    """The search behind a profile.

    Attributes:
        study: The study's name.
        splits: The splits whose development rows were the objective.
        fields: The settings that were searched.
        trials: Each tuned variant's development Pearsons in the order of its trials; NaN for a
            trial that was pruned or failed.
        each_its_own: True if each variant has values of its own for the fields.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: str
    splits: tuple[str, ...]
    fields: tuple[str, ...]
    trials: dict[str, tuple[float, ...]]
    each_its_own: bool = False

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the record."""
        return hashlib.sha256(
            json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()
        ).hexdigest()


def load_tuning(name_or_file: str) -> Tuning | None:
    """Return a profile's record of its tuning, if it has one. Raises UsageError."""
    table = read_profile(name_or_file).get(TUNING)
    if table is None:
        return None
    try:
        return Tuning.model_validate(table)
    except ValidationError as error:
        raise UsageError(
            [f"profile {name_or_file}: {TUNING}.{line}" for line in validation_problems(error)]
        ) from error
