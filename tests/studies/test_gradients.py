"""The gradients of the loss terms equal those taken one at a time; measuring changes nothing."""

import copy
from collections.abc import Mapping

import pytest
import torch

from ablation.config.schema import LossConfig, RunConfig
from ablation.training.batching import collate
from ablation.training.freezing import freeze
from ablation.training.loop import Hooks, TrainingData, fit
from ablation.training.losses import total_loss
from ablation.training.model import IntimacyRegressor
from studies.gradients import measure_gradients, term_gradients
from tests.training.test_loop import FAST, model, texts

BOTH = LossConfig(regression="epm", contrastive="as_printed", contrastive_weight=0.5)


def flat_gradient(regressor: IntimacyRegressor, loss: LossConfig, term: str) -> torch.Tensor:
    """Return one term's gradient over the encoder's parameters, by its own backward pass."""
    alone = copy.deepcopy(regressor).eval()
    batch = collate(texts(), texts().row, torch.device("cpu"))
    terms = total_loss(alone(batch.ids, batch.lengths), batch.label, batch.language, loss)
    value = (
        terms.regression if term == "regression" else loss.contrastive_weight * terms.contrastive
    )
    value.backward()
    trained = [p for p in alone.encoder.parameters() if p.requires_grad]
    return torch.cat(
        [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in trained]
    ).double()


def measured(regressor: IntimacyRegressor, loss: LossConfig) -> Mapping[str, float]:
    batch = collate(texts(), texts().row, torch.device("cpu"))
    terms = total_loss(
        regressor.eval()(batch.ids, batch.lengths), batch.label, batch.language, loss
    )
    return term_gradients(regressor, terms, loss.contrastive_weight)


@pytest.mark.parametrize("frozen", [None, 0, 2])
def test_norms_and_cosine_are_those_of_the_terms_taken_one_at_a_time(frozen: int | None) -> None:
    regressor = model()
    if frozen is not None:
        freeze(regressor, frozen)
    a, b = (flat_gradient(regressor, BOTH, term) for term in ("regression", "contrastive"))
    figures = measured(regressor, BOTH)
    assert figures["gradient/regression"] == pytest.approx(a.norm().item(), rel=1e-4)
    assert figures["gradient/contrastive"] == pytest.approx(b.norm().item(), rel=1e-4)
    assert figures["gradient/sum"] == pytest.approx((a + b).norm().item(), rel=1e-4)
    assert figures["gradient/cosine"] == pytest.approx(
        torch.nn.functional.cosine_similarity(a, b, dim=0).item(), abs=1e-4
    )


def test_without_a_contrastive_term_the_sum_is_the_regressions() -> None:
    figures = measured(model(), LossConfig())
    assert figures.keys() == {"gradient/regression", "gradient/sum"}
    assert figures["gradient/sum"] == figures["gradient/regression"] > 0


def test_where_no_layer_trains_there_is_nothing_to_measure() -> None:
    regressor = model()
    freeze(regressor, 4)
    assert measured(regressor, BOTH) == {}


@pytest.mark.usefixtures("threads")
def test_measuring_changes_no_bit_of_what_is_learned() -> None:
    data, plain, watched = texts(), model(), model()
    points: list[Mapping[str, float]] = []
    for regressor, on_terms in ((plain, None), (watched, measure_gradients(0.5))):
        hooks = Hooks(on_point=lambda values, step: points.append(values), on_terms=on_terms)
        fit(
            regressor,
            TrainingData(data, data, lambda p: {}),
            RunConfig(loss=BOTH, optimisation=FAST),
            seed=0,
            hooks=hooks,
        )
    assert all(
        torch.equal(a, b) for a, b in zip(plain.parameters(), watched.parameters(), strict=True)
    )
    with_gradients = [values for values in points if "gradient/cosine" in values]
    steps = FAST.epochs * len(data) // FAST.batch_size
    assert len(with_gradients) == steps // FAST.log_every
    assert all(-1 - 1e-9 <= values["gradient/cosine"] <= 1 + 1e-9 for values in with_gradients)
