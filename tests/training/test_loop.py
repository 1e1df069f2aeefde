"""The loop: batches and seeds, the points of the curves, the best epoch, and failures."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from ablation.config.schema import LossConfig, OptimisationConfig, RunConfig
from ablation.core.errors import RunError
from ablation.encoders.loading import load_encoder
from ablation.training.batching import Texts
from ablation.training.evaluation import pearson, predict, prediction_table
from ablation.training.freezing import freeze
from ablation.training.loop import DevScores, FitResult, Hooks, TrainingData, fit, refit
from ablation.training.model import IntimacyRegressor, build_model

FAST = OptimisationConfig(epochs=3, batch_size=8, lr_encoder=1e-3, lr_head=1e-2, log_every=2)

MSE = LossConfig()


def texts(count: int = 32, languages: int = 2, seed: int = 0) -> Texts:
    rng = np.random.default_rng(seed)
    ids = [
        np.concatenate([[0], rng.integers(10, 200, rng.integers(2, 9)), [2]]) for _ in range(count)
    ]
    label = np.array([1 + 4 * i[1:-1].mean() / 200 for i in ids])
    return Texts(ids, label, np.arange(count) % languages, np.arange(count))


def model(seed: int = 0, dropout: float | None = None) -> IntimacyRegressor:
    return build_model(
        load_encoder("tiny").model, "mean", dropout=dropout, label_mean=3.0, seed=seed
    )


def fitted(
    regressor: IntimacyRegressor,
    data: Texts,
    optimisation: OptimisationConfig = FAST,
    loss: LossConfig = MSE,
    *,
    seed: int = 0,
    scores: DevScores | None = None,
) -> tuple[FitResult, list[tuple[int, Mapping[str, float]]]]:
    points: list[tuple[int, Mapping[str, float]]] = []

    def dev_scores(p: np.ndarray) -> dict[str, float]:
        r = pearson(p, data.label)
        return {} if r is None else {"pearson": r}

    result = fit(
        regressor,
        TrainingData(data, data, scores or dev_scores),
        RunConfig(loss=loss, optimisation=optimisation),
        seed=seed,
        hooks=Hooks(on_point=lambda values, step: points.append((step, dict(values)))),
    )
    return result, points


def test_it_learns_one_batch_by_heart() -> None:
    data = texts(8)
    result, _ = fitted(
        model(dropout=0.0), data, FAST.model_copy(update={"epochs": 60, "warmup": 0.05})
    )
    assert result.dev_scores["pearson"] > 0.95


@pytest.mark.usefixtures("threads")
def test_the_same_seed_gives_the_same_weights_to_the_bit() -> None:
    data, first, second = texts(), model(), model()
    torch.manual_seed(1)
    fitted(first, data)
    torch.manual_seed(99)
    fitted(second, data)
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )


def test_another_seed_gives_other_batches() -> None:
    data, first, second = texts(), model(), model()
    fitted(first, data, seed=0)
    fitted(second, data, seed=1)
    assert not torch.equal(first.head.weight, second.head.weight)


def test_the_best_epochs_weights_are_what_is_left() -> None:
    data, regressor = texts(), model()
    quality = iter([0.3, 0.9, 0.1])
    seen: list[np.ndarray] = []

    def staged(p: np.ndarray) -> dict[str, float]:
        seen.append(p)
        return {"pearson": next(quality)}

    result, _ = fitted(regressor, data, scores=staged)
    assert result.best_epoch == 2
    np.testing.assert_array_equal(result.dev_predictions, seen[1])
    np.testing.assert_allclose(predict(regressor, data), seen[1], atol=1e-6)


def test_of_equal_epochs_the_first_is_the_best() -> None:
    result, _ = fitted(model(), texts(), scores=lambda p: {"pearson": 0.5})
    assert result.best_epoch == 1


@pytest.mark.parametrize(
    ("by", "best"),
    [("pearson", 2), ("spearman", 3), ("concordance", 1), ("rmse", 3), ("mae", 1)],
)
def test_another_measure_can_choose_the_epoch(by: str, best: int) -> None:
    epochs = iter(
        [
            {"pearson": 0.1, "spearman": 0.1, "concordance": 0.9, "rmse": 0.9, "mae": 0.1},
            {"pearson": 0.9, "spearman": 0.2, "concordance": 0.8, "rmse": 0.8, "mae": 0.2},
            {"pearson": 0.2, "spearman": 0.3, "concordance": 0.7, "rmse": 0.7, "mae": 0.3},
        ]
    )
    chosen_by = FAST.model_copy(update={"select_by": by})
    result, _ = fitted(model(), texts(), chosen_by, scores=lambda _: next(epochs))
    assert result.best_epoch == best


def test_constant_predictions_are_never_the_best_whatever_their_error() -> None:
    epochs = iter([{"rmse": 0.1}, {"pearson": 0.2, "rmse": 0.9}, {"rmse": 0.1}])
    chosen_by = FAST.model_copy(update={"select_by": "rmse"})
    result, _ = fitted(model(), texts(), chosen_by, scores=lambda _: next(epochs))
    assert result.best_epoch == 2


def test_a_run_without_any_pearson_has_collapsed() -> None:
    result, _ = fitted(model(), texts(), scores=lambda p: {})
    assert result.best_epoch is None
    assert result.dev_scores == {}


def test_the_curves_have_a_point_every_few_steps_and_one_at_the_end() -> None:
    _, points = fitted(
        model(),
        texts(40),
        FAST.model_copy(update={"log_every": 4}),
        LossConfig(contrastive="as_printed"),
    )
    training = [(step, values) for step, values in points if "train/loss" in values]
    assert [step for step, _ in training] == [4, 8, 12, 15]
    for _, values in training:
        assert {
            "train/loss_regression",
            "train/loss_contrastive",
            "train/grad_norm",
            "lr/encoder",
            "lr/head",
        } <= set(values)
        total = values["train/loss_regression"] + values["train/loss_contrastive"]
        assert values["train/loss"] == pytest.approx(total, rel=1e-5)
    assert [step for step, values in points if "dev/pearson" in values] == [1, 2, 3]


def test_training_pearson_is_that_of_all_rows_since_the_last_point() -> None:
    data = texts(16)
    one_epoch = FAST.model_copy(
        update={"epochs": 1, "log_every": 2, "lr_encoder": 1e-12, "lr_head": 1e-12}
    )
    regressor = model(dropout=0.0)
    expected = pearson(predict(regressor, data), data.label)
    _, points = fitted(regressor, data, one_epoch)
    assert points[0][1]["train/pearson"] == pytest.approx(expected, abs=1e-4)


def test_batches_of_one_language_add_no_contrastive_term_and_are_counted() -> None:
    result, points = fitted(model(), texts(languages=1), loss=LossConfig(contrastive="attract"))
    assert result.skipped_contrastive == result.steps == 12
    assert all("train/loss_contrastive" not in values for _, values in points)


def test_a_loss_that_is_not_a_number_stops_the_run_and_names_the_rows() -> None:
    data = texts()
    data.label[5] = np.nan
    with pytest.raises(
        RunError, match=r"train/loss is not a finite number at step \d+ \(training rows .*"
    ):
        fitted(model(), data)


def test_frozen_layers_come_out_as_they_went_in() -> None:
    regressor = model()
    freeze(regressor, 2)
    before = {name: p.clone() for name, p in regressor.named_parameters()}
    fitted(regressor, texts())
    for name, parameter in regressor.named_parameters():
        assert torch.equal(parameter, before[name]) != parameter.requires_grad, name


@pytest.mark.usefixtures("threads")
def test_bfloat16_stays_close_to_float32() -> None:
    data, plain, low = texts(), model(dropout=0.0), model(dropout=0.0)
    fitted(plain, data)
    fitted(low, data, FAST.model_copy(update={"precision": "bfloat16"}))
    np.testing.assert_allclose(predict(plain, data), predict(low, data), atol=0.2)


def test_predictions_come_back_in_the_order_of_the_rows() -> None:
    data = texts(20)
    table = prediction_table(data, ["en", "zh"], predict(model(dropout=0.0), data))
    one_by_one = [predict(model(dropout=0.0), data.take(np.array([i])))[0] for i in range(20)]
    np.testing.assert_allclose(table["prediction"], one_by_one, atol=1e-5)
    assert table["row"].tolist() == list(range(20))
    assert table["language"].tolist() == ["en", "zh"] * 10


def batches_of(seed: int) -> list[list[list[int]]]:
    """Return the lengths of each training step's texts, which all differ, by epoch."""
    data = Texts(
        [np.arange(10, 13 + i) for i in range(24)],
        np.linspace(1, 5, 24),
        np.arange(24) % 2,
        np.arange(24),
    )
    seen: list[list[int]] = []
    regressor = model()

    def note(module: IntimacyRegressor, inputs: tuple[torch.Tensor, ...]) -> None:
        if module.training:
            seen.append(inputs[1].tolist())

    regressor.register_forward_pre_hook(note)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ablation.training.step.count_pieces", lambda model: 1)  # whole batches
        fitted(regressor, data, seed=seed)
    return [seen[i : i + 3] for i in range(0, len(seen), 3)]


