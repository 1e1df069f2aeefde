"""Losses wait for no device, and selecting by places gives what selecting by a mask gives."""

import numpy as np
import pytest
import torch

from ablation.config.schema import LossConfig
from ablation.training.losses import LossTerms, total_loss
from ablation.training.losses.contrastive import select
from ablation.training.model import Output

CONTRASTIVE = ("none", "as_printed", "attract", "supcon", "rank_n_contrast")
TEXTS, FEATURES = 9, 5


def loss_on(device: str, contrastive: str, self_pairs: bool) -> tuple[Output, LossTerms]:
    """Return outputs on a device, which need gradients, and their loss."""
    random = np.random.default_rng(0)
    prediction, sentence = (
        torch.tensor(random.normal(size=size), dtype=torch.float32, device=device).requires_grad_()
        for size in ((TEXTS,), (TEXTS, FEATURES))
    )
    label = torch.tensor(random.integers(1, 5, TEXTS), dtype=torch.float32)
    language = torch.tensor(random.integers(0, 3, TEXTS))
    output = Output(prediction, sentence)
    settings = {"regression": "epm", "contrastive": contrastive, "self_pairs": self_pairs}
    config = LossConfig.model_validate(settings)
    return output, total_loss(output, label, language, config, torch.ones(TEXTS))


@pytest.mark.parametrize("self_pairs", [True, False])
@pytest.mark.parametrize("contrastive", CONTRASTIVE)
def test_no_value_of_the_device_is_asked_for(contrastive: str, self_pairs: bool) -> None:
    """A tensor on the meta device has no values: whoever asks for one gets an error."""
    output, terms = loss_on("meta", contrastive, self_pairs)
    terms.total.backward()
    assert (terms.contrastive is None) == (contrastive == "none")
    assert output.prediction.grad is not None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("contrastive", CONTRASTIVE)
def test_the_host_never_waits_for_a_gpu(contrastive: str) -> None:
    loss_on("cuda", contrastive, self_pairs=False)[1].total.backward()  # loads the kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss_on("cuda", contrastive, self_pairs=False)[1].total.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_selected_values_and_their_gradients_are_those_of_a_mask() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(7, 6, generator=generator)
    mask = torch.rand(7, 6, generator=generator) < 0.4
    by_mask, by_place = (values.clone().requires_grad_() for _ in range(2))
    first, second = by_mask[mask], select(by_place, mask)
    assert torch.equal(first, second)
    first.logsumexp(0).backward()
    second.logsumexp(0).backward()
    assert by_mask.grad is not None
    assert by_place.grad is not None
    assert torch.equal(by_mask.grad, by_place.grad)
