"""Frozen tuning: exactly the embeddings and the lowest layers stay as they are."""

import pytest
import torch
from transformers import AutoConfig, AutoModel

from ablation.core.errors import UsageError
from ablation.encoders.loading import layer_stacks, load_encoder, transformer_layers
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


#: Families of encoders: the settings that differ, and the modules above the last layer.
FAMILIES: dict[str, tuple[dict[str, object], tuple[str, ...]]] = {
    "bert": ({}, ()),
    "xlm-roberta-xl": ({"pad_token_id": 1}, ("encoder.LayerNorm.",)),
    "distilbert": ({"dim": 32, "n_layers": 4, "n_heads": 2, "hidden_dim": 64}, ()),
    "electra": ({"embedding_size": 16}, ()),
    "albert": ({"embedding_size": 16, "num_hidden_groups": 4}, ()),
    "mpnet": ({"pad_token_id": 1}, ()),
    "deberta-v2": (
        {
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "type_vocab_size": 0,
        },
        (),
    ),
    "modernbert": (
        {"global_attn_every_n_layers": 2, "bos_token_id": 1, "eos_token_id": 2}
        | {"cls_token_id": 1, "sep_token_id": 2},
        ("final_norm.",),
    ),
    "eurobert": ({"num_key_value_heads": 2}, ("norm.",)),
    "xlm": ({"emb_dim": 32, "n_layers": 4, "n_heads": 2, "dropout": 0, "attention_dropout": 0}, ()),
    "flaubert": (
        {"emb_dim": 32, "n_layers": 4, "n_heads": 2, "dropout": 0, "attention_dropout": 0},
        (),
    ),
}


def of_family(family: str, **settings: object) -> IntimacyRegressor:
    """Return a model of four layers of a family, with random weights."""
    common = {
        "vocab_size": 40,
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
    }
    torch.manual_seed(0)
    fields = common | FAMILIES[family][0] | settings
    fields = {k: v for k, v in fields.items() if "n_heads" not in fields or k not in RENAMED}
    encoder = AutoModel.from_config(AutoConfig.for_model(family, **fields))
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return build_model(encoder, "mean", dropout=None, label_mean=2.0, seed=0)


#: Fields that some families call by other names.
RENAMED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")


@pytest.mark.parametrize("family", FAMILIES)
def test_in_every_family_only_the_upper_layers_and_what_is_above_them_move(family: str) -> None:
    model = of_family(family)
    freeze(model, 2)
    before = {name: p.detach().clone() for name, p in model.encoder.named_parameters()}
    upper = {
        id(p) for s in layer_stacks(model.encoder) for layer in s[2:] for p in layer.parameters()
    }
    model.train()
    model(
        torch.tensor([5, 9, 10, 2, 7, 8]), torch.tensor([4, 2])
    ).prediction.square().sum().backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=10.0).step()
    for name, parameter in model.encoder.named_parameters():
        trains = id(parameter) in upper or name.startswith(FAMILIES[family][1] or ("-",))
        assert parameter.requires_grad == trains, name
        if not trains:
            assert torch.equal(parameter, before[name]), name


def test_dropout_that_stays_on_in_frozen_layers_is_refused() -> None:
    with pytest.raises(UsageError, match=r"xlm: dropout can't be turned off .* model\.dropout=0"):
        freeze(of_family("xlm", dropout=0.1), 2)
    freeze(of_family("xlm", dropout=0.1), 2, dropout=True)


def test_layers_that_share_their_weights_are_refused() -> None:
    with pytest.raises(UsageError, match="albert: no stack of 4 transformer layers"):
        freeze(of_family("albert", num_hidden_groups=1), 2)
