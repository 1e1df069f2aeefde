"""How a profile's settings were found: which fields were searched, and with how many trials for each variant.

A sweep writes it into the profile that it ends with, the runs made with that profile carry it, and a
report can say whether every row of its table had the same chance.
"""

import hashlib
import json

from pydantic import BaseModel, ConfigDict, ValidationError

from ablation.config.schema import TUNING, read_profile
from ablation.core.errors import UsageError


class Tuning(BaseModel):
    """`trials` are each variant's development Pearsons in the order of its trials, NaN for one that was pruned or failed.

    A variant that is not named was not tuned. `fields` are the settings that were searched, and
    `each_its_own` whether every variant has values of its own for them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: str
    splits: tuple[str, ...]
    fields: tuple[str, ...]
    trials: dict[str, tuple[float, ...]]
    each_its_own: bool = False

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        return hashlib.sha256(
            json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()
        ).hexdigest()


def load_tuning(name_or_file: str) -> Tuning | None:
    """What a profile says of its tuning, None if nothing. Raises UsageError."""
    table = read_profile(name_or_file).get(TUNING)
    if table is None:
        return None
    try:
        return Tuning.model_validate(table)
    except ValidationError as error:
        problems = [
            f"{TUNING}.{'.'.join(map(str, e['loc']))}: {e['msg'].lower()}" for e in error.errors()
        ]
        raise UsageError([f"profile {name_or_file}: {problem}" for problem in problems]) from error
