"""AdamW's groups and the schedule of the learning rates."""

import pytest
import torch
from torch.optim import AdamW

from ablation.config.schema import OptimisationConfig
from ablation.encoders.loading import transformer_layers
from ablation.training.freezing import freeze
from ablation.training.model import IntimacyRegressor
from ablation.training.optimizer import make_optimizer, make_schedule
from tests.training.test_loop import model

SETTINGS = OptimisationConfig(lr_encoder=1e-3, lr_head=1e-2, weight_decay=0.3, adam_eps=1e-5)


def groups_of(
    regressor: IntimacyRegressor, optimisation: OptimisationConfig = SETTINGS
) -> dict[str, dict[str, float]]:
    """Return the settings of each parameter that the optimizer has."""
    names = {id(p): name for name, p in regressor.named_parameters()}
    return {
        names[id(p)]: {key: value for key, value in group.items() if key != "params"}
        for group in make_optimizer(regressor, optimisation).param_groups
        for p in group["params"]
    }


def test_every_parameter_that_trains_has_a_group() -> None:
    regressor = model()
    assert groups_of(regressor).keys() == {name for name, _ in regressor.named_parameters()}
    freeze(regressor, 2)
    trained = {name for name, p in regressor.named_parameters() if p.requires_grad}
    assert groups_of(regressor).keys() == trained


def test_encoder_and_head_have_rates_of_their_own() -> None:
    for name, group in groups_of(model()).items():
        assert group["lr"] == (1e-2 if name.startswith("head.") else 1e-3), name
        assert group["eps"] == 1e-5


def test_biases_and_norms_do_not_decay() -> None:
    for name, group in groups_of(model()).items():
        decays = not (name.endswith(".bias") or "LayerNorm" in name)
        assert group["weight_decay"] == (0.3 if decays else 0.0), name


def test_layer_decay_lowers_the_rate_from_the_top_layer_to_the_embeddings() -> None:
    regressor = model()
    groups = groups_of(regressor, SETTINGS.model_copy(update={"lr_layer_decay": 0.5}))
    count = len(transformer_layers(regressor.encoder))
    for name, group in groups.items():
        if ".embeddings." in name:
            expected = 1e-3 * 0.5**count
        elif ".layer." in name:
            layer = int(name.split(".layer.")[1].split(".")[0])
            expected = 1e-3 * 0.5 ** (count - 1 - layer)
        else:
            expected = 1e-2
        assert group["lr"] == pytest.approx(expected), name


def rates(optimisation: OptimisationConfig, steps: int) -> list[float]:
    """Return the rate of each step, and the one after the last."""
    optimizer = AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make_schedule(optimizer, optimisation, steps)
    result = [optimizer.param_groups[0]["lr"]]
    for _ in range(steps):
        optimizer.step()
        schedule.step()
        result.append(optimizer.param_groups[0]["lr"])
    return result


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        ("linear", [0, 0.5, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0]),
        ("constant", [0, 0.5, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
    ],
)
def test_rates_rise_over_the_warm_up_then_fall_or_stay(decay: str, expected: list[float]) -> None:
    optimisation = SETTINGS.model_copy(update={"decay": decay, "warmup": 0.2})
    assert rates(optimisation, 10) == pytest.approx(expected)


def test_without_warm_up_the_first_rate_is_the_highest() -> None:
    assert rates(SETTINGS.model_copy(update={"warmup": 0.0}), 4)[0] == 1.0


def test_an_unknown_decay_is_an_error() -> None:
    with pytest.raises(AssertionError, match="cosine"):
        rates(SETTINGS.model_copy(update={"decay": "cosine"}), 4)
