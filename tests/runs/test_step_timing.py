"""A measurement is of real steps, and of the process that takes them."""

from pathlib import Path

from ablation.config.overrides import load_profile, resolve_config
from ablation.data.corpus import load_corpus
from ablation.data.splits import make_split
from ablation.runs.step_timing import time_steps
from ablation.training.train_run import prepare


def test_a_measurement_is_of_real_steps_and_of_this_process(small_corpus: Path) -> None:
    config = resolve_config(load_profile("smoke") | {"optimisation.batch_size": 16}, "mse")
    prepared = prepare(load_corpus(str(small_corpus)), config)
    cost = time_steps(prepared, config, make_split(prepared.corpus, "dev1", 0))
    assert 0 < cost.predict_token_s < cost.train_token_s < 1
    assert cost.memory_bytes > 50 * 2**20
    assert cost.cache_token_s == 0


def test_with_frozen_layers_it_has_what_their_outputs_take_and_keeps_none(
    small_corpus: Path,
) -> None:
    config = resolve_config(load_profile("smoke"), "mse+ft")
    prepared = prepare(load_corpus(str(small_corpus)), config)
    assert time_steps(prepared, config, make_split(prepared.corpus, "dev1", 0)).cache_token_s > 0
    assert not prepared.frozen.outputs  # measured on a few rows, which are not a file's
