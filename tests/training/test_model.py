"""The regressor of Eq. 1 and its export."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ablation.core.errors import UsageError
from ablation.encoders.loading import load_encoder
from ablation.encoders.trimming import trim, vocabulary_of
from ablation.training.batching import Texts, collate
from ablation.training.model import build_model, export, load_exported
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


def test_an_exported_model_predicts_the_same_with_its_whole_vocabulary(tmp_path: Path) -> None:
    encoder = load_encoder("tiny")
    words = ["good night my love", "buses at nine"]
    ids = [np.array(i) for i in encoder.tokenizer(words)["input_ids"]]
    vocabulary = vocabulary_of(ids, encoder.tokenizer, encoder.model)
    trimmed = build_trimmed(encoder, vocabulary)
    model = build_model(trimmed.model, "mean", dropout=None, label_mean=2.0, seed=0).eval()
    export(tmp_path / "model", model, encoder, vocabulary, max_tokens=64, prefix="query: ")
    back = load_exported(tmp_path / "model")

    def predict(regressor: torch.nn.Module, rows: list[np.ndarray]) -> torch.Tensor:
        batch = collate(
            Texts(rows, np.zeros(2), np.zeros(2, dtype=int), np.arange(2)),
            np.arange(2),
            torch.device("cpu"),
        )
        with torch.inference_mode():
            return torch.as_tensor(regressor(batch.ids, batch.lengths).prediction)

    torch.testing.assert_close(
        predict(model, [vocabulary.translate(i) for i in ids]),
        predict(back.model, ids),
        atol=1e-5,
        rtol=1e-5,
    )
    assert (back.max_tokens, back.prefix) == (64, "query: ")
    assert (
        back.model.encoder.get_input_embeddings().weight.shape
        == encoder.model.get_input_embeddings().weight.shape
    )
    assert back.tokenizer("something entirely new")["input_ids"]


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


def test_a_folder_without_an_export_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--export"):
        load_exported(tmp_path)
