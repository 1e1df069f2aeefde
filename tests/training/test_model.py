"""The regressor of Eq. 1."""

import numpy as np
import pytest
import torch

from ablation.encoders.loading import load_encoder
from ablation.encoders.trimming import trim, vocabulary_of
from ablation.training.model import build_model
from ablation.training.train_run import build_trimmed


def test_the_head_starts_at_the_labels_mean() -> None:
    model = build_model(load_encoder("tiny").model, "cls", dropout=None, label_mean=2.1, seed=0)
    assert model.head.bias.item() == pytest.approx(2.1)
    assert model.head.weight.abs().max() < 0.2


def test_the_seed_alone_decides_the_heads_weights() -> None:
    encoder = load_encoder("tiny").model
    torch.manual_seed(1)
    first = build_model(encoder, "cls", dropout=None, label_mean=2.0, seed=5).head.weight
    torch.manual_seed(2)
    assert torch.equal(
        first, build_model(encoder, "cls", dropout=None, label_mean=2.0, seed=5).head.weight
    )
    assert not torch.equal(
        first, build_model(encoder, "cls", dropout=None, label_mean=2.0, seed=6).head.weight
    )


def test_dropout_is_replaced_everywhere_or_left_alone() -> None:
    encoder = load_encoder("tiny").model

    def rates(dropout: float | None) -> set[float]:
        model = build_model(encoder, "cls", dropout=dropout, label_mean=2.0, seed=0)
        return {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)}

    assert rates(0.25) == {0.25}
    assert rates(None) == {0.1}


def test_training_a_model_leaves_the_shared_encoder_as_it_was() -> None:
    encoder = load_encoder("tiny").model
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    model = build_model(encoder, "cls", dropout=None, label_mean=2.0, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_trimming_leaves_the_whole_encoder_whole() -> None:
    encoder = load_encoder("tiny")
    size = encoder.model.get_input_embeddings().weight.shape
    vocabulary = vocabulary_of([np.array([10, 11])], encoder.tokenizer, encoder.model)
    trimmed = build_trimmed(encoder, vocabulary)
    assert encoder.model.get_input_embeddings().weight.shape == size
    assert trimmed.model.get_input_embeddings().weight.shape[0] == len(vocabulary.kept)
    trim(encoder.model, vocabulary)
    for name, value in trimmed.model.state_dict().items():
        assert torch.equal(value, encoder.model.state_dict()[name]), name
