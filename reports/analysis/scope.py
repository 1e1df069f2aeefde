"""Say which factors a report's conclusions generalise to, beside other rows and other seeds."""

from dataclasses import dataclass
from typing import Final, Literal

#: Fewer splits say next to nothing about others.
LEAST_SPLITS: Final = 3
#: With fewer languages, an interval about languages in general is as wide as the scale.
LEAST_LANGUAGES: Final = 4
#: Splits as a sample of others (random), as those that they are (fixed), or random from
#: `LEAST_SPLITS` on.
SplitsAre = Literal["auto", "random", "fixed"]
#: Languages alike: differences are then means over languages, each of which counts alike.
LanguagesAre = Literal["fixed", "random"]


@dataclass(frozen=True)
class Scope:
    """The factors that a report's conclusions generalise to, beside other rows and other seeds."""

    splits: SplitsAre = "auto"
    languages: LanguagesAre = "fixed"


DEFAULT_SCOPE: Final = Scope()
