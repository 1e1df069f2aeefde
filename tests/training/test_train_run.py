"""Preparation of a run: texts as the encoder reads them."""

import json
from pathlib import Path

import numpy as np
import pytest

from ablation.config.overrides import load_profile, resolve_config
from ablation.core.errors import UsageError
from ablation.data.corpus import load_corpus
from ablation.encoders.loading import load_encoder
from ablation.encoders.tiny import tiny_encoder
from ablation.training.train_run import preparation_key, prepare, tokenise
from tests.conftest import some_rows, write_corpus

SMOKE = load_profile("smoke")
PREFIXED = resolve_config(SMOKE | {"model.prefix": "query: "}, "mse")


def test_the_prefix_stands_before_every_text_and_counts_among_its_tokens(
    small_corpus: Path,
) -> None:
    corpus, encoder = load_corpus(str(small_corpus)), load_encoder("tiny")
    prepared = prepare(corpus, PREFIXED)
    for frame, texts in ((corpus.train, prepared.train), (corpus.test, prepared.test)):
        assert frame is not None
        assert texts is not None
        for text, ids in zip(frame["text"], texts.ids, strict=True):
            expected = encoder.tokenizer(
                f"query: {text}", truncation=True, max_length=PREFIXED.data.max_tokens
            )["input_ids"]
            assert prepared.vocabulary.kept[ids].tolist() == expected
    short = PREFIXED.model_copy(update={"data": PREFIXED.data.model_copy(update={"max_tokens": 6})})
    assert {len(ids) for ids in tokenise(["a long text with many words"], encoder, short)} == {6}


def test_texts_with_another_prefix_are_not_shared() -> None:
    assert preparation_key(PREFIXED) != preparation_key(resolve_config(SMOKE, "mse"))


def test_a_text_may_not_be_longer_than_the_encoder_reads() -> None:
    encoder = load_encoder("tiny")
    most = int(encoder.model.config.max_position_embeddings)
    long = PREFIXED.model_copy(
        update={"data": PREFIXED.data.model_copy(update={"max_tokens": 8192})}
    )
    (ids,) = tokenise(["word " * 3 * most], encoder, long)
    assert most - 2 <= len(ids) <= most
    assert np.issubdtype(ids.dtype, np.int64)


def test_a_text_without_a_token_is_refused_with_its_file_and_row(tmp_path: Path) -> None:
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    for file in tiny_encoder().iterdir():
        (encoder / file.name).write_bytes(file.read_bytes())
    tokenizer = json.loads((encoder / "tokenizer.json").read_text("utf-8"))
    tokenizer["post_processor"] = None
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"String": "\u200b"}, "content": ""}
    (encoder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    rows = some_rows(20, ("en", "fr"))
    train = [*rows[:3], ("\u200b", 2.0, "en"), *rows[3:]]
    corpus = load_corpus(
        str(write_corpus(tmp_path / "data", train, [*rows, ("\u200b\u200b", 2.0, "fr")]))
    )
    config = resolve_config(SMOKE | {"model.encoder": str(encoder)}, "mse")
    with pytest.raises(UsageError) as error:
        prepare(corpus, config)
    assert [problem.split(" below")[0] for problem in error.value.problems] == [
        "data/train.csv, row 4",
        "data/test.csv, row 41",
    ]
