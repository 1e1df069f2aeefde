"""One run from a corpus and settings to its record and predictions; nothing is tracked here."""

import copy
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch

from ablation.config.schema import RunConfig
from ablation.core.errors import RunError
from ablation.core.identity import RunKey
from ablation.data.corpus import Corpus
from ablation.data.languages import ordered
from ablation.data.seeding import seed_for
from ablation.data.splits import Split, make_split
from ablation.encoders.loading import Encoder, load_encoder, pooling_of, transformer_layers
from ablation.encoders.packing import position_offset
from ablation.encoders.trimming import (
    Vocabulary,
    embedding_of,
    full_vocabulary,
    trim,
    vocabulary_of,
)
from ablation.training.batching import Texts
from ablation.training.diagnostics import language_distances
from ablation.training.evaluation import predict, scores
from ablation.training.freezing import count_parameters, freeze, require_layers
from ablation.training.frozen_cache import FrozenLayerCache, attach_cached_hidden
from ablation.training.loop import Hooks, fit, prediction_table
from ablation.training.losses import regression_loss
from ablation.training.model import IntimacyRegressor, build_model, export
from ablation.training.records import RunRecord


@dataclass(frozen=True)
class Prepared:
    """A corpus tokenised with an encoder, and the encoder with its vocabulary cut to it.

    Shared by all runs with the same `model.encoder`, `model.layers`, `model.prefix`, `data.max_tokens`
    and `model.trim_vocabulary`. `frozen` is what their frozen layers gave, filled by the first that needs it.
    """

    corpus: Corpus
    encoder: Encoder
    vocabulary: Vocabulary
    trimmed: Encoder
    train: Texts
    test: Texts | None
    languages: list[str]
    frozen: FrozenLayerCache = field(default_factory=FrozenLayerCache)


@dataclass(frozen=True)
class Result:
    """A run's record, its development and test predictions (see `prediction_table`), its model.

    `distances` is one batch's KL matrix (see `language_distances`). An ensemble has neither a model nor that.
    """

    record: RunRecord
    dev: pd.DataFrame
    test: pd.DataFrame | None
    model: IntimacyRegressor | None = None
    distances: pd.DataFrame | None = None


def choose_device() -> torch.device:
    """The first CUDA device, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def preparation_key(config: RunConfig) -> tuple[str, int | None, str, int, bool]:
    """Runs with equal keys can share one `Prepared`."""
    model = config.model
    return model.encoder, model.layers, model.prefix, config.data.max_tokens, model.trim_vocabulary


def prepare(corpus: Corpus, config: RunConfig) -> Prepared:
    """Load the encoder and tokenise `corpus`. Raises UsageError if the encoder can't be had."""
    encoder = load_encoder(config.model.encoder, config.model.layers)
    languages = ordered(
        set(corpus.train["language"])
        | (set() if corpus.test is None else set(corpus.test["language"]))
    )
    train = _texts(corpus.train, encoder, config, languages)
    test = None if corpus.test is None else _texts(corpus.test, encoder, config, languages)
    ids = train.ids + ([] if test is None else test.ids)
    if not config.model.trim_vocabulary:
        return Prepared(
            corpus, encoder, full_vocabulary(encoder.model), encoder, train, test, languages
        )
    vocabulary = vocabulary_of(ids, encoder.tokenizer, encoder.model)
    whole = embedding_of(encoder.model)
    trimmed = build_trimmed(encoder, vocabulary)
    assert embedding_of(encoder.model) is whole
    return Prepared(
        corpus,
        encoder,
        vocabulary,
        trimmed,
        _translate(train, vocabulary),
        None if test is None else _translate(test, vocabulary),
        languages,
    )


def build_trimmed(encoder: Encoder, vocabulary: Vocabulary) -> Encoder:
    """A copy of `encoder` with the trimmed vocabulary; the large matrix itself is not copied."""
    embeddings = embedding_of(encoder.model)
    # deepcopy takes an object found in `memo` as its own copy.
    model = copy.deepcopy(encoder.model, {id(embeddings): embeddings})
    trim(model, vocabulary)
    return Encoder(encoder.name, model, encoder.tokenizer)


def check_trainable(config: RunConfig, prepared: Prepared) -> None:
    """Check what can only be known once the encoder and the losses are loaded.

    Raises:
        UsageError: The loss can't be loaded, or frozen tuning would freeze more layers than the
            encoder has.
    """
    regression_loss(config.loss.regression)
    if config.model.frozen_tuning:
        require_layers(config.model.freeze_layers, len(transformer_layers(prepared.encoder.model)))


def fresh_model(
    prepared: Prepared, config: RunConfig, split: Split, seed: int
) -> IntimacyRegressor:
    """The model before its first step, on the device that it will train on."""
    model = build_model(
        prepared.trimmed.model,
        pooling_of(prepared.trimmed, config.model.pooling),
        dropout=config.model.dropout,
        label_mean=float(prepared.train.label[split.train].mean()),
        seed=seed_for("head", seed),
    )
    if config.model.frozen_tuning:
        freeze(model, config.model.freeze_layers, dropout=config.model.frozen_dropout)
    return model.to(choose_device())


