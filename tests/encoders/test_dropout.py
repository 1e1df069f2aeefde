"""Dropout by cheap random bits: share of dropped elements, mean, same mask backward."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from ablation.encoders.dropout import (
    Dropout,
    draw,
    drawn_from,
    effective_probability,
    factors,
    use_fast_dropout,
)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.25, 0.5, 1.0])
def test_the_share_that_falls_is_the_one_asked_for(p: float) -> None:
    torch.manual_seed(0)
    count = 200_000
    fallen = int((factors(draw(count), p, torch.float32) == 0).sum())
    assert abs(effective_probability(p) - p) <= 2**-17
    assert stats.binomtest(fallen, count, effective_probability(p)).pvalue > 1e-4


def test_neighbours_in_one_random_word_fall_independently() -> None:
    torch.manual_seed(1)
    fallen = (factors(draw(400_000), 0.3, torch.float32) == 0).numpy().reshape(-1, 4)
    correlations = np.corrcoef(fallen.astype(float), rowvar=False)
    assert np.abs(correlations - np.eye(4)).max() < 0.02


def test_what_is_kept_is_scaled_so_that_the_mean_stays_and_gradients_pass_the_same_mask() -> None:
    torch.manual_seed(2)
    given = torch.ones(50, 1000, requires_grad=True)
    output = Dropout(0.1)(given)
    scale = 1 / (1 - effective_probability(0.1))
    assert set(output.detach().unique().tolist()) == {0.0, torch.tensor(scale).item()}
    assert output.mean().item() == pytest.approx(1.0, abs=0.01)
    (gradient,) = torch.autograd.grad(output, given, torch.full_like(output, 2.0))
    torch.testing.assert_close(gradient, 2 * output.detach())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_every_number_type_drops_the_same_and_stays_itself(dtype: torch.dtype) -> None:
    torch.manual_seed(4)
    expected = Dropout(0.37)(torch.ones(5000, dtype=torch.float64))
    torch.manual_seed(4)
    output = Dropout(0.37)(torch.ones(5000, dtype=dtype))
    assert output.dtype == dtype
    torch.testing.assert_close(output.double(), expected, rtol=2**-8, atol=0)


def test_a_stream_of_ones_own_is_that_of_its_seed_and_leaves_the_others_alone() -> None:
    torch.manual_seed(5)
    undisturbed = draw(100)
    torch.manual_seed(5)
    with drawn_from(7):
        first = draw(100)
    with drawn_from(7):
        assert draw(100).equal(first)
    with drawn_from(8):
        assert not draw(100).equal(first)
    assert draw(100).equal(undisturbed)


def test_equal_seeds_equal_masks_and_nothing_falls_in_evaluation() -> None:
    layer, given = Dropout(0.5), torch.randn(64)
    outputs = []
    for _ in range(2):
        torch.manual_seed(3)
        outputs.append(layer(given))
    assert outputs[0].equal(outputs[1])
    assert layer.eval()(given) is given


def test_every_dropout_of_a_model_is_replaced_with_its_probability_and_mode() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.3), nn.Sequential(nn.Dropout(0.7))).eval()
    use_fast_dropout(model)
    dropouts = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    assert [(type(m), m.p, m.training) for m in dropouts] == [
        (Dropout, 0.3, False),
        (Dropout, 0.7, False),
    ]
