"""A run: texts as the encoder reads them, the model before its first step, and the record."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel

from ablation.config.overrides import load_profile, resolve_config
from ablation.core.errors import UsageError
from ablation.core.identity import RunKey
from ablation.data.corpus import Corpus, load_corpus
from ablation.data.splits import make_split
from ablation.encoders.loading import load_encoder
from ablation.encoders.tiny import tiny_encoder
from ablation.training.evaluation import pearson
from ablation.training.loop import NO_HOOKS
from ablation.training.train_run import (
    Prepared,
    check_trainable,
    epoch_table,
    fresh_model,
    preparation_key,
    prepare,
    tokenise,
    train_run,
)
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


def test_texts_that_a_setting_calls_equal_are_on_one_side_of_a_runs_split(tmp_path: Path) -> None:
    rows = some_rows(10, ("en", "es", "fr", "zh"))
    twins = [(text.upper(), label, group) for text, label, group in rows]
    corpus = load_corpus(str(write_corpus(tmp_path, [*rows, *twins])))
    config = resolve_config(
        SMOKE | {"data.equal_texts": "ignoring_case", "optimisation.epochs": 1}, "mse"
    )
    key = RunKey("mse", "dev1", 0)
    result = train_run(prepare(corpus, config), config, key, "", NO_HOOKS)
    dev = set(result.dev["row"])
    assert {row + len(rows) for row in dev if row < len(rows)} == {r for r in dev if r >= len(rows)}


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


class TestRun:
    KEY = RunKey("mse", "dev2:en+fr", 3)

    @pytest.fixture
    def corpus(self, corpus_folder: Callable[..., Path]) -> Corpus:
        rows = some_rows(12, ("en", "es", "fr", "zh"))
        uneven = [(t, 5.0 if language == "en" else y, language) for t, y, language in rows[::3]]
        uneven += [row for i, row in enumerate(rows) if i % 3]
        return load_corpus(str(corpus_folder(uneven, some_rows(4, ("en", "ko"), start=50))))

    @pytest.fixture
    def prepared(self, corpus: Corpus) -> Prepared:
        return prepare(corpus, PREFIXED)

    def test_the_head_starts_at_the_mean_of_the_training_labels(self, prepared: Prepared) -> None:
        split = make_split(prepared.corpus, self.KEY.split, 0)
        model = fresh_model(prepared, PREFIXED, split, seed=0)
        expected = prepared.train.label[split.train].mean()
        assert model.head.bias.item() == pytest.approx(expected)
        assert expected != pytest.approx(prepared.train.label.mean(), abs=1e-3)

    def test_the_seed_decides_the_head(self, prepared: Prepared) -> None:
        split = make_split(prepared.corpus, self.KEY.split, 0)
        first, again, other = (
            fresh_model(prepared, PREFIXED, split, seed=seed).head.weight for seed in (0, 0, 1)
        )
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_it_is_selected_on_the_splits_development_rows(self, prepared: Prepared) -> None:
        split = make_split(prepared.corpus, self.KEY.split, 0)
        result = train_run(prepared, PREFIXED, self.KEY, "identity", NO_HOOKS)
        assert result.dev["row"].tolist() == split.dev.tolist()
        held_out = result.dev["language"].isin(["en", "fr"])
        unseen = pearson(
            result.dev.loc[held_out, "prediction"].to_numpy(),
            result.dev.loc[held_out, "label"].to_numpy(),
        )
        assert result.record.dev["pearson_unseen"] == pytest.approx(unseen)
        assert set(result.record.unseen_in_training) == {"en", "fr"}
        assert (result.record.variant, result.record.seed, result.record.identity) == (
            "mse",
            3,
            "identity",
        )

    def test_on_test_rows_every_language_with_labelled_rows_is_seen(
        self, prepared: Prepared
    ) -> None:
        record = train_run(prepared, PREFIXED, self.KEY, "", NO_HOOKS).record
        assert record.test is not None
        assert record.test["pearson_seen"] == pytest.approx(record.test["pearson_en"])
        assert record.test["pearson_unseen"] == pytest.approx(record.test["pearson_ko"])


#: Encoders of other families, with the settings that differ.
FAMILIES: dict[str, dict[str, object]] = {
    "eurobert": {"num_key_value_heads": 2},
    "esm": {"pad_token_id": 1, "mask_token_id": 3},
    "mpnet": {"pad_token_id": 1},
    "qwen3": {"num_key_value_heads": 1, "head_dim": 16, "pad_token_id": None},
    "xlnet": {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64},
    "squeezebert": {"embedding_size": 32},
    "fnet": {},
    "canine": {"num_hash_buckets": 64, "local_transformer_stride": 8},
    "albert": {"embedding_size": 16, "num_hidden_layers": 4, "num_hidden_groups": 4},
    "xlm": {"emb_dim": 32, "n_layers": 4, "n_heads": 2},
    "convbert": {"embedding_size": 32},
    "nystromformer": {"num_landmarks": 8, "segment_means_seq_len": 8},
    "deberta": {"relative_attention": True, "pos_att_type": "c2p|p2c"},
}


def check(folder: Path, family: str, **settings: object) -> None:
    """Try an encoder of `family` with the tokenizer of the tiny one on texts of 200 tokens."""
    fields: dict[str, object] = {
        "vocab_size": 1000,
        "pad_token_id": 0,
    }
    if family not in ("xlnet", "xlm"):
        fields |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        fields |= {"intermediate_size": 64, "max_position_embeddings": 64}
    if family == "fnet":
        del fields["num_attention_heads"]
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **fields | FAMILIES[family])
    AutoModel.from_config(config).save_pretrained(folder / family)
    for file in tiny_encoder().glob("tokenizer*"):
        (folder / family / file.name).write_bytes(file.read_bytes())
    rows = [(f"{text} {'word ' * 40}", y, g) for text, y, g in some_rows(20, ("en", "fr"))]
    corpus = load_corpus(str(write_corpus(folder / "data", rows)))
    overrides = {"model.encoder": str(folder / family), "data.max_tokens": 512} | settings
    resolved = resolve_config(SMOKE | overrides, "mse")
    check_trainable(resolved, prepare(corpus, resolved))


@pytest.mark.parametrize("family", ["eurobert", "esm", "mpnet", "qwen3", "xlnet"])
@pytest.mark.parametrize("dropout", [None, 0.0, 0.3])
def test_other_families_run_and_follow_the_dropout(
    tmp_path: Path, family: str, dropout: float | None
) -> None:
    check(tmp_path, family, **({} if dropout is None else {"model.dropout": dropout}))


def test_an_encoder_with_its_layers_in_several_lists_can_be_cut(tmp_path: Path) -> None:
    check(tmp_path, "xlm", **{"model.layers": 2})


@pytest.mark.parametrize(
    ("family", "settings", "reason"),
    [
        ("squeezebert", {}, "can't be run on a text"),
        ("fnet", {}, "can't be run on a text"),
        ("canine", {}, "no matrix of token embeddings"),
        ("albert", {"model.layers": 2}, "can't be run on a text"),
        ("convbert", {}, "depends on the longer ones in its batch"),
        ("nystromformer", {}, "depends on the longer ones in its batch"),
        ("deberta", {"optimisation.precision": "bfloat16"}, "in bfloat16 .*, or float32"),
    ],
)
def test_an_encoder_that_cannot_be_run_is_refused_in_one_line(
    tmp_path: Path, family: str, settings: dict[str, object], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason) as error:
        check(tmp_path, family, **settings)
    assert "\n" not in str(error.value)


def test_epochs_keep_their_correlations_however_alike_their_predictions() -> None:
    rng = np.random.default_rng(0)
    label = rng.normal(2, 1, 200)
    near, far = (2 + s * (label + rng.normal(0, 1, 200)).astype(np.float32) for s in (1e-3, 1))
    table = epoch_table(np.arange(5, 205), [near, far, np.full(200, 2.1, np.float32)])
    assert table["row"].tolist() == list(range(5, 205))
    assert pearson(table["1"].to_numpy(), label) == pytest.approx(pearson(near, label), abs=1e-4)
    assert pearson(table["2"].to_numpy(), label) == pytest.approx(pearson(far, label), abs=1e-4)
    assert pearson(table["3"].to_numpy(), label) is None