def test_the_seed_decides_the_order_and_every_epoch_has_its_own() -> None:
    epochs, again, other = batches_of(0), batches_of(0), batches_of(1)
    assert epochs == again
    assert all(a != b for a, b in zip(epochs, other, strict=True))
    assert len({str(epoch) for epoch in epochs}) == FAST.epochs


def test_the_seed_decides_the_dropout_too() -> None:
    """A file of one text has one order: only dropout can differ."""
    trained = []
    for seed in (0, 0, 1):
        regressor = model(dropout=0.5)
        fitted(regressor, texts(1), seed=seed, scores=lambda p: {})
        trained.append(regressor.head.weight)
    assert torch.equal(trained[0], trained[1])
    assert not torch.equal(trained[0], trained[2])


def test_a_point_is_the_mean_of_the_steps_since_the_last_one() -> None:
    every, third = (
        [
            values
            for _, values in fitted(
                model(), texts(48), FAST.model_copy(update={"log_every": log_every})
            )[1]
            if "train/loss" in values
        ]
        for log_every in (1, 3)
    )
    assert len(every) == 18
    for i, point in enumerate(third):
        for name in ("train/loss", "train/grad_norm"):
            mean = np.mean([values[name] for values in every[3 * i : 3 * i + 3]])
            assert point[name] == pytest.approx(mean, rel=1e-6)


