"""Cached outputs of frozen layers give the losses, weights and predictions of the encoder."""

import gc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, DistilBertConfig, DistilBertModel

from ablation.config.overrides import load_profile, resolve_config
from ablation.config.schema import LossConfig, OptimisationConfig, RunConfig
from ablation.core.identity import Identity, RunKey
from ablation.data.corpus import load_corpus
from ablation.encoders.loading import load_encoder
from ablation.encoders.packing import (
    PACKABLE,
    embed_packed,
    encode_packed,
    layers_packed,
    make_packing,
    use_packing,
)
from ablation.encoders.sources import encoder_digest
from ablation.models.exported import load_kept
from ablation.models.kept_weights import keep_weights
from ablation.runs.context import Preparations
from ablation.runs.keeping import about
from ablation.runs.plan import PlannedRun
from ablation.training import frozen_cache
from ablation.training.batching import Texts, collate
from ablation.training.evaluation import pearson, predict
from ablation.training.freezing import freeze
from ablation.training.frozen_cache import FrozenLayerCache, attach_cached_hidden
from ablation.training.loop import NO_HOOKS, FitResult, Hooks, TrainingData, fit
from ablation.training.model import IntimacyRegressor, build_model
from ablation.training.train_run import Prepared, prepare, train_run

DEPTHS = (0, 2, 4)  # embeddings only, half, all: then the head alone trains
OPTIMISATION = OptimisationConfig(
    epochs=3, batch_size=8, lr_encoder=1e-3, lr_head=1e-2, log_every=1
)
LOSS = LossConfig(regression="epm", contrastive="as_printed")
#: float32 rounds to 6e-8; some dozen Adam steps of 1e-3 may enlarge that.
CLOSE = {"rtol": 1e-4, "atol": 2e-6}


