"""The ensemble of Table 3: models selected on development predictions, their scores averaged.

The paper says only that the models were "selected by the validation set". Here: greedy forward
selection with replacement (Caruana et al., 2004, "Ensemble Selection from Libraries of Models").
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd

from ablation.core.identity import RunKey
from ablation.data.corpus import Corpus
from ablation.data.splits import Split
from ablation.training.evaluation import pearson, scores
from ablation.training.records import RunRecord
from ablation.training.train_run import Result, test_scores

ROUNDS: Final = 25


def select_members(
    dev_predictions: Mapping[str, np.ndarray], dev_label: np.ndarray, rounds: int = ROUNDS
) -> Counter[str]:
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
    return np.average(
        [predictions[name] for name in members], axis=0, weights=list(members.values())
    )


def run_ensemble(
    corpus: Corpus,
    key: RunKey,
    identity: str,
    split: Split,
    dev: Mapping[str, pd.DataFrame],
    test: Mapping[str, pd.DataFrame] | None,
) -> Result:
    """Select on the development predictions `dev`, then average; nothing is chosen on `test`.

    Both map a member's variant to its table of predictions (`training.prediction_table`).
    Raises ValueError if there is no member, or none whose predictions have a correlation.
    """
    if not dev:
        raise ValueError("no finished run of this split and seed to combine")
    first = next(iter(dev.values()))
    if any(not np.array_equal(frame["row"], first["row"]) for frame in dev.values()):
        raise AssertionError("members were evaluated on different development rows")
    members = select_members(_predictions(dev), first["label"].to_numpy())
    dev_combined = first.assign(prediction=average(_predictions(dev), members))
    test_combined = None
    if test is not None:
        test_combined = next(iter(test.values())).assign(
            prediction=average(_predictions(test), members)
        )
    record = RunRecord(
        variant=key.variant,
        split=key.split,
        seed=key.seed,
        identity=identity,
        best_epoch=None,
        collapsed=False,
        selection="greedy forward selection by pooled Pearson on the development rows",
        unseen_in_training=split.unseen,
        dev=scores(
            dev_combined, [code for code in corpus.training_languages if code not in split.unseen]
        ),
        test=test_scores(test_combined, corpus),
        members=dict(members),
    )
    return Result(record, dev_combined, test_combined)


def _predictions(frames: Mapping[str, pd.DataFrame]) -> dict[str, np.ndarray]:
    return {name: frame["prediction"].to_numpy() for name, frame in frames.items()}
