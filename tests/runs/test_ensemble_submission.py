"""Forward selection over finished runs: its choice, and the score that is foretold for it."""

import numpy as np
import pandas as pd
import pytest

from ablation.core.errors import UsageError
from ablation.core.identity import RunKey
from ablation.runs.ensemble_submission import Candidate, combine, select

ROWS = 400


def candidate(seed: int, noise: float, *, signal: float = 1.0, shift: int = 0) -> Candidate:
    """A run whose predictions are the labels, `signal` times, and noise of its own."""
    rng, labels = np.random.default_rng(seed), np.random.default_rng(99).normal(size=ROWS)
    dev = pd.DataFrame(
        {
            "row": np.arange(ROWS) + shift,
            "language": np.tile(["en", "fr"], ROWS // 2),
            "label": labels,
            "prediction": signal * labels + noise * rng.normal(size=ROWS),
        }
    )
    return Candidate(RunKey("mse", "dev1", seed), str(seed), dev, dev)


def test_independent_runs_are_averaged_and_one_without_signal_hardly_counts() -> None:
    good = [candidate(seed, 1.0) for seed in range(4)]
    selection = select("dev1", [*good, candidate(9, 1.0, signal=0.0)])
    counts = [selection.members[c.name] for c in good]
    assert sum(counts) > 0.9 * sum(selection.members.values())
    assert max(counts) <= 2 * min(counts)
    # Four equal runs with noise of variance 1 each: r = 1 / sqrt(1 + 1/4).
    assert selection.nested == pytest.approx(1 / np.sqrt(1.25), abs=0.03)
    assert selection.nested > selection.single


def test_choosing_among_runs_without_signal_looks_good_only_on_the_rows_that_chose() -> None:
    noise = [candidate(seed, 1.0, signal=0.0) for seed in range(20)]
    selection = select("dev1", noise)
    assert selection.apparent > 0.05
    assert selection.nested < selection.apparent - 0.1


def test_runs_on_unlike_development_rows_are_refused() -> None:
    with pytest.raises(UsageError, match="unlike development rows"):
        select("dev1", [candidate(0, 1.0), candidate(1, 1.0, shift=1)])


def test_constant_predictions_alone_are_refused() -> None:
    with pytest.raises(UsageError, match="no run on dev1"):
        select("dev1", [candidate(0, 0.0, signal=0.0)])


def test_too_few_rows_for_halves_foretell_nothing() -> None:
    few = [
        Candidate(c.key, c.run_id, c.dev.head(2), c.test)
        for c in map(candidate, (0, 1), (1.0, 1.0))
    ]
    assert np.isnan(select("dev1", few).nested)


def on(split: str, score: float, experiment: str = "") -> Candidate:
    """A run that knows its development rows, and predicts `score` for every test row."""
    known = candidate(0, 0.0)
    return Candidate(
        RunKey("mse", split, 0), "id", known.dev, known.dev.assign(prediction=score), experiment
    )


def test_splits_of_one_kind_count_together_as_much_as_another_kind() -> None:
    left_out = [on(f"leave-one-out:{group}", 3.0) for group in ("en", "fr", "it")]
    selections, scores = combine([on("dev1", 1.0), *left_out])
    assert [selection.split for selection in selections] == [
        "dev1",
        *(candidate.key.split for candidate in left_out),
    ]
    np.testing.assert_allclose(scores, 2.0)


def test_runs_of_one_name_in_two_experiments_are_two_candidates() -> None:
    (selection,), _ = combine([on("dev1", 1.0, "small"), on("dev1", 3.0, "large")])
    assert selection.candidates == 2
    assert set(selection.members) <= {"small: mse dev1 seed 0", "large: mse dev1 seed 0"}
