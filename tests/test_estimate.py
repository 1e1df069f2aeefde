"""Estimates are made of measurements: they grow with the work, and are of the size of what a run really takes."""

import dataclasses
from pathlib import Path

import pytest

from ablation.config import RunConfig, load_profile, resolve
from ablation.data.corpus import load_corpus
from ablation.estimate import Cost, cost_class, estimate, measure, run_seconds
from ablation.experiment import Prepared, prepare
from ablation.identity import RunKey
from ablation.splits import make_split

KEY = RunKey("mse", "dev1", 0)


def config(variant: str = "mse", **optimisation: int) -> RunConfig:
    return resolve(load_profile("smoke") | {f"optimisation.{name}": value for name, value in optimisation.items()}, variant)


@pytest.fixture
def prepared(small_corpus: Path) -> Prepared:
    return prepare(load_corpus(str(small_corpus)), config())


def test_a_measurement_is_of_real_steps_and_of_this_process(prepared: Prepared) -> None:
    cost = measure(prepared, config(batch_size=16), make_split(prepared.corpus, "dev1", 0))
    assert 0 < cost.predict_token_s < cost.train_token_s < 1
    assert cost.memory_bytes > 50 * 2**20


def test_seconds_follow_from_the_tokens_of_all_epochs(prepared: Prepared) -> None:
    split = make_split(prepared.corpus, "dev1", 0)
    lengths = prepared.train.lengths
    assert prepared.test is not None
    cost = Cost(train_token_s=2.0, predict_token_s=0.5, memory_bytes=0)
    expected = 3 * (2.0 * lengths[split.train].sum() + 0.5 * lengths[split.dev].sum()) + 0.5 * prepared.test.lengths.sum()
    assert run_seconds(prepared, config(epochs=3), split, cost) == pytest.approx(expected)
    untested = dataclasses.replace(prepared, test=None)
    assert run_seconds(untested, config(epochs=3), split, cost) < expected


def test_runs_that_cost_the_same_are_measured_once(prepared: Prepared) -> None:
    known: dict[tuple[object, ...], Cost] = {}
    runs = [(KEY, config("mse")), (RunKey("epm", "dev1", 0), config("epm")), (RunKey("epm+ft", "dev1", 0), config("epm+ft"))]
    seconds = estimate(prepared, runs, known)
    assert len(seconds) == 3
    assert len(known) == 2
    assert cost_class(config("mse")) == cost_class(config("epm")) != cost_class(config("epm+ft"))


def test_the_first_of_the_runs_with_frozen_layers_bears_computing_their_outputs(prepared: Prepared) -> None:
    known: dict[tuple[object, ...], Cost] = {}
    runs = [(RunKey(name, "dev1", 0), config(name)) for name in ("mse", "epm", "mse+ft", "epm+ft")]
    plain, plain_again, first, second = estimate(prepared, runs, known)
    assert plain == plain_again
    assert prepared.test is not None
    cost = known[cost_class(config("mse+ft"))]
    tokens = prepared.train.lengths.sum() + prepared.test.lengths.sum()
    assert first - second == pytest.approx(cost.keep_token_s * tokens)
    assert first > second
    assert not prepared.frozen.made  # measured on a few rows, which are not a file's
