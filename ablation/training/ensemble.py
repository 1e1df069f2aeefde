"""The ensemble of Table 3: models selected on development predictions, their predictions averaged.

The paper says only that the models were "selected by the validation set". Here, it is greedy
forward selection with replacement (Caruana et al., 2004, "Ensemble Selection from Libraries of
Models").
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Real

from ablation.core.identity import RunKey
from ablation.data.corpus import Corpus
from ablation.data.splits import Split
from ablation.training.evaluation import agreement, pearson, scores
from ablation.training.records import RunRecord
from ablation.training.train_run import RunResult, test_scores

ROUNDS: Final = 25


def select_members(
    dev_predictions: Mapping[str, Real[np.ndarray, " rows"]],
    dev_label: Real[np.ndarray, " rows"],
    rounds: int = ROUNDS,
    weight: Real[np.ndarray, " rows"] | None = None,
) -> Counter[str]:
    """Select the models of the ensemble on development rows.

    Each round adds the model that raises the Pearson of the average most, the first one if several
    are equal. The result is the shortest prefix of these additions with the highest Pearson, so
    more rounds never make it worse.

    Args:
        dev_predictions: The predictions of each model.
        dev_label: The labels of the same rows.
        rounds: The number of additions to try.
        weight: The weights of the rows, if they have any.

    Returns:
        How often each selected model enters the average.

    Raises:
        ValueError: No model's predictions have a correlation.
    """
    total = np.zeros_like(dev_label, dtype=np.float64)
    added: list[str] = []
    best_r, best_size = -np.inf, 0
    for _ in range(rounds):
        candidates = {
            name: pearson(total + p, dev_label, weight) for name, p in dev_predictions.items()
        }
        known = {name: r for name, r in candidates.items() if r is not None}
        if not known:
            break
        name = max(known, key=lambda n: known[n])
        total = total + dev_predictions[name]
        added.append(name)
        if known[name] > best_r + 1e-12:
            best_r, best_size = known[name], len(added)
    if not best_size:
        raise ValueError("no model's predictions have a correlation: nothing to select from")
    return Counter(added[:best_size])


def average(
    predictions: Mapping[str, Real[np.ndarray, " rows"]], members: Mapping[str, int]
) -> Real[np.ndarray, " rows"]:
    """Return the mean of the members' predictions, weighted by how often each was selected."""
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
) -> RunResult:
    """Select members on development predictions and average their predictions.

    Args:
        corpus: The corpus of the runs.
        key: The key of the ensemble's run.
        identity: The identity of the ensemble's run.
        split: The split of the runs.
        dev: Development predictions by variant, see `evaluation.prediction_table`.
        test: Test predictions by variant, if the corpus has test rows. Nothing is selected on them.

    Raises:
        ValueError: There is no run, or none whose predictions have a correlation.
    """
    if not dev:
        raise ValueError("no finished run of this split and seed to combine")
    first = next(iter(dev.values()))
    if any(not np.array_equal(table["row"], first["row"]) for table in dev.values()):
        raise AssertionError("members were evaluated on different development rows")
    weight = first["weight"].to_numpy() if "weight" in first else None
    members = select_members(_predictions(dev), first["label"].to_numpy(), weight=weight)
    dev_combined = first.assign(prediction=average(_predictions(dev), members))
    test_combined = None
    if test is not None:
        test_combined = next(iter(test.values())).assign(
            prediction=average(_predictions(test), members)
        )
    seen = [code for code in corpus.training_languages if code not in split.unseen]
    record = RunRecord(
        variant=key.variant,
        split=key.split,
        seed=key.seed,
        identity=identity,
        best_epoch=None,
        collapsed=False,
        selection="greedy forward selection by pooled Pearson on the development rows",
        unseen_in_training=split.unseen,
        dev=scores(dev_combined, seen) | agreement(dev_combined, seen),
        test=test_scores(test_combined, corpus),
        members=dict(members),
    )
    return RunResult(record, dev_combined, test_combined)


def _predictions(tables: Mapping[str, pd.DataFrame]) -> dict[str, np.ndarray]:
    return {name: table["prediction"].to_numpy() for name, table in tables.items()}
