"""Two exact optimisations: packing and vocabulary trimming give what the plain model gives."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import DistilBertConfig, DistilBertModel

from ablation.config.schema import LossConfig, OptimisationConfig, RunConfig
from ablation.encoders.loading import Encoder, load_encoder
from ablation.encoders.packing import (
    attend_on_grid,
    make_packing,
    packed_attention,
    position_offset,
)
from ablation.encoders.trimming import (
    Vocabulary,
    embedding_of,
    full_vocabulary,
    restore,
    trim,
    vocabulary_of,
)
from ablation.training.batching import Texts, collate
from ablation.training.loop import Hooks, TrainingData, fit
from ablation.training.model import IntimacyRegressor, build_model

WORDS = [
    "you are all I have",
    "bus is late",
    "te quiero mucho, de verdad",
    "我想你",
    "no",
    "grazie a tutti per gli auguri",
]


@pytest.fixture(scope="module")
def tiny() -> Encoder:
    return load_encoder("tiny")


def texts_of(encoder: Encoder, repeat: int = 4) -> Texts:
    ids = encoder.tokenizer(WORDS * repeat, truncation=True, max_length=24)["input_ids"]
    count = len(ids)
    label = 1 + np.arange(count) % 9 / 2
    return Texts([np.array(i) for i in ids], label, np.arange(count) % 3, np.arange(count))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_packed_sentence_vectors_equal_padded_ones(tiny: Encoder, pooling: str) -> None:
    padded = tiny.tokenizer(
        WORDS, padding=True, truncation=True, max_length=24, return_tensors="pt"
    )
    with torch.inference_mode():
        hidden = tiny.model(
            input_ids=padded["input_ids"], attention_mask=padded["attention_mask"]
        ).last_hidden_state
        mask = padded["attention_mask"][..., None]
        expected = hidden[:, 0] if pooling == "cls" else (hidden * mask).sum(1) / mask.sum(1)
        model = build_model(tiny.model, pooling, dropout=None, label_mean=2.0, seed=0).eval()
        texts = texts_of(tiny, repeat=1)
        batch = collate(texts, np.arange(len(texts)), torch.device("cpu"))
        output = model(batch.ids, batch.lengths)
    torch.testing.assert_close(output.sentence, expected, atol=1e-5, rtol=1e-4)


def test_a_text_is_not_influenced_by_its_neighbours_in_the_pack(tiny: Encoder) -> None:
    model = build_model(tiny.model, "mean", dropout=None, label_mean=2.0, seed=0).eval()
    texts = texts_of(tiny, repeat=1)
    device = torch.device("cpu")
    together = collate(texts, np.arange(len(texts)), device)
    with torch.inference_mode():
        alone = [
            model(b.ids, b.lengths).prediction
            for b in (collate(texts, np.array([i]), device) for i in range(len(texts)))
        ]
        torch.testing.assert_close(
            model(together.ids, together.lengths).prediction, torch.cat(alone), atol=1e-5, rtol=1e-4
        )


def test_transformers_options_reach_the_attention(tiny: Encoder) -> None:
    packing = make_packing(torch.tensor([5, 3]), tiny.model)
    q, k, v = (torch.randn(1, packing.heads, 8, 16) for _ in range(3))

    def attended(**options: float) -> torch.Tensor:
        torch.manual_seed(0)
        return packed_attention(tiny.model, q, k, v, None, packing=packing, **options)[0]

    torch.testing.assert_close(attended(scaling=16**-0.5), attended())
    assert not torch.allclose(attended(scaling=1.0), attended())
    assert not torch.allclose(attended(dropout=0.5), attended())
    on_grid = attend_on_grid(*(x[0].transpose(0, 1) for x in (q, k, v)), packing, 0.0, 1.0)
    torch.testing.assert_close(on_grid, attended(scaling=1.0))


@pytest.mark.parametrize(
    ("family", "offset"), [("bert", 0), ("xlm-roberta", 2), ("camembert", 2), ("roberta", 2)]
)
def test_positions_start_behind_the_padding_in_robertas_families(
    tiny: Encoder, family: str, offset: int
) -> None:
    model = copy.deepcopy(tiny.model)
    model.config.model_type = family
    assert model.config.pad_token_id == 1
    assert position_offset(model) == offset


def test_attention_on_a_padded_grid_gives_what_attention_by_blocks_gives(tiny: Encoder) -> None:
    lengths = torch.tensor([7, 4, 4, 1])
    packing = make_packing(lengths, tiny.model)
    heads, size = packing.heads, 16
    q, k, v = (torch.randn(1, heads, 16, size) for _ in range(3))
    by_blocks, _ = packed_attention(tiny.model, q, k, v, None, packing=packing)
    on_grid = attend_on_grid(
        *(x[0].transpose(0, 1) for x in (q, k, v)), packing, 0.0, None
    )  # what a GPU takes
    torch.testing.assert_close(on_grid, by_blocks)


def test_gradients_of_packed_and_padded_attention_are_equal(tiny: Encoder) -> None:
    texts = texts_of(tiny, repeat=1)
    batch = collate(texts, np.arange(len(texts)), torch.device("cpu"))
    packed = build_model(tiny.model, "mean", dropout=0.0, label_mean=2.0, seed=0)
    padded = copy.deepcopy(packed)
    padded.encoder.set_attn_implementation("sdpa")
    packed(batch.ids, batch.lengths).prediction.square().sum().backward()
    packing = make_packing(batch.lengths, padded.encoder)
    hidden = padded._encode_padded(batch.ids, packing)
    mean = (
        hidden.new_zeros(len(texts), hidden.shape[-1]).index_add(0, packing.text, hidden)
        / batch.lengths[:, None]
    )
    padded.head(mean).squeeze(-1).square().sum().backward()
    for (name, packed_one), (_, padded_one) in zip(
        packed.named_parameters(), padded.named_parameters(), strict=True
    ):
        assert (packed_one.grad is None) == (padded_one.grad is None), name
        if packed_one.grad is not None and padded_one.grad is not None:
            torch.testing.assert_close(
                packed_one.grad, padded_one.grad, atol=1e-5, rtol=1e-3, msg=name
            )


def test_families_without_packing_are_padded_and_give_the_same() -> None:
    torch.manual_seed(0)
    model = DistilBertModel(
        DistilBertConfig(
            vocab_size=40, dim=16, n_layers=2, n_heads=2, hidden_dim=32, pad_token_id=0
        )
    )
    regressor = IntimacyRegressor(model, "mean", 2.0, seed=0).eval()
    ids, lengths = torch.tensor([5, 6, 7, 8, 9]), torch.tensor([2, 3])
    with torch.inference_mode():
        together = regressor(ids, lengths).prediction
        apart = torch.cat(
            [regressor(ids[:2], lengths[:1]).prediction, regressor(ids[2:], lengths[1:]).prediction]
        )
    torch.testing.assert_close(together, apart, atol=1e-6, rtol=1e-5)


def test_tokens_translate_there_and_back() -> None:
    vocabulary = Vocabulary(np.array([0, 1, 5, 9]), 10)
    assert vocabulary.translate(np.array([9, 0, 5])).tolist() == [3, 0, 2]
    assert vocabulary.kept[vocabulary.translate(np.array([9, 0, 5]))].tolist() == [9, 0, 5]


@pytest.mark.parametrize("token", [2, 99])
def test_a_token_that_was_not_kept_is_an_error(token: int) -> None:
    with pytest.raises(KeyError):
        Vocabulary(np.array([0, 1, 5, 9]), 10).translate(np.array([token]))


def test_the_padding_token_keeps_its_number(tiny: Encoder) -> None:
    vocabulary = vocabulary_of([np.array([40, 41])], tiny.tokenizer, tiny.model)
    assert vocabulary.translate(np.array([tiny.tokenizer.pad_token_id])).tolist() == [
        tiny.tokenizer.pad_token_id
    ]
    assert len(vocabulary.kept) < full_vocabulary(tiny.model).original_size


def test_special_tokens_and_all_up_to_the_padding_are_kept(tiny: Encoder) -> None:
    kept = set(vocabulary_of([np.array([40, 41])], tiny.tokenizer, tiny.model).kept.tolist())
    assert kept == {
        40,
        41,
        *range(tiny.tokenizer.pad_token_id + 1),
        *tiny.tokenizer.all_special_ids,
    }


def test_ids_up_to_the_padding_are_kept_even_if_they_are_not_special(tiny: Encoder) -> None:
    tokenizer = copy.deepcopy(tiny.tokenizer)
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(50)
    vocabulary = vocabulary_of([np.array([60])], tokenizer, tiny.model)
    assert vocabulary.translate(np.array([50])).tolist() == [50]


def test_trimming_keeps_what_belongs_to_the_embeddings(tiny: Encoder) -> None:
    model = copy.deepcopy(tiny.model)
    whole = embedding_of(model)
    whole.weight.requires_grad_(False)
    vocabulary = vocabulary_of([np.array([40, 41])], tiny.tokenizer, model)
    trim(model, vocabulary)
    trimmed = embedding_of(model)
    assert trimmed.padding_idx == whole.padding_idx is not None
    assert not trimmed.weight.requires_grad
    assert torch.equal(trimmed.weight, whole.weight[torch.from_numpy(vocabulary.kept)])
    assert model.config.vocab_size == len(vocabulary.kept) == trimmed.num_embeddings
    restore(model, vocabulary, whole.weight)
    assert model.config.vocab_size == vocabulary.original_size
    assert torch.equal(embedding_of(model).weight, whole.weight)


def test_training_with_a_trimmed_vocabulary_is_step_by_step_the_untrimmed_training(
    tiny: Encoder,
) -> None:
    texts = texts_of(tiny)
    vocabulary = vocabulary_of(texts.ids, tiny.tokenizer, tiny.model)
    small = copy.deepcopy(tiny.model)
    trim(small, vocabulary)
    translated = replace(texts, ids=[vocabulary.translate(ids) for ids in texts.ids])
    optimisation = OptimisationConfig(
        epochs=2, batch_size=8, lr_encoder=1e-3, lr_head=1e-2, log_every=1
    )
    points: dict[str, list[dict[str, float]]] = {"whole": [], "trimmed": []}
    models = {}
    for name, encoder, data in (("whole", tiny.model, texts), ("trimmed", small, translated)):
        model = build_model(encoder, "cls", dropout=None, label_mean=2.5, seed=3)
        fit(
            model,
            TrainingData(
                data, data, lambda p: {"pearson": float(np.corrcoef(p, texts.label)[0, 1])}
            ),
            RunConfig(
                loss=LossConfig(regression="epm", contrastive="as_printed"),
                optimisation=optimisation,
            ),
            seed=1,
            hooks=Hooks(on_point=lambda values, step, name=name: points[name].append(dict(values))),
        )
        models[name] = model
    assert len(points["whole"]) == 2 * 3 + 2
    for whole, trimmed in zip(points["whole"], points["trimmed"], strict=True):
        assert whole == pytest.approx(trimmed, rel=2e-4, abs=1e-6)
    pretrained = embedding_of(tiny.model).weight
    restored = copy.deepcopy(models["trimmed"].encoder)
    restore(restored, vocabulary, pretrained)
    whole_rows = embedding_of(models["whole"].encoder).weight
    kept = torch.from_numpy(vocabulary.kept)
    torch.testing.assert_close(
        embedding_of(restored).weight[kept], whole_rows[kept], atol=1e-5, rtol=1e-3
    )
    never = torch.tensor(sorted(set(range(len(pretrained))) - set(vocabulary.kept.tolist())))
    assert torch.equal(embedding_of(restored).weight[never], pretrained[never])
