"""Pooling and prompts that a sentence-transformers folder declares are honoured."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablation.config.overrides import load_profile, resolve_config
from ablation.core.errors import UsageError
from ablation.data.corpus import load_corpus
from ablation.encoders.declared import NOTHING, read_declared
from ablation.encoders.loading import load_encoder, pooling_of, prefix_of
from ablation.encoders.tiny import tiny_encoder
from ablation.training.train_run import check_trainable, prepare, tokenise

MODULES = [
    {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{name}"}
    for i, (path, name) in enumerate(
        [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    )
]
PROMPTS = {"prompts": {"query": "query: ", "passage": "passage: "}, "default_prompt_name": "query"}


def declare(folder: Path, pooling: Any, prompting: Any = None, modules: Any = MODULES) -> str:
    """Copy the tiny encoder to `folder` with these declarations; texts are written as they are."""
    shutil.copytree(tiny_encoder(), folder)
    for name, content in (
        ("modules.json", modules),
        ("1_Pooling/config.json", pooling),
        ("config_sentence_transformers.json", prompting),
    ):
        if content is not None:
            (folder / name).parent.mkdir(exist_ok=True)
            text = content if isinstance(content, str) else json.dumps(content)
            (folder / name).write_text(text, "utf-8")
    return str(folder)


def test_other_encoders_declare_nothing() -> None:
    assert load_encoder("tiny").declared == NOTHING
    assert pooling_of(load_encoder("tiny"), "auto") == "cls"


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "mean_sqrt"),
        ({"pooling_mode_weightedmean_tokens": True}, "weighted_mean"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({}, "mean"),
        ({"pooling_mode": "lasttoken"}, "last"),
        ({"pooling_mode": ["weightedmean"]}, "weighted_mean"),
    ],
)
def test_the_pooling_is_the_declared_one_in_either_form(
    tmp_path: Path, config: dict[str, object], pooling: str
) -> None:
    encoder = load_encoder(declare(tmp_path / "st", config))
    assert pooling_of(encoder, "auto") == pooling
    assert pooling_of(encoder, "cls") == "cls"


def test_several_poolings_at_once_are_refused_unless_one_is_chosen(tmp_path: Path) -> None:
    both = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}
    encoder = load_encoder(declare(tmp_path / "st", both))
    with pytest.raises(UsageError, match=r"declares the poolings cls and mean together; choose"):
        pooling_of(encoder, "auto")
    assert pooling_of(encoder, "mean") == "mean"


@pytest.mark.parametrize(
    ("prefix", "prompt", "expected"),
    [
        ("", "auto", "query: "),
        ("", "passage", "passage: "),
        ("", "none", ""),
        ("mine: ", "auto", "mine: "),
        ("mine: ", "none", "mine: "),
    ],
)
def test_the_prompt_is_the_default_one_a_named_one_or_none(
    tmp_path: Path, prefix: str, prompt: str, expected: str
) -> None:
    encoder = load_encoder(declare(tmp_path / "st", {"pooling_mode": "mean"}, PROMPTS))
    assert prefix_of(encoder, prefix, prompt) == expected


def test_tokens_are_those_of_the_text_with_its_prompt(tmp_path: Path) -> None:
    folder = declare(tmp_path / "st", {"pooling_mode": "mean"}, PROMPTS)
    settings = load_profile("smoke") | {"model.encoder": folder}
    encoder = load_encoder(folder)
    prompted = tokenise(["I miss you"], encoder, resolve_config(settings))
    plain = {"model.prompt": "none"}
    by_hand = tokenise(["query: I miss you"], encoder, resolve_config(settings | plain))
    np.testing.assert_array_equal(prompted[0], by_hand[0])


def test_an_unknown_prompt_is_an_error_with_the_nearest(tmp_path: Path, small_corpus: Path) -> None:
    folder = declare(tmp_path / "st", {"pooling_mode": "mean"}, PROMPTS)
    settings = load_profile("smoke") | {"model.encoder": folder, "model.prompt": "qeury"}
    with pytest.raises(UsageError, match=r"model\.prompt = 'qeury'.*did you mean 'query'"):
        prepare(load_corpus(str(small_corpus)), resolve_config(settings))


def test_a_prompt_that_is_not_pooled_is_refused(tmp_path: Path) -> None:
    config = {"pooling_mode": "mean", "include_prompt": False}
    encoder = load_encoder(declare(tmp_path / "st", config, PROMPTS))
    with pytest.raises(UsageError, match=r"out of the pooling.*model\.prompt=none"):
        prefix_of(encoder, "", "auto")
    assert prefix_of(encoder, "", "none") == ""


@pytest.mark.parametrize(
    ("pooling", "prompting", "modules", "problem"),
    [
        ({"pooling_mode": "meen"}, None, MODULES, r"unknown pooling 'meen': did you mean 'mean'"),
        ("{", None, MODULES, r"1_Pooling/config\.json can't be read"),
        ({}, "[", MODULES, r"config_sentence_transformers\.json can't be read"),
        ({}, None, "{", r"modules\.json can't be read"),
        ({}, None, {"a": 1}, r"sentence-transformers files can't be read"),
        ({}, {"prompts": 3}, MODULES, r"sentence-transformers files can't be read"),
    ],
)
def test_a_damaged_declaration_is_named(
    tmp_path: Path, pooling: object, prompting: object, modules: object, problem: str
) -> None:
    folder = declare(tmp_path / "st", pooling, prompting, modules)
    with pytest.raises(UsageError, match=problem):
        read_declared(folder, Path(folder))


@pytest.mark.parametrize("pooling", ["max", "last", "weighted_mean", "mean_sqrt"])
def test_a_run_can_be_trained_with_each_pooling(
    tmp_path: Path, small_corpus: Path, pooling: str
) -> None:
    settings = load_profile("smoke") | {"model.pooling": pooling}
    config = resolve_config(settings)
    check_trainable(config, prepare(load_corpus(str(small_corpus)), config))