@pytest.fixture(autouse=True)
def _whole_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare to the last digits: halves round otherwise, and Adam enlarges it."""
    for module in ("step", "evaluation", "frozen_cache"):
        monkeypatch.setattr(f"ablation.training.{module}.count_pieces", lambda model: 1)


def some_texts(count: int = 40, seed: int = 0) -> Texts:
    rng = np.random.default_rng(seed)
    ids = [
        np.concatenate([[0], rng.integers(10, 200, rng.integers(2, 30)), [2]]) for _ in range(count)
    ]
    label = np.array([1 + 4 * i[1:-1].mean() / 200 for i in ids])
    return Texts(ids, label, np.arange(count) % 3, np.arange(count))


def frozen_model(
    depth: int, *, dropout: float | None = None, frozen_dropout: bool = False
) -> IntimacyRegressor:
    model = build_model(load_encoder("tiny").model, "mean", dropout=dropout, label_mean=3.0, seed=0)
    freeze(model, depth, dropout=frozen_dropout)
    return model


def trained(model: IntimacyRegressor, texts: Texts) -> tuple[FitResult, list[dict[str, float]]]:
    points: list[dict[str, float]] = []

    def dev_scores(p: np.ndarray) -> dict[str, float]:
        r = pearson(p, texts.label)
        return {} if r is None else {"pearson": r}

    hooks = Hooks(on_point=lambda values, step: points.append(dict(values)))
    return fit(
        model,
        TrainingData(texts, texts, dev_scores),
        RunConfig(loss=LOSS, optimisation=OPTIMISATION),
        seed=0,
        hooks=hooks,
    ), points


def count_computed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Fills with (first layer, depth) of every computation of outputs from here on."""
    calls: list[tuple[int, int]] = []
    compute = frozen_cache._compute

    def counted(*arguments: object) -> None:
        calls.append((arguments[-1].start, arguments[-1].stop))  # type: ignore[arg-type]
        compute(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(frozen_cache, "_compute", counted)
    return calls


@pytest.mark.parametrize("dropout", [None, 0.0])
@pytest.mark.parametrize("depth", DEPTHS)
def test_training_on_kept_outputs_is_step_by_step_training_without(
    depth: int, dropout: float | None
) -> None:
    """Frozen layers draw no random numbers, so dropout in the others is the same."""
    texts = some_texts()
    plain, quick = frozen_model(depth, dropout=dropout), frozen_model(depth, dropout=dropout)
    kept = attach_cached_hidden(FrozenLayerCache(), "train", quick, texts, "float32")
    assert kept.hidden is not None
    expected, expected_points = trained(plain, texts)
    found, found_points = trained(quick, kept)
    assert len(found_points) == len(expected_points) == found.steps + OPTIMISATION.epochs
    for mine, theirs in zip(found_points, expected_points, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    assert found.best_epoch == expected.best_epoch
    np.testing.assert_allclose(found.dev_predictions, expected.dev_predictions, **CLOSE)
    for (name, mine), theirs in zip(quick.named_parameters(), plain.parameters(), strict=True):
        assert mine.requires_grad == theirs.requires_grad, name
        torch.testing.assert_close(mine, theirs, **CLOSE)
    start = dict(frozen_model(depth).named_parameters())
    for name, mine in quick.named_parameters():
        assert torch.equal(mine, start[name]) != mine.requires_grad, name


@pytest.mark.parametrize("depth", DEPTHS)
def test_predictions_from_kept_outputs_are_the_same(depth: int) -> None:
    model, texts = frozen_model(depth), some_texts(150)  # more than one batch
    kept = attach_cached_hidden(FrozenLayerCache(), "test", model, texts, "float32")
    rows = np.random.default_rng(1).permutation(150)[:70]
    np.testing.assert_allclose(predict(model, kept), predict(model, texts), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(
        predict(model, kept.take(rows)), predict(model, texts)[rows], rtol=1e-6, atol=1e-6
    )


@pytest.mark.usefixtures("threads")
def test_bfloat16_stays_close() -> None:
    model, texts = frozen_model(2), some_texts()
    kept = attach_cached_hidden(FrozenLayerCache(), "test", model, texts, "bfloat16")
    np.testing.assert_allclose(
        predict(model, kept, "bfloat16"), predict(model, texts, "bfloat16"), atol=0.02
    )


@pytest.mark.parametrize("depth", [1, 3])
def test_without_dropout_what_is_frozen_is_in_evaluation_mode_and_nothing_else(depth: int) -> None:
    model = frozen_model(depth).train()
    off = {name for name, module in model.encoder.named_modules() if not module.training}
    below = ("embeddings", *(f"encoder.layer.{i}" for i in range(depth)))
    names = {name for name, _ in model.encoder.named_modules()}
    assert off == {
        name for name in names if name in below or name.startswith(tuple(f"{b}." for b in below))
    }
    assert all(
        module.training for module in frozen_model(depth, frozen_dropout=True).train().modules()
    )


def test_with_dropout_in_frozen_layers_nothing_is_kept_and_it_is_on() -> None:
    texts, model = some_texts(), frozen_model(2, frozen_dropout=True)
    outputs = FrozenLayerCache()
    assert attach_cached_hidden(outputs, "train", model, texts, "float32") is texts
    assert not outputs.outputs
    batch = collate(texts, np.arange(8), torch.device("cpu"))

    def sentence(regressor: IntimacyRegressor, seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return regressor.train()(batch.ids, batch.lengths).sentence.detach()

    assert not torch.equal(
        sentence(frozen_model(4, frozen_dropout=True), 0),
        sentence(frozen_model(4, frozen_dropout=True), 1),
    )
    assert torch.equal(sentence(frozen_model(4), 0), sentence(frozen_model(4), 1))
    # As it was before there was a choice: the whole encoder in training mode, whatever is frozen.
    plain = build_model(load_encoder("tiny").model, "mean", dropout=None, label_mean=3.0, seed=0)
    assert torch.equal(sentence(model, 0), sentence(plain, 0))


def test_a_model_that_is_not_frozen_or_not_packed_keeps_nothing() -> None:
    texts = some_texts()
    whole = build_model(load_encoder("tiny").model, "mean", dropout=None, label_mean=3.0, seed=0)
    assert attach_cached_hidden(FrozenLayerCache(), "train", whole, texts, "float32") is texts
    config = DistilBertConfig(
        vocab_size=300, dim=16, n_layers=2, n_heads=2, hidden_dim=32, pad_token_id=0
    )
    padded = IntimacyRegressor(DistilBertModel(config), "mean", 3.0, seed=0)
    freeze(padded, 1)
    assert attach_cached_hidden(FrozenLayerCache(), "train", padded, texts, "float32") is texts
    assert not padded.train().encoder.embeddings.dropout.training


@pytest.mark.parametrize("family", PACKABLE)
def test_layers_of_every_packed_family_can_be_run_apart(family: str) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        family,
        vocab_size=60,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
        pad_token_id=1,
    )
    encoder = AutoModel.from_config(config, add_pooling_layer=False).eval()
    use_packing(encoder)
    ids, lengths = torch.randint(5, 60, (20,)), torch.tensor([7, 3, 10])
    with torch.inference_mode():
        packing = make_packing(lengths, encoder)
        expected = encode_packed(encoder, ids, packing)
        for depth in range(4):
            embedded = embed_packed(encoder, ids, packing)
            below = layers_packed(encoder, embedded, packing, 0, depth)
            hidden = layers_packed(encoder, below, packing, depth)
            torch.testing.assert_close(hidden, expected, rtol=1e-6, atol=1e-6)


def test_a_depth_is_computed_once_and_a_deeper_one_from_it_to_the_bit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls, texts, outputs = count_computed(monkeypatch), some_texts(150), FrozenLayerCache()
    for depth in (1, 1, 3, 2, 1):
        attach_cached_hidden(outputs, "train", frozen_model(depth), texts, "float32")
    assert calls == [(0, 1), (1, 3), (1, 2)]
    attach_cached_hidden(outputs, "test", frozen_model(1), texts, "float32")
    attach_cached_hidden(outputs, "train", frozen_model(1), texts, "bfloat16")
    assert calls[3:] == [(0, 1), (0, 1)]
    alone = attach_cached_hidden(FrozenLayerCache(), "train", frozen_model(3), texts, "float32")
    after = attach_cached_hidden(outputs, "train", frozen_model(3), texts, "float32")
    assert alone.hidden is not None
    assert after.hidden is not None
    np.testing.assert_array_equal(alone.hidden.values, after.hidden.values)


def test_few_depths_of_a_file_are_kept_and_those_needed_last() -> None:
    texts, outputs = some_texts(), FrozenLayerCache()
    for depth in (0, 1, 2, 0, 4, 3):
        attach_cached_hidden(outputs, "train", frozen_model(depth), texts, "float32")
        attach_cached_hidden(outputs, "test", frozen_model(0), texts, "float32")
    assert [d for file, _, d in outputs.outputs if file == "train"] == [
        2,
        4,
        3,
    ]  # 3 was computed from 2
    assert [d for file, _, d in outputs.outputs if file == "test"] == [0]


def test_what_does_not_fit_into_memory_lies_in_a_file_that_goes_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    texts = some_texts()
    in_memory = attach_cached_hidden(FrozenLayerCache(), "train", frozen_model(2), texts, "float32")
    assert in_memory.hidden is not None
    size = in_memory.hidden.values.nbytes
    assert size == 4 * 32 * texts.lengths.sum()
    monkeypatch.setattr(
        frozen_cache, "MAX_BYTES_IN_MEMORY", size
    )  # all outputs together: room for one depth
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def open_files() -> int:
        return sum(
            str(tmp_path) in line for line in Path("/proc/self/maps").read_text().splitlines()
        )

    outputs = FrozenLayerCache()
    first = attach_cached_hidden(outputs, "train", frozen_model(1), texts, "float32")
    mapped = attach_cached_hidden(outputs, "train", frozen_model(2), texts, "float32")
    assert first.hidden is not None
    assert mapped.hidden is not None
    assert not isinstance(first.hidden.values, np.memmap)
    assert isinstance(mapped.hidden.values, np.memmap)
    np.testing.assert_array_equal(mapped.hidden.values, in_memory.hidden.values)
    results = [trained(frozen_model(2), data)[1] for data in (in_memory, mapped)]
    assert results[0] == results[1]
    assert not list(
        tmp_path.iterdir()
    )  # it has no name: nothing is left behind by a process that is killed
    if Path("/proc/self/maps").exists():
        assert open_files() == 1
        del mapped, outputs
        gc.collect()
        assert open_files() == 0


def test_with_no_room_on_the_disk_all_layers_are_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(frozen_cache, "MAX_BYTES_IN_MEMORY", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    texts, outputs = some_texts(), FrozenLayerCache()
    assert attach_cached_hidden(outputs, "train", frozen_model(2), texts, "float32") is texts
    assert not outputs.outputs


def config_of(variant: str, **model: object) -> RunConfig:
    return resolve_config(
        load_profile("smoke") | {f"model.{name}": value for name, value in model.items()}, variant
    )


def test_runs_of_one_process_share_outputs_between_variants_splits_and_trials(
    small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count_computed(monkeypatch)
    preparations = Preparations(load_corpus(str(small_corpus)))
    for variant, split in (
        ("mse", "dev1"),
        ("epm+ft", "dev1"),
        ("epm+cl+ft", "dev2"),
        ("mse+ft", "dev1"),
    ):
        prepared = preparations.get(config_of(variant))
        train_run(prepared, config_of(variant), RunKey(variant, split, 0), "", NO_HOOKS)
    assert calls == [(0, 2), (0, 2)]  # the labelled rows and the test rows, once each
    deeper = config_of("mse+ft", freeze_layers=3)
    trial = replace(preparations.get(deeper), test=None)  # as a sweep's trial has it
    train_run(trial, deeper, RunKey("mse+ft", "dev1", 0), "", NO_HOOKS)
    assert calls[2:] == [(2, 3)]


def test_a_run_gives_the_same_with_and_without_kept_outputs_and_leaves_a_whole_model(
    small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, key = config_of("epm+ft"), RunKey("epm+ft", "dev1", 0)
    parts = {"encoder": encoder_digest(config.model.encoder)}
    planned = PlannedRun(key, config, Identity("frozen", parts), "to do")
    prepared = prepare(load_corpus(str(small_corpus)), config)
    quick = train_run(prepared, config, key, "", NO_HOOKS)
    assert {file for file, _, _ in prepared.frozen.outputs} == {"train", "test"}
    monkeypatch.setattr(
        "ablation.training.train_run.attach_cached_hidden",
        lambda kept, file, model, texts, precision: texts,
    )
    plain = train_run(prepared, config, key, "", NO_HOOKS)
    for mine, theirs in ((quick.dev, plain.dev), (quick.test, plain.test)):
        assert mine is not None
        assert theirs is not None
        np.testing.assert_allclose(mine["prediction"], theirs["prediction"], **CLOSE)
    assert quick.record.dev == pytest.approx(plain.record.dev, abs=1e-4)
    assert quick.record.parameters_trainable == plain.record.parameters_trainable
    assert quick.model is not None
    kept = keep_weights(
        quick.model, prepared.vocabulary, about(prepared.corpus, planned, quick.record)
    )
    loaded = load_kept(kept)
    whole = [
        np.array(i) for i in loaded.tokenizer(prepared.corpus.train["text"].tolist())["input_ids"]
    ]
    dev = quick.dev["row"].to_numpy()
    predicted = predict(loaded.model, replace(prepared.train, ids=whole).take(dev))
    np.testing.assert_allclose(predicted, quick.dev["prediction"], **CLOSE)


def test_a_preparation_starts_with_outputs_of_its_own(small_corpus: Path) -> None:
    corpus, config = load_corpus(str(small_corpus)), config_of("epm+ft")
    first, second = prepare(corpus, config), prepare(corpus, config)
    assert isinstance(first, Prepared)
    assert first.frozen is not second.frozen
