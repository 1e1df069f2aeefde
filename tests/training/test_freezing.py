"""Frozen tuning: exactly the embeddings and the lowest layers stay as they are."""

import pytest
import torch

from ablation.core.errors import UsageError
from ablation.encoders.loading import load_encoder, transformer_layers
from ablation.training.freezing import count_parameters, freeze, require_layers
from ablation.training.model import IntimacyRegressor, build_model


@pytest.fixture
def model() -> IntimacyRegressor:
    return build_model(load_encoder("tiny").model, "cls", dropout=None, label_mean=2.0, seed=0)


@pytest.mark.parametrize("depth", [0, 1, 3, 4])
def test_embeddings_and_the_lowest_layers_are_frozen_and_nothing_else(
    model: IntimacyRegressor, depth: int
) -> None:
    freeze(model, depth)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    expected = {
        name
        for name, _ in model.named_parameters()
        if name.startswith("encoder.embeddings.")
        or any(name.startswith(f"encoder.encoder.layer.{layer}.") for layer in range(depth))
    }
    assert frozen == expected


def test_counts_add_up(model: IntimacyRegressor) -> None:
    total = sum(p.numel() for p in model.parameters())
    assert count_parameters(model).trainable == total
    counts = freeze(model, 2)
    assert counts.total == total
    assert counts.trainable + counts.frozen == total
    one_layer = sum(p.numel() for p in transformer_layers(model.encoder)[0].parameters())
    assert counts.trainable == 2 * one_layer + 33


def test_frozen_parameters_get_no_gradient(model: IntimacyRegressor) -> None:
    freeze(model, 2)
    model(torch.tensor([0, 9, 10, 2]), torch.tensor([4])).prediction.sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_more_layers_than_there_are_is_an_error_that_names_both(model: IntimacyRegressor) -> None:
    with pytest.raises(UsageError, match=r"freeze_layers = 7: the encoder has 4 layers"):
        freeze(model, 7)
    require_layers(4, 4)
