"""Figure 2's matrix: the KL divergences between the sentence vectors of one real batch."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy

from ablation.data.seeding import seed_for
from ablation.encoders.loading import load_encoder
from ablation.training.batching import Texts, collate, epoch_batches
from ablation.training.diagnostics import language_distances
from ablation.training.model import build_model


def some_texts(count: int) -> Texts:
    rng = np.random.default_rng(0)
    return Texts(
        [rng.integers(5, 40, size=rng.integers(3, 9)) for _ in range(count)],
        rng.uniform(1, 5, count),
        rng.integers(0, 3, count),
        np.arange(100, 100 + count),
    )


def inputs_of(texts: Texts, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    batch = collate(texts, rows, torch.device("cpu"))
    return batch.ids, batch.lengths


def test_each_entry_is_the_divergence_of_two_softmaxed_sentence_vectors() -> None:
    texts = some_texts(24)
    model = build_model(load_encoder("tiny").model, "mean", dropout=None, label_mean=2.0, seed=0)
    frame = language_distances(model, texts, ["en", "fr", "zh"], batch_size=8, seed=3)
    assert list(frame.columns) == ["row", "language", *(f"kl_{j}" for j in range(8))]
    assert list(frame["language"]) == sorted(frame["language"])
    with torch.inference_mode():
        rows = frame["row"].to_numpy() - 100
        vectors = model.eval()(*inputs_of(texts, rows)).sentence.numpy()
    p = softmax(vectors.astype(np.float64), axis=1)
    expected = [[entropy(p[i], p[j]) for j in range(8)] for i in range(8)]
    np.testing.assert_allclose(frame.filter(like="kl_").to_numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_batch_is_the_first_that_the_run_trained_on(seed: int) -> None:
    texts = some_texts(64)
    model = build_model(load_encoder("tiny").model, "mean", dropout=None, label_mean=2.0, seed=0)
    table = language_distances(model, texts, ["en", "fr", "zh"], batch_size=8, seed=seed)
    first = epoch_batches(texts, 8, seed_for("order", seed, 0))[0]
    assert sorted(table["row"]) == sorted(texts.row[first])
