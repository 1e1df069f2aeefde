"""Average the cost of training each variant, and its score beside it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ablation.tracking import names
from reports.analysis.estimates import Estimate
from reports.analysis.labels import row_title
from reports.analysis.measures import Measurements


@dataclass(frozen=True)
class Cost:
    """Means over a variant's runs; NaN if nothing was measured (an ensemble is not trained)."""

    variant: str
    runs: int
    seconds: float
    tokens_per_second: float
    memory_gib: float
    trainable_millions: float
    pearson: Estimate
    energy_wh: float = float("nan")
    co2_g: float = float("nan")
    countries: tuple[str, ...] = ()


def compute_costs(measurements: Measurements) -> list[Cost]:
    """Return each variant's cost, and its Pearson on the analysed eval set."""
    subset = measurements.analysed
    costs = []
    for variant in measurements.group.variants:
        runs = [run for run in measurements.group.runs if run.variant == variant]
        records = [measurements.records[run.run_id] for run in runs]
        energies = [
            json.loads(text) for run in runs if (text := run.tags.get(names.ENERGY)) is not None
        ]
        costs.append(
            Cost(
                variant=row_title(variant, measurements.group.table),
                runs=len(records),
                seconds=_mean(r.seconds for r in records),
                tokens_per_second=_mean(r.tokens_per_second for r in records),
                memory_gib=_mean(r.peak_memory_bytes for r in records) / 2**30,
                trainable_millions=_mean(r.parameters_trainable for r in records) / 1e6,
                pearson=measurements.cell(variant, subset),
                energy_wh=_mean(energy["wh"] for energy in energies),
                co2_g=_mean(energy["co2_g"] for energy in energies),
                countries=tuple(sorted({str(energy["country"]) for energy in energies})),
            )
        )
    return costs


def _mean(values: Iterable[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")
