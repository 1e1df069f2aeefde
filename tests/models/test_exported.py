"""An exported folder is a sentence-transformers model, and this package reads it back."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ablation.core.errors import UsageError
from ablation.encoders.loading import load_encoder
from ablation.models.exported import LoadedModel, read_model, write_ensemble, write_model
from ablation.models.predictor import Member, Predictor, load_model, single
from ablation.training.batching import Texts
from ablation.training.evaluation import predict
from ablation.training.model import build_model

WORDS = ["good night my love", "buses at nine", "x", "a rather long text " * 20]


def make(seed: int = 0, pooling: str = "mean", prefix: str = "query: ") -> LoadedModel:
    encoder = load_encoder("tiny")
    model = build_model(encoder.model, pooling, dropout=None, label_mean=2.0, seed=seed)
    with torch.no_grad():
        model.head.weight.mul_(20)  # texts get different scores
    return LoadedModel(model.eval(), encoder.tokenizer, 64, prefix, None)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("prefix", ["", "query: "])
def test_a_written_model_is_read_back_as_it_was(pooling: str, prefix: str, tmp_path: Path) -> None:
    model = make(pooling=pooling, prefix=prefix)
    write_model(tmp_path / "model", model)
    back = read_model(tmp_path / "model")
    assert (back.max_tokens, back.prefix, back.model.pooling) == (64, prefix, pooling)
    np.testing.assert_array_equal(single(back).predict(WORDS), single(model).predict(WORDS))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_sentence_transformers_alone_gives_the_same_scores(pooling: str, tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="pip install -e '.[test]'")
    model = make(pooling=pooling)
    write_model(tmp_path / "model", model)
    script = """
import json, sys
sys.modules["ablation"] = None  # importing it raises
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], device="cpu")
print(json.dumps([model.max_seq_length, model.encode(json.loads(sys.argv[2]))[:, 0].tolist()]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "model"), json.dumps(WORDS)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    limit, scores = json.loads(done.stdout.splitlines()[-1])
    assert limit == 64
    np.testing.assert_allclose(scores, single(model).predict(WORDS), atol=1e-5)
    assert np.ptp(scores) > 0.001


def test_an_ensemble_averages_its_members_and_says_how_they_differ(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        write_model(tmp_path / name, make(seed))
    write_ensemble(tmp_path, {"a": 3.0, "b": 1.0})
    one, other = (load_model(tmp_path / name).predict(WORDS) for name in ("a", "b"))
    score, spread = load_model(tmp_path).score(WORDS)
    np.testing.assert_allclose(score, 0.75 * one + 0.25 * other, rtol=1e-6)
    assert spread is not None
    np.testing.assert_allclose(spread, np.abs(one - other) * np.sqrt(3) / 4, rtol=1e-4)
    assert load_model(tmp_path / "a").score(WORDS).spread is None


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("modules.json", "[]"),
        ("modules.json", "{"),
        ("sentence_bert_config.json", "{}"),
        ("1_Pooling/config.json", "{}"),
        ("2_Dense/model.safetensors", "no tensors"),
        ("intimacy.json", '{"identity": 1}'),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(file: str, content: str, tmp_path: Path) -> None:
    write_model(tmp_path, make())
    (tmp_path / file).write_text(content)
    with pytest.raises(UsageError, match="not a model") as error:
        read_model(tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_without_an_export_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--export"):
        load_model(tmp_path)
    write_ensemble(tmp_path, {})
    with pytest.raises(UsageError, match="no members"):
        load_model(tmp_path)


@pytest.mark.parametrize("texts", [["good", ""], ["good", None], ["good", " \n"], [1.0]])
def test_what_is_no_text_is_refused(texts: list[str]) -> None:
    with pytest.raises(UsageError, match="is not a text"):
        single(make()).predict(texts)


def test_a_pair_is_scored_as_it_was_trained_and_its_second_text_counts() -> None:
    loaded = make()
    first, second = ["a cat sleeps", "rain"], ["a dog barks", "a much longer second text"]
    ids = loaded.tokenizer([f"query: {text}" for text in first], second)["input_ids"]
    rows = Texts(
        [np.asarray(row, dtype=np.int64) for row in ids],
        np.full(2, np.nan),
        np.zeros(2, dtype=np.int64),
        np.arange(2),
    )
    found = single(loaded).predict(first, second)
    np.testing.assert_allclose(found, predict(loaded.model, rows), atol=1e-6)
    assert not np.allclose(found, single(loaded).predict(first, second[::-1]), atol=1e-6)


def test_a_model_of_pairs_needs_pairs_and_another_refuses_them() -> None:
    loaded = make()
    of_pairs = Predictor((Member(lambda: loaded),), is_pair=True)
    with pytest.raises(UsageError, match="scores pairs of texts"):
        of_pairs.predict(["a"])
    of_single = Predictor((Member(lambda: loaded),), is_pair=False)
    with pytest.raises(UsageError, match="scores single texts"):
        of_single.predict(["a"], ["b"])
