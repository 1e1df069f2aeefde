"""Kept weights: whole or absent, rebuilt to the same model, dropped by the rule that was set."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ablation.config.schema import ModelConfig, RunConfig
from ablation.core.errors import UsageError
from ablation.core.identity import RunKey
from ablation.encoders.loading import load_encoder
from ablation.encoders.sources import encoder_digest
from ablation.encoders.trimming import Vocabulary, embedding_of, vocabulary_of
from ablation.models.kept_weights import (
    AboutModel,
    KeptRun,
    all_kept,
    find_kept,
    keep_weights,
    rebuild,
    remove_corrupt_weights,
    remove_kept,
)
from ablation.runs.keeping import select_kept
from ablation.training.batching import Texts
from ablation.training.evaluation import predict
from ablation.training.freezing import freeze
from ablation.training.model import IntimacyRegressor, build_model
from ablation.training.train_run import build_trimmed

WORDS = ["good night my love", "buses at nine", "something new"]


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ABLATION_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def about(encoder: str = "tiny", identity: str = "1" * 64, **model: object) -> AboutModel:
    return AboutModel(
        identity=identity,
        variant="mse",
        split="dev1",
        seed=0,
        config=RunConfig(model=ModelConfig(encoder=encoder, pooling="mean", **model)),  # type: ignore[arg-type]
        parts={"encoder": encoder_digest(encoder)},
        corpus="demo",
        languages=("en",),
        label_range=(1.0, 5.0),
    )


def texts() -> list[np.ndarray]:
    return [np.array(i) for i in load_encoder("tiny").tokenizer(WORDS)["input_ids"]]


def trained(frozen: int | None = None) -> tuple[IntimacyRegressor, Vocabulary]:
    """A model with a trimmed vocabulary whose trained parameters differ from the encoder's."""
    encoder = load_encoder("tiny")
    vocabulary = vocabulary_of(texts()[:2], encoder.tokenizer, encoder.model)
    trimmed = build_trimmed(encoder, vocabulary)
    model = build_model(trimmed.model, "mean", dropout=None, label_mean=2.0, seed=0)
    if frozen is not None:
        freeze(model, frozen, dropout=False)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model, vocabulary


def predicted(model: IntimacyRegressor, ids: list[np.ndarray]) -> np.ndarray:
    count = len(ids)
    rows = Texts(ids, np.zeros(count), np.zeros(count, dtype=int), np.arange(count))
    return predict(model, rows)


@pytest.mark.parametrize("frozen", [None, 0, 2, 4], ids=str)
def test_a_rebuilt_model_predicts_the_same_with_its_whole_vocabulary(frozen: int | None) -> None:
    model, vocabulary = trained(frozen)
    kept = keep_weights(model, vocabulary, about())
    back, encoder = rebuild(kept)
    expected = predicted(model, [vocabulary.translate(ids) for ids in texts()[:2]])
    np.testing.assert_array_equal(predicted(back, texts()[:2]), expected)
    whole = load_encoder("tiny").model
    assert embedding_of(back.encoder).weight.shape == embedding_of(whole).weight.shape
    untouched = np.setdiff1d(np.arange(vocabulary.original_size), vocabulary.kept)
    assert torch.equal(
        embedding_of(back.encoder).weight[untouched], embedding_of(whole).weight[untouched]
    )
    assert np.isfinite(predicted(back, texts())).all()
    assert encoder.model is back.encoder


def test_frozen_parameters_take_no_space() -> None:
    sizes = []
    for depth in (None, 2, 4):
        model, vocabulary = trained(depth)
        sizes.append(keep_weights(model, vocabulary, about()).size_bytes)
    assert sizes[0] > sizes[1] > sizes[2]


def test_what_is_kept_is_found_by_identity_and_removed() -> None:
    model, vocabulary = trained()
    first, second = about(identity="a" * 64), about(identity="b" * 64)
    for one in (first, second):
        keep_weights(model, vocabulary, one)
    assert [kept.about for kept in all_kept()] == [first, second]
    assert remove_kept([first.identity, "c" * 64]) == 1
    assert find_kept(first.identity) is None
    assert isinstance(find_kept(second.identity), KeptRun)


@pytest.mark.parametrize("harm", ["flip", "truncate", "weights", "about"])
def test_corrupt_weights_are_refused_and_removed(harm: str) -> None:
    model, vocabulary = trained()
    kept = keep_weights(model, vocabulary, about())
    weights = kept.folder / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    if harm == "flip":
        content[-1] ^= 1
        weights.write_bytes(content)
    elif harm == "truncate":
        weights.write_bytes(content[:100])
    elif harm == "weights":
        weights.unlink()
    else:
        (kept.folder / "model.json").write_text("{}")
        assert find_kept(kept.about.identity) is None
    with pytest.raises(UsageError, match="corrupt"):
        rebuild(kept)
    assert remove_corrupt_weights() == [kept.folder]
    assert remove_corrupt_weights() == []


def test_an_encoder_that_has_changed_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(load_encoder("tiny").model.name_or_path, folder)
    model, vocabulary = trained()
    kept = keep_weights(model, vocabulary, about(str(folder)))
    rebuild(kept)
    other = load_encoder("tiny").model
    with torch.no_grad():
        embedding_of(other).weight.add_(1)
    other.save_pretrained(folder)
    with pytest.raises(UsageError, match="has changed"):
        rebuild(kept)


RUNS = [
    (RunKey(variant, split, seed), score)
    for variant, split, seed, score in [
        ("mse", "dev1", 0, 0.5),
        ("mse", "dev1", 1, 0.6),
        ("epm", "dev1", 0, 0.7),
        ("epm", "dev1", 1, None),
        ("ensemble", "dev1", 1, 0.8),
        ("mse", "dev2", 0, 0.3),
    ]
]
MEMBERS = {RunKey("ensemble", "dev1", 1): [RunKey("mse", "dev1", 1), RunKey("epm", "dev1", 1)]}


def test_the_rule_says_whose_weights_stay() -> None:
    mse, epm = RunKey("mse", "dev1", 1), RunKey("epm", "dev1", 0)
    member, other = RunKey("epm", "dev1", 1), RunKey("mse", "dev2", 0)
    assert select_kept(RUNS, MEMBERS, "rows") == {mse, epm, member, other}
    assert select_kept(RUNS, MEMBERS, "best") == {mse, member, other}
    assert select_kept(RUNS, MEMBERS, "all") == {
        key for key, _ in RUNS if key.variant != "ensemble"
    }
    assert select_kept(RUNS, MEMBERS, "none") == set()


KEYS = st.builds(
    RunKey,
    st.sampled_from(["mse", "epm"]),
    st.sampled_from(["dev1", "dev2"]),
    st.integers(min_value=0, max_value=3),
)


@given(st.lists(st.tuples(KEYS, st.floats(-1, 1) | st.none()), unique_by=lambda run: run[0]))
def test_a_later_run_never_brings_back_what_was_dropped(
    scores: list[tuple[RunKey, float | None]],
) -> None:
    dropped: set[RunKey] = set()
    for count in range(len(scores) + 1):
        seen = scores[:count]
        stay = select_kept(seen, {}, "rows")
        assert not stay & dropped
        dropped |= {key for key, _ in seen} - stay
