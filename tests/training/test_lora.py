"""Low-rank adapters: they start as nothing, train alone, and end in the encoder's weights."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ablation.config.overrides import load_profile, resolve_config
from ablation.config.schema import ModelConfig
from ablation.core.errors import UsageError
from ablation.core.identity import RunKey
from ablation.data.corpus import load_corpus
from ablation.encoders.loading import load_encoder
from ablation.encoders.sources import encoder_digest
from ablation.models.kept_weights import AboutModel, keep_weights, rebuild
from ablation.training.batching import Texts
from ablation.training.evaluation import predict
from ablation.training.freezing import count_parameters
from ablation.training.loop import Hooks
from ablation.training.lora import add_lora, merge_lora
from ablation.training.model import IntimacyRegressor, build_model
from ablation.training.train_run import check_trainable, prepare, train_run

LORA = ModelConfig(encoder="tiny", lora_rank=2)
IDS, LENGTHS = torch.arange(5, 15), torch.tensor([6, 4])


def model(seed: int | None = None) -> IntimacyRegressor:
    made = build_model(
        load_encoder("tiny").model, "mean", dropout=0.0, label_mean=3.0, seed=0
    ).eval()
    if seed is not None:
        add_lora(made, LORA, seed)
    return made


def sentence(of: IntimacyRegressor) -> torch.Tensor:
    with torch.no_grad():
        vectors: torch.Tensor = of(IDS, LENGTHS).sentence
    return vectors


def trained(of: IntimacyRegressor) -> dict[str, torch.Tensor]:
    return {name: p for name, p in of.named_parameters() if p.requires_grad}


def test_they_change_nothing_before_training_and_only_they_and_the_head_train() -> None:
    adapted = model()
    before = torch.get_rng_state()
    add_lora(adapted, LORA, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(sentence(adapted), sentence(model()))
    assert all("lora_" in name or name.startswith("head.") for name in trained(adapted))
    counts = count_parameters(adapted)
    assert 0 < counts.trainable < counts.total / 10


def test_their_weights_are_those_of_the_seed() -> None:
    one, same, other = (trained(model(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_merged_they_are_the_encoders_own_weights() -> None:
    adapted = model(seed=1)
    with torch.no_grad():
        for name, parameter in trained(adapted).items():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(0))
    expected = sentence(adapted)
    assert not torch.allclose(expected, sentence(model()))
    merge_lora(adapted.encoder)
    torch.testing.assert_close(sentence(adapted), expected, rtol=1e-4, atol=1e-5)
    names = {name for name, _ in adapted.named_parameters()}
    assert names == {name for name, _ in model().named_parameters()}


def test_a_run_trains_them_and_its_kept_weights_predict_the_same(
    small_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABLATION_STATE", str(tmp_path / "state"))
    settings = load_profile("smoke") | {"model.lora_rank": 2, "optimisation.lr_encoder": 0.05}
    config = resolve_config(settings)
    prepared = prepare(load_corpus(str(small_corpus)), config)
    check_trainable(config, prepared)
    key = RunKey("mse", "dev1", 0)
    result = train_run(prepared, config, key, "2" * 64, Hooks())
    assert result.model is not None
    lora_b = [p for name, p in trained(result.model).items() if "lora_B" in name]
    assert any(bool((p != 0).any()) for p in lora_b)
    about = AboutModel(
        identity="2" * 64,
        variant="mse",
        split="dev1",
        seed=0,
        config=config,
        parts={"encoder": encoder_digest("tiny")},
        corpus="c",
        label_range=(1.0, 5.0),
    )
    rebuilt, encoder = rebuild(keep_weights(result.model, prepared.vocabulary, about))
    texts = prepared.corpus.train["text"].tolist()[:2]
    ids = [np.array(i) for i in encoder.tokenizer(texts)["input_ids"]]
    unknown, zeros = np.full(2, np.nan), np.zeros(2, dtype=np.int64)
    again = predict(rebuilt, Texts(ids, unknown, zeros, np.arange(2)))
    translated = [prepared.vocabulary.translate(i) for i in ids]
    first = predict(result.model.eval(), Texts(translated, unknown, zeros, np.arange(2)))
    np.testing.assert_allclose(again, first, rtol=1e-4, atol=1e-4)


def test_one_way_of_freezing_excludes_the_other() -> None:
    with pytest.raises(UsageError, match="both freeze the encoder: choose one"):
        resolve_config({"model.lora_rank": 4}, "epm+ft")


def test_without_peft_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UsageError, match=r"pip install 'ablation-suite\[lora\]'"):
        model(seed=0)
