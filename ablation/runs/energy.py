"""Measure the electricity that training takes, with codecarbon in its offline mode.

It reads the machine's counters where it may, and else estimates from the load of known processors.
The figures are of the whole machine while a run trains, so what else runs there counts too.
"""

import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeVar

from ablation.core.errors import UsageError
from ablation.core.suggest import did_you_mean

T = TypeVar("T")
#: Seconds between two readings of the machine's power.
_EVERY_S: Final = 15
_KG_TO_G: Final = 1000


@dataclass(frozen=True)
class Energy:
    """The electricity of a run.

    Attributes:
        wh: Watt-hours of processors, cards and memory while it trained.
        co2_g: Grams of CO2 equivalent, by the mean mix of the country's electricity.
        country: The country's ISO 3166 code of three letters.
        version: Of codecarbon.
    """

    wh: float
    co2_g: float
    country: str
    version: str

    def to_json(self) -> str:
        """Return it as JSON, as it is kept in a run's tag."""
        return json.dumps(asdict(self), sort_keys=True)


class EnergyMeter:
    """A meter that measures one run after the other."""

    def __init__(self, country: str) -> None:
        """Prepare to measure in a country, such as "FRA".

        Raises:
            UsageError: codecarbon is not installed, or does not know the country.
        """
        logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
        try:
            from codecarbon import OfflineEmissionsTracker
            from codecarbon.input import DataSource
        except ImportError as error:
            raise UsageError(
                "--energy needs codecarbon: pip install 'ablation-suite[energy]'"
            ) from error
        known = set(DataSource().get_global_energy_mix_data())
        if country not in known:
            hint = did_you_mean(country, known) if len(country) == 3 else "such as FRA or DEU"
            raise UsageError(f"--energy {country!r}: not a country's ISO code of 3 letters; {hint}")
        self._tracker: Any = OfflineEmissionsTracker(
            country_iso_code=country,
            measure_power_secs=_EVERY_S,
            log_level="critical",
            # Whatever a file of settings says, nothing is written or sent anywhere.
            output_methods=[],
            emissions_endpoint=None,
        )

    def measure(self, work: Callable[[], T]) -> tuple[T, Energy | None]:
        """Return what `work` returns, and what it took; None if that can't be measured."""
        task, measured = None, None
        with suppress(Exception):  # a machine that can't be measured keeps no run from training
            self._tracker.start_task()
            task = self._tracker._active_task
        try:
            result = work()
        finally:
            with suppress(Exception):
                measured = self._tracker.stop_task(task)
        if measured is None:
            return result, None
        energy = Energy(
            float(measured.energy_consumed) * 1000,
            float(measured.emissions) * _KG_TO_G,
            str(measured.country_iso_code),
            str(measured.codecarbon_version),
        )
        return result, energy