def test_the_curves_show_the_rates_of_the_schedule() -> None:
    settings = FAST.model_copy(update={"log_every": 1, "warmup": 0.25})
    _, points = fitted(model(), texts(32), settings)
    factor = [0, 1 / 3, 2 / 3, *(k / 9 for k in range(9, 0, -1))]
    for name, highest in (("lr/encoder", 1e-3), ("lr/head", 1e-2)):
        rates = [values[name] for _, values in points if name in values]
        assert rates == pytest.approx([highest * share for share in factor])


def test_steps_and_tokens_are_counted() -> None:
    data = texts(40)
    result, _ = fitted(model(), data)
    assert result.steps == 3 * 5
    assert result.tokens == 3 * data.lengths.sum()


@pytest.mark.parametrize("ema_decay", [None, 0.8])
def test_a_refit_ends_with_the_weights_of_the_chosen_epoch_to_the_bit(
    tmp_path: Path, ema_decay: float | None
) -> None:
    data, chosen = texts(), 2
    optimisation = FAST.model_copy(update={"ema_decay": ema_decay})
    plain, resumed, whole = model(), model(), model()
    later = {2: 1.0, 1: 0.5, 3: 0.1}  # the score of each epoch, so that the second is the best
    epochs = iter((1, 2, 3))
    fitted(whole, data, optimisation, scores=lambda p: {"pearson": later[next(epochs)]})
    config = RunConfig(loss=MSE, optimisation=optimisation)
    refit(plain, data, config, seed=0, epochs=chosen)
    assert torch.equal(plain.head.weight, whole.head.weight)

    def die(epoch: int, scores: Mapping[str, float]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refit(
            model(),
            data,
            config,
            seed=0,
            epochs=chosen,
            hooks=Hooks(on_epoch=die),
            checkpoints=tmp_path,
        )
    seen: list[int] = []
    hooks = Hooks(on_epoch=lambda epoch, scores: seen.append(epoch))
    refit(resumed, data, config, seed=0, epochs=chosen, hooks=hooks, checkpoints=tmp_path)
    assert seen == [2]
    assert all(
        torch.equal(a, b) for a, b in zip(plain.parameters(), resumed.parameters(), strict=True)
    )
