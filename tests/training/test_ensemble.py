"""The ensemble: Caruana's selection against a search written out, and its run."""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablation.core.identity import RunKey
from ablation.data.corpus import Corpus, load_corpus
from ablation.data.splits import Split, make_split
from ablation.training.ensemble import ROUNDS, average, run_ensemble, select_members
from tests.conftest import some_rows


def library(seed: int, models: int, rows: int = 24) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Predictions of `models` models, some good and some bad, and the labels they aim at."""
    rng = np.random.default_rng(seed)
    label = rng.uniform(1, 5, rows)
    return {f"m{i}": label * rng.normal() + rng.normal(size=rows) * 2 for i in range(models)}, label


def by_hand(
    predictions: Mapping[str, np.ndarray], label: np.ndarray, rounds: int
) -> list[tuple[list[str], float]]:
    """List every prefix of the greedy selection with its correlation, computed from scratch."""
    prefixes: list[tuple[list[str], float]] = []
    chosen: list[str] = []
    for _ in range(rounds):
        tried = {
            n: np.corrcoef(np.mean([predictions[c] for c in [*chosen, n]], axis=0), label)[0, 1]
            for n in predictions
        }
        best = max(tried, key=lambda n: tried[n])
        chosen = [*chosen, best]
        prefixes.append((chosen, float(tried[best])))
    return prefixes


def r_of(predictions: Mapping[str, np.ndarray], label: np.ndarray, rounds: int = ROUNDS) -> float:
    return float(
        np.corrcoef(average(predictions, select_members(predictions, label, rounds)), label)[0, 1]
    )


class TestSelection:
    @settings(max_examples=40)
    @given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 12))
    def test_it_is_the_best_prefix_of_the_greedy_search(
        self, seed: int, models: int, rounds: int
    ) -> None:
        predictions, label = library(seed, models)
        prefixes = by_hand(predictions, label, rounds)
        assert r_of(predictions, label, rounds) == pytest.approx(
            max(r for _, r in prefixes), abs=1e-9
        )
        members = select_members(predictions, label, rounds)
        assert sorted(members.elements()) in [sorted(names) for names, _ in prefixes]

    def test_a_better_model_is_taken_more_often(self) -> None:
        label = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 1.5])
        error = np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
        members = select_members({"good": label + error, "bad": label - 2 * error}, label)
        assert members == {"good": 2, "bad": 1}  # 2 (y + e) + (y - 2 e) = 3 y

    def test_twenty_five_rounds_are_searched(self) -> None:
        predictions, label = library(3, 6)  # its best prefix has all 25
        assert select_members(predictions, label).total() == 25
        assert r_of(predictions, label) > r_of(predictions, label, 24) + 1e-6

    def test_one_round_takes_the_best_single_model(self) -> None:
        predictions, label = library(3, 5)
        best = max(predictions, key=lambda n: np.corrcoef(predictions[n], label)[0, 1])
        assert select_members(predictions, label, rounds=1) == {best: 1}

    @settings(max_examples=25)
    @given(st.integers(0, 10_000), st.integers(1, 5))
    def test_more_rounds_never_make_it_worse(self, seed: int, models: int) -> None:
        predictions, label = library(seed, models)
        reached = [r_of(predictions, label, rounds) for rounds in (1, 2, 5, ROUNDS)]
        assert all(later >= earlier - 1e-9 for earlier, later in itertools.pairwise(reached))

    def test_it_is_the_same_each_time_and_whatever_the_order_of_the_models(self) -> None:
        predictions, label = library(11, 6)
        members = select_members(predictions, label)
        assert select_members(predictions, label) == members
        assert select_members(dict(reversed(predictions.items())), label) == members

    def test_models_without_a_correlation_are_passed_over(self) -> None:
        label = np.array([1.0, 2.0, 3.0, 4.0])
        bad = np.array([1.0, np.nan, 2.0, 3.0])
        assert select_members({"bad": bad, "constant": np.full(4, 3.0), "good": label}, label) == {
            "good": 1
        }


@pytest.fixture
def corpus(corpus_folder: Callable[..., Path]) -> Corpus:
    seen = ("en", "es", "fr", "zh")
    return load_corpus(
        str(corpus_folder(some_rows(20, seen), some_rows(6, (*seen, "ko"), start=100)))
    )


def table(frame: pd.DataFrame, error: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "row": frame.index.to_numpy(),
            "language": frame["language"].to_numpy(),
            "label": frame["label"].to_numpy(),
            "prediction": frame["label"].to_numpy() + error,
        }
    )


def tables(corpus: Corpus, split: Split) -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]:
    """Two models whose errors cancel on development rows; on test rows "a" is perfect."""
    assert corpus.test is not None
    dev = corpus.train.iloc[split.dev]
    error = np.where(np.arange(len(dev)) % 2, 1.0, -1.0)
    noise = np.random.default_rng(0).normal(size=len(corpus.test))
    return (
        {"a": table(dev, error), "b": table(dev, -error)},
        {"a": table(corpus.test, 0 * noise), "b": table(corpus.test, noise)},
    )


class TestRun:
    KEY = RunKey("ensemble", "dev1", 4)

    def test_it_averages_its_members_on_development_and_test_rows(self, corpus: Corpus) -> None:
        split = make_split(corpus, "dev1", 0)
        dev, test = tables(corpus, split)
        result = run_ensemble(corpus, self.KEY, "identity", split, dev, test)
        assert result.record.members == {"a": 1, "b": 1}
        assert result.record.dev["pearson"] == pytest.approx(1)
        assert result.test is not None
        expected = (test["a"]["prediction"] + test["b"]["prediction"]) / 2
        np.testing.assert_allclose(result.test["prediction"], expected)
        np.testing.assert_allclose(result.dev["prediction"], result.dev["label"])

    def test_nothing_is_chosen_on_the_test_rows(self, corpus: Corpus) -> None:
        split = make_split(corpus, "dev1", 0)
        dev, test = tables(corpus, split)
        without, exchanged = None, {"a": test["b"], "b": test["a"]}
        chosen = [
            run_ensemble(corpus, self.KEY, "", split, dev, given).record.members
            for given in (test, exchanged, without)
        ]
        assert chosen[0] == chosen[1] == chosen[2] == {"a": 1, "b": 1}

    def test_its_record_says_what_it_is(self, corpus: Corpus) -> None:
        split = make_split(corpus, "dev2:fr+zh", 0)
        dev, test = tables(corpus, split)
        record = run_ensemble(
            corpus, RunKey("ensemble", "dev2:fr+zh", 4), "identity", split, dev, test
        ).record
        assert (record.variant, record.split, record.seed, record.identity) == (
            "ensemble",
            "dev2:fr+zh",
            4,
            "identity",
        )
        assert record.best_epoch is None
        assert set(record.unseen_in_training) == {"fr", "zh"}
        # Unseen: on development rows the held-out languages, on test rows those without labels.
        assert record.test is not None
        assert record.dev.keys() >= {"pearson_seen", "pearson_unseen"}
        assert record.test["pearson_unseen"] == pytest.approx(record.test["pearson_ko"])

    def test_without_test_rows_it_has_development_figures_alone(self, corpus: Corpus) -> None:
        split = make_split(corpus, "dev1", 0)
        result = run_ensemble(corpus, self.KEY, "", split, tables(corpus, split)[0], None)
        assert result.test is None
        assert result.record.test is None

    def test_without_members_there_is_none(self, corpus: Corpus) -> None:
        with pytest.raises(ValueError, match="no finished run of this split and seed to combine"):
            run_ensemble(corpus, self.KEY, "", make_split(corpus, "dev1", 0), {}, None)

    def test_members_of_different_development_rows_are_never_combined(self, corpus: Corpus) -> None:
        split = make_split(corpus, "dev1", 0)
        dev, _ = tables(corpus, split)
        moved = {"a": dev["a"], "b": dev["b"].assign(row=dev["b"]["row"] + 1)}
        with pytest.raises(AssertionError, match="different development rows"):
            run_ensemble(corpus, self.KEY, "", split, moved, None)