def train_run(
    prepared: Prepared,
    config: RunConfig,
    key: RunKey,
    identity: str,
    hooks: Hooks,
    export_to: Path | None = None,
    checkpoints: Path | None = None,
) -> Result:
    """Train, select, and predict the test rows once; `checkpoints` as in `fit`. Raises RunError or UsageError."""
    began = time.monotonic()
    corpus = prepared.corpus
    split = make_split(corpus, key.split, config.data.split_seed)
    model = fresh_model(prepared, config, split, key.seed)
    counts = count_parameters(model)
    seen = [language for language in corpus.training_languages if language not in split.unseen]
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    labelled = attach_cached_hidden(
        prepared.frozen, "train", model, prepared.train, config.optimisation.precision
    )
    train_texts, dev_texts = labelled.take(split.train), labelled.take(split.dev)
    with enough_memory(config):
        fitted = fit(
            model,
            train_texts,
            dev_texts,
            optimisation=config.optimisation,
            loss=config.loss,
            seed=key.seed,
            dev_scores=lambda p: scores(prediction_table(dev_texts, prepared.languages, p), seen),
            hooks=hooks,
            checkpoints=checkpoints,
        )
    trained = time.monotonic() - began + fitted.seconds_before
    test = None
    if prepared.test is not None:
        test_texts = attach_cached_hidden(
            prepared.frozen, "test", model, prepared.test, config.optimisation.precision
        )
        predicted = predict(model, test_texts, config.optimisation.precision)
        test = prediction_table(prepared.test, prepared.languages, predicted)
    if export_to is not None:
        export(
            export_to,
            model,
            prepared.encoder,
            prepared.vocabulary,
            max_tokens=config.data.max_tokens,
            prefix=config.model.prefix,
        )
    record = RunRecord(
        variant=key.variant,
        split=key.split,
        seed=key.seed,
        identity=identity,
        best_epoch=fitted.best_epoch,
        collapsed=fitted.best_epoch is None,
        unseen_in_training=split.unseen,
        dev=fitted.dev_scores,
        test=test_scores(test, corpus),
        steps=fitted.steps,
        seconds=time.monotonic() - began + fitted.seconds_before,
        tokens_per_second=fitted.tokens / trained,
        peak_memory_bytes=peak_memory(),
        parameters_total=counts.total,
        parameters_trainable=counts.trainable,
        skipped_contrastive_batches=fitted.skipped_contrastive,
        vocabulary_kept=len(prepared.vocabulary.kept),
        layers_total=len(transformer_layers(model.encoder)),
        layers_frozen=config.model.freeze_layers if config.model.frozen_tuning else 0,
    )
    distances = language_distances(
        model, train_texts, prepared.languages, config.optimisation.batch_size, key.seed
    )
    dev = prediction_table(dev_texts, prepared.languages, fitted.dev_predictions)
    return Result(record, dev, test, model, distances)


@contextmanager
def enough_memory(config: RunConfig) -> Iterator[None]:
    """Raises RunError, with what to do about it, where the GPU's memory does not hold a step."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        now = config.optimisation.micro_batch or config.optimisation.batch_size
        raise RunError(
            f"the GPU has too little memory for {now} texts at a time: try --set optimisation.micro_batch={max(1, now // 2)},"
            " which gives the same batches and losses"
        ) from error


def test_scores(test: pd.DataFrame | None, corpus: Corpus) -> dict[str, float] | None:
    """Figures on the test rows, None without labels; "seen" are all languages with labelled rows.

    That is the paper's sense of the word. A Dev2 model has not seen two of them either.
    """
    return (
        scores(test, corpus.training_languages)
        if test is not None and corpus.has_test_labels
        else None
    )


def peak_memory() -> int:
    """Bytes: of this run on a CUDA device, else the highest of this process so far."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    unit: Literal[1, 1024] = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _longest_input(encoder: Encoder) -> int:
    """How many tokens the encoder has positions for (XLM-R's start behind the padding's number)."""
    config = encoder.model.config
    positions = int(getattr(config, "max_position_embeddings", 10**9))
    return positions - position_offset(encoder.model)


def tokenise(texts: Sequence[str], encoder: Encoder, config: RunConfig) -> list[np.ndarray]:
    """The token ids (tokens,) of each text, with `model.prefix` before it, cut to `data.max_tokens` or what the encoder takes."""
    longest = min(config.data.max_tokens, _longest_input(encoder))
    encoded = encoder.tokenizer(
        [config.model.prefix + text for text in texts], truncation=True, max_length=longest
    )["input_ids"]
    return [np.asarray(ids, dtype=np.int64) for ids in encoded]


def _texts(frame: pd.DataFrame, encoder: Encoder, config: RunConfig, languages: list[str]) -> Texts:
    number = {language: i for i, language in enumerate(languages)}
    return Texts(
        tokenise(frame["text"].tolist(), encoder, config),
        frame["label"].to_numpy(dtype=np.float64),
        frame["language"].map(number).to_numpy(dtype=np.int64),
        np.arange(len(frame)),
    )


def _translate(texts: Texts, vocabulary: Vocabulary) -> Texts:
    return Texts(
        [vocabulary.translate(ids) for ids in texts.ids], texts.label, texts.language, texts.row
    )
