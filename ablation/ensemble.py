"""The ensemble of Table 3: models selected on development predictions, their scores averaged.

The paper says only that the models were "selected by the validation set". Here: greedy forward
selection with replacement (Caruana et al., 2004, "Ensemble Selection from Libraries of Models").
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final

import numpy as np

from ablation.evaluation import pearson

ROUNDS: Final = 25


def select_members(dev_predictions: Mapping[str, np.ndarray], dev_label: np.ndarray, rounds: int = ROUNDS) -> Counter[str]:
    """How often each model enters the ensemble; names with count 0 are missing.

    Each round adds the model that raises the development Pearson of the average most; the prefix
    with the highest Pearson is the result, so more rounds never make it worse. `dev_predictions`
    are arrays (rows,) by name. Ties go to the name that stands first. Raises ValueError if no
    model has a Pearson.
    """
    total = np.zeros_like(dev_label, dtype=np.float64)
    chosen: list[str] = []
    best_r, best_size = -np.inf, 0
    for _ in range(rounds):
        candidates = {name: pearson(total + p, dev_label) for name, p in dev_predictions.items()}
        known = {name: r for name, r in candidates.items() if r is not None}
        if not known:
            break
        name = max(known, key=lambda n: known[n])
        total = total + dev_predictions[name]
        chosen.append(name)
        if known[name] > best_r + 1e-12:
            best_r, best_size = known[name], len(chosen)
    if not best_size:
        raise ValueError("no model's predictions have a correlation: nothing to select from")
    return Counter(chosen[:best_size])


def average(predictions: Mapping[str, np.ndarray], members: Mapping[str, int]) -> np.ndarray:
    """The mean of the members' predictions (rows,), each as often as it was selected."""
    return np.average([predictions[name] for name in members], axis=0, weights=list(members.values()))
