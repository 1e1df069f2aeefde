"""One run, from a corpus and settings to its record and predictions, without tracking."""

import copy
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
import psutil
import torch
from jaxtyping import Int64
from torch import Tensor

from ablation.config.schema import RunConfig
from ablation.core.counting import counted
from ablation.core.errors import RunError, UsageError, first_line
from ablation.core.identity import RunKey
from ablation.core.memory import release_freed, share_one_arena
from ablation.data.corpus import Corpus
from ablation.data.languages import ordered
from ablation.data.seeding import seed_for
from ablation.data.splits import Split, make_split
from ablation.encoders.loading import (
    Encoder,
    load_encoder,
    pooling_of,
    prefix_of,
    transformer_layers,
)
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
from ablation.training.evaluation import agreement, predict, prediction_table, scores
from ablation.training.freezing import count_parameters, freeze, require_layers
from ablation.training.frozen_cache import FrozenLayerCache, attach_cached_hidden
from ablation.training.label_scale import LabelScale, label_scale
from ablation.training.loop import Hooks, TrainingData, fit, refit
from ablation.training.lora import add_lora
from ablation.training.losses.trial import try_regression_loss
from ablation.training.losses.weighting import text_weights
from ablation.training.model import IntimacyRegressor, build_model, set_dropout
from ablation.training.own_parts import try_own_parts
from ablation.training.precision import autocast
from ablation.training.records import SELECTION_NAMES, RunRecord


@dataclass(frozen=True)
class Prepared:
    """A tokenised corpus and its encoder, shared by all runs with the same `preparation_key`.

    Attributes:
        corpus: The corpus.
        encoder: The encoder with its full vocabulary.
        vocabulary: The tokens of the trimmed encoder.
        trimmed: The encoder that runs start from.
        train: The labelled rows.
        test: The test rows, if the corpus has any.
        languages: The code of each language number.
        frozen: The outputs of frozen layers, filled by the first run that needs them.
        checked: Settings with which the encoder was tried, see `check_trainable`.
    """

    corpus: Corpus
    encoder: Encoder
    vocabulary: Vocabulary
    trimmed: Encoder
    train: Texts
    test: Texts | None
    languages: list[str]
    frozen: FrozenLayerCache = field(default_factory=FrozenLayerCache)
    checked: set[tuple[object, ...]] = field(default_factory=set)


@dataclass(frozen=True)
class RunResult:
    """A run's record and predictions (see `prediction_table`).

    A trained run also has its model, the KL matrix of one batch (see `language_distances`) and the
    development predictions of every epoch (see `epoch_table`).
    """

    record: RunRecord
    dev: pd.DataFrame
    test: pd.DataFrame | None
    model: IntimacyRegressor | None = None
    distances: pd.DataFrame | None = None
    epochs: pd.DataFrame | None = None


class PreparationKey(NamedTuple):
    """The settings that a `Prepared` depends on."""

    encoder: str
    layers: int | None
    prefix: str
    prompt: str
    max_tokens: int
    trim_vocabulary: bool


#: The longest text for encoders without a limit, in tokens.
UNLIMITED: Final = 10**9
#: The largest change of a text's vector by others in its batch that rounding can explain.
_LARGEST_STRAY: Final = 1e-4
#: Rows that an error names.
_ROWS_NAMED: Final = 20


def choose_device() -> torch.device:
    """Return the first CUDA device, or the CPU if there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def preparation_key(config: RunConfig) -> PreparationKey:
    """Return the key of the `Prepared` that a run needs."""
    model = config.model
    return PreparationKey(
        model.encoder,
        model.layers,
        model.prefix,
        model.prompt,
        config.data.max_tokens,
        model.trim_vocabulary,
    )


def prepare(corpus: Corpus, config: RunConfig) -> Prepared:
    """Load the encoder, tokenise `corpus`, and trim the encoder's vocabulary to it if asked.

    Raises:
        UsageError: The encoder can't be loaded, or its tokenizer makes no token of a text.
    """
    share_one_arena()
    encoder = load_encoder(config.model.encoder, config.model.layers)
    languages = ordered(
        set(corpus.train["language"])
        | (set() if corpus.test is None else set(corpus.test["language"]))
    )
    train = _tokenised(corpus.train, encoder, config, languages)
    test = None if corpus.test is None else _tokenised(corpus.test, encoder, config, languages)
    _require_tokens(corpus, train, test, config.model.encoder)
    ids = train.ids + ([] if test is None else test.ids)
    rows = embedding_of(encoder.model).num_embeddings
    if (largest := max(int(text.max()) for text in ids)) >= rows:
        raise UsageError(
            f"encoder {encoder.name!r}: its tokenizer makes token {largest}, but the embeddings"
            f" have {rows} rows; the tokenizer belongs to another encoder"
        )
    if not config.model.trim_vocabulary:
        return Prepared(
            corpus, encoder, full_vocabulary(encoder.model), encoder, train, test, languages
        )
    vocabulary = vocabulary_of(ids, encoder.tokenizer, encoder.model)
    trimmed = build_trimmed(encoder, vocabulary)
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
    """Copy `encoder` with its vocabulary trimmed, without copying the full embedding matrix."""
    embeddings = embedding_of(encoder.model)
    # deepcopy does not copy an object that is in its `memo`.
    model = copy.deepcopy(encoder.model, {id(embeddings): embeddings})
    trim(model, vocabulary)
    return replace(encoder, model=model)


def check_trainable(config: RunConfig, prepared: Prepared) -> None:
    """Check what can only be known once the encoder and the losses are loaded.

    Raises:
        UsageError: The loss can't be used, the encoder can't be run on the longest text, has no
            dropout that follows `model.dropout`, or can't be frozen as frozen tuning needs, or
            adapted as LoRA needs.
    """
    texts = _to_train_on(prepared.train, _scale_of(prepared, config), config)
    try_regression_loss(config.loss, texts.label, texts.weight)
    model_config = config.model
    if model_config.frozen_tuning:
        layers = transformer_layers(prepared.encoder.model)
        require_layers(model_config.freeze_layers, len(layers))
    key = (
        model_config.pooling,
        model_config.head,
        model_config.dropout,
        model_config.lora_rank,
        config.optimisation.precision,
        model_config.frozen_tuning and (model_config.freeze_layers, model_config.frozen_dropout),
    )
    if key not in prepared.checked:
        try_own_parts(model_config, prepared.encoder.hidden_size)
        _try_encoder(prepared, config)
        prepared.checked.add(key)


def _try_encoder(prepared: Prepared, config: RunConfig) -> None:
    """Run the encoder on the corpus's longest text. Raises UsageError if a run would break."""
    name, dropout = prepared.encoder.name, config.model.dropout
    files = [texts for texts in (prepared.train, prepared.test) if texts is not None]
    ids = torch.from_numpy(max((ids for texts in files for ids in texts.ids), key=len))
    lengths = torch.tensor([len(ids)])
    try:
        model = build_model(
            prepared.trimmed.model,
            pooling_of(prepared.trimmed, config.model.pooling),
            # A probability of a half shows in one pass whether there is any dropout.
            dropout=0.5 if dropout else dropout,
            label_mean=0.0,
            seed=0,
            head=config.model.head,
        )
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            with autocast(ids.device, config.optimisation.precision):
                prediction = model.eval()(ids, lengths).prediction
            strays = _strays_in_a_batch(model, ids)
            model.train()
            first, second = (model(ids, lengths).sentence for _ in range(2))
    except UsageError:
        raise
    except Exception as error:  # a family can break in any way
        raise UsageError(
            f"encoder {name!r}: can't be run on a text of {counted(len(ids), 'token')}"
            f" in {config.optimisation.precision} ({type(error).__name__}: {first_line(error)});"
            " use another encoder, a smaller data.max_tokens, or all of its layers"
            + (", or float32" if config.optimisation.precision != "float32" else "")
        ) from error
    if not bool(prediction.isfinite().all()):
        raise UsageError(f"encoder {name!r}: its output for a text is not finite")
    if strays > _LARGEST_STRAY:
        raise UsageError(
            f"encoder {name!r}: what it makes of a text depends on the longer ones in its batch (it"
            f" changes by {strays:.1%}), so that no prediction would hold for a text; use an"
            " encoder of another family"
        )
    if dropout is not None and torch.equal(first, second) != (dropout == 0):
        raise UsageError(
            f"model.dropout = {dropout:g}: encoder {name!r} has "
            + ("randomness that it does not turn off" if dropout == 0 else "no dropout")
            + "; leave model.dropout out"
        )
    if config.model.frozen_tuning:
        if dropout is not None:
            set_dropout(model.encoder, dropout)
        freeze(model, config.model.freeze_layers, dropout=config.model.frozen_dropout)
    if config.model.lora_rank is not None:
        add_lora(model, config.model, seed=0)


def _strays_in_a_batch(model: IntimacyRegressor, ids: Int64[Tensor, " tokens"]) -> float:
    """Return by how much a short text's vector changes beside a long one, relative to its size."""
    short = ids[: max(1, len(ids) // 3)]
    alone = model(short, torch.tensor([len(short)])).sentence[0]
    lengths = torch.tensor([len(ids), len(short)])
    beside = model(torch.cat([ids, short]), lengths).sentence[1]
    return float((alone - beside).norm() / alone.norm().clamp(min=1e-12))


def fresh_model(
    prepared: Prepared, config: RunConfig, split: Split, seed: int
) -> IntimacyRegressor:
    """Build the model before its first step, on the device to train on.

    Args:
        prepared: The encoder and the labels, whose training mean is the head's initial bias.
        config: The run's settings.
        split: The run's split.
        seed: The run's seed.

    Raises:
        UsageError: Frozen tuning would freeze more layers than the encoder has.
    """
    release_freed()  # what a run before this one has left
    labels = prepared.train.label[split.train]
    model = build_model(
        prepared.trimmed.model,
        pooling_of(prepared.trimmed, config.model.pooling),
        dropout=config.model.dropout,
        label_mean=float(_scale_of(prepared, config).to_training(labels).mean()),
        seed=seed_for("head", seed),
        head=config.model.head,
    )
    if config.model.frozen_tuning:
        freeze(model, config.model.freeze_layers, dropout=config.model.frozen_dropout)
    if config.model.lora_rank is not None:
        add_lora(model, config.model, seed_for("lora", seed))
    return model.to(choose_device())


def train_run(
    prepared: Prepared,
    config: RunConfig,
    key: RunKey,
    identity: str,
    hooks: Hooks,
    checkpoints: Path | None = None,
) -> RunResult:
    """Train one run, select its best epoch, and predict the test rows once.

    Args:
        prepared: The tokenised corpus and the encoder.
        config: The run's settings.
        key: The run's variant, split and seed.
        identity: The digest for the run's record.
        hooks: Callbacks of training.
        checkpoints: A folder for checkpoints, from which a killed run continues.

    Raises:
        RunError: A loss is not finite, the GPU's memory is too small, or a checkpoint can't be
            written.
        UsageError: The split does not fit the corpus, frozen tuning the encoder, or a loss is
            unknown.
    """
    began = time.monotonic()
    corpus = prepared.corpus
    split = make_split(corpus, key.split, config.data.split_seed, config.data.equal_texts)
    model = fresh_model(prepared, config, split, key.seed)
    counts = count_parameters(model)
    seen = [language for language in corpus.training_languages if language not in split.unseen]
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    labelled = attach_cached_hidden(
        prepared.frozen, "train", model, prepared.train, config.optimisation.precision
    )
    train_texts, dev_texts = labelled.take(split.train), labelled.take(split.dev)
    scale, select_by = _scale_of(prepared, config), config.optimisation.select_by

    def dev_scores(prediction: np.ndarray) -> dict[str, float]:
        table = prediction_table(dev_texts, prepared.languages, scale.to_own(prediction))
        # At each epoch only what the curves show and what chooses the epoch.
        return scores(table, seen) | (agreement(table, seen) if select_by != "pearson" else {})

    data = TrainingData(_to_train_on(train_texts, scale, config), dev_texts, dev_scores)
    with explain_out_of_memory(config):
        fitted = fit(model, data, config, seed=key.seed, hooks=hooks, checkpoints=checkpoints)
    trained = time.monotonic() - began + fitted.seconds_before
    predict_on_own_scale(model, scale)
    test = None
    if prepared.test is not None:
        test_texts = attach_cached_hidden(
            prepared.frozen, "test", model, prepared.test, config.optimisation.precision
        )
        predicted = predict(model, test_texts, config.optimisation.precision)
        test = prediction_table(prepared.test, prepared.languages, predicted)
    dev_predictions = scale.to_own(fitted.dev_predictions)
    dev = prediction_table(dev_texts, prepared.languages, dev_predictions)
    record = RunRecord(
        variant=key.variant,
        split=key.split,
        seed=key.seed,
        identity=identity,
        best_epoch=fitted.best_epoch,
        collapsed=fitted.best_epoch is None,
        unseen_in_training=split.unseen,
        selection=f"best epoch by pooled {SELECTION_NAMES[select_by]} on the development rows",
        dev=fitted.dev_scores | agreement(dev, seen),
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
    epochs = epoch_table(dev_texts.row, [scale.to_own(p) for p in fitted.epoch_predictions])
    return RunResult(record, dev, test, model, distances, epochs)


def epoch_table(row: np.ndarray, predictions: Sequence[np.ndarray]) -> pd.DataFrame:
    """Return the development predictions of every epoch, a column each, named by its number.

    Standardised, which leaves correlations as they are, and rounded to eleven bits: enough to say
    how far the choice of an epoch flatters its score. Constant predictions are zeros.
    """
    columns = {}
    for epoch, prediction in enumerate(predictions, start=1):
        centred = prediction - prediction.mean(dtype=np.float64)
        varies = np.ptp(prediction) > 1e-9 * max(1.0, float(np.abs(prediction).max()))
        standardised = centred / centred.std() if varies else np.zeros(len(centred))
        columns[str(epoch)] = standardised.astype(np.float16).astype(np.float32)
    return pd.DataFrame({"row": row, **columns})


def predict_test_rows(
    model: IntimacyRegressor, encoder: Encoder, config: RunConfig, corpus: Corpus
) -> pd.DataFrame:
    """Predict a corpus's test rows by a trained model with its whole vocabulary.

    Args:
        model: The model, on the labels' own scale.
        encoder: Its encoder, with the tokenizer.
        config: The settings that it was trained with.
        corpus: The corpus, which has test rows.
    """
    if corpus.test is None:
        raise AssertionError(f"{corpus.name}: has no test rows")
    languages = ordered(set(corpus.train["language"]) | set(corpus.test["language"]))
    texts = _tokenised(corpus.test, encoder, config, languages)
    _require_tokens(corpus, texts, texts, config.model.encoder)
    predicted = predict(model.to(choose_device()), texts, config.optimisation.precision)
    return prediction_table(texts, languages, predicted)


def _scale_of(prepared: Prepared, config: RunConfig) -> LabelScale:
    return label_scale(prepared.corpus.layout.label_range, config.label.train_on)


def predict_on_own_scale(model: IntimacyRegressor, scale: LabelScale) -> None:
    """Change a trained model's head, in place, to predict on the labels' own scale."""
    if scale.is_identity:
        return
    with torch.no_grad():
        model.head.weight.div_(scale.factor).requires_grad_()  # so that it is kept
        model.head.bias.sub_(scale.training[0]).div_(scale.factor).add_(scale.own[0])


def _to_train_on(texts: Texts, scale: LabelScale, config: RunConfig) -> Texts:
    """Return the training texts with labels on the training scale, and weights of mean one.

    A row's own weight multiplies the one that `loss.weighting` gives its label.
    """
    label = scale.to_training(texts.label)
    weight = text_weights(label, config.loss)
    if texts.weight is not None:
        own = texts.weight if weight is None else texts.weight * weight
        weight = (own / own.mean()).astype(np.float32)
    return replace(texts, label=label, weight=weight)


def refit_run(
    prepared: Prepared,
    config: RunConfig,
    seed: int,
    epochs: int,
    hooks: Hooks,
    checkpoints: Path | None = None,
) -> IntimacyRegressor:
    """Train a run's model again on all labelled rows, without selecting anything.

    Args:
        prepared: The tokenised corpus and the encoder.
        config: The run's settings.
        seed: The run's seed.
        epochs: The epoch that development rows selected, see `loop.refit`.
        hooks: Callbacks of training.
        checkpoints: A folder for checkpoints, from which a killed refit continues.

    Raises:
        RunError: As in `train_run`.
    """
    rows = np.arange(len(prepared.train))
    split = Split("all", rows, rows[:0], ())
    model = fresh_model(prepared, config, split, seed)
    texts = attach_cached_hidden(
        prepared.frozen, "train", model, prepared.train, config.optimisation.precision
    )
    scale = _scale_of(prepared, config)
    texts = _to_train_on(texts, scale, config)
    with explain_out_of_memory(config):
        refit(model, texts, config, seed=seed, epochs=epochs, hooks=hooks, checkpoints=checkpoints)
    predict_on_own_scale(model, scale)
    return model


@contextmanager
def explain_out_of_memory(config: RunConfig) -> Iterator[None]:
    """Turn a GPU's out-of-memory error into a RunError that proposes smaller micro-batches."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        texts = config.optimisation.micro_batch or config.optimisation.batch_size
        raise RunError(
            f"the GPU has too little memory for {texts} texts at a time: "
            f"try --set optimisation.micro_batch={max(1, texts // 2)}, "
            "which gives the same batches and losses"
        ) from error


def test_scores(test: pd.DataFrame | None, corpus: Corpus) -> dict[str, float] | None:
    """Compute the scores of test predictions, or None if the test rows have no labels.

    As in the paper, "seen" are all languages with labelled rows, including those that Dev2 holds
    out of training.
    """
    if test is None or not corpus.has_test_labels:
        return None
    return scores(test, corpus.training_languages) | agreement(test, corpus.training_languages)


def peak_memory() -> int:
    """Return the bytes of this run on a CUDA device, else the peak of this process so far."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def longest_input(encoder: Encoder) -> int:
    """Return the number of tokens that the encoder has positions for."""
    config = encoder.model.config
    positions = int(getattr(config, "max_position_embeddings", None) or UNLIMITED)
    if positions < 0:  # XLNet's -1
        return UNLIMITED
    offsets = [
        module.padding_idx + 1
        for name, module in encoder.model.named_modules()
        if name.endswith("position_embeddings")
        and isinstance(module, torch.nn.Embedding)
        and module.padding_idx is not None
    ]
    return positions - max([position_offset(encoder.model), *offsets])


def tokenise(
    texts: Sequence[str],
    encoder: Encoder,
    config: RunConfig,
    second_texts: Sequence[str] | None = None,
) -> list[np.ndarray]:
    """Return the token ids (tokens,) of each text, with its prefix or prompt before it.

    Texts are cut to `data.max_tokens` or the encoder's positions, whichever is less. Pairs are
    joined as the tokenizer joins them; of a long pair, the longer text is cut first.
    """
    longest = min(config.data.max_tokens, longest_input(encoder))
    prefix = prefix_of(encoder, config.model.prefix, config.model.prompt)
    encoded = encoder.tokenizer(
        [prefix + text for text in texts],
        None if second_texts is None else list(second_texts),
        truncation=True,
        max_length=longest,
    )["input_ids"]
    return [np.asarray(ids, dtype=np.int64) for ids in encoded]


def _tokenised(
    rows: pd.DataFrame, encoder: Encoder, config: RunConfig, languages: list[str]
) -> Texts:
    number = {language: i for i, language in enumerate(languages)}
    second = rows["second_text"].tolist() if "second_text" in rows else None
    return Texts(
        tokenise(rows["text"].tolist(), encoder, config, second),
        rows["label"].to_numpy(dtype=np.float64),
        rows["language"].map(number).to_numpy(dtype=np.int64),
        np.arange(len(rows)),
        weight=rows["weight"].to_numpy(dtype=np.float32) if "weight" in rows else None,
    )


def _require_tokens(corpus: Corpus, train: Texts, test: Texts | None, encoder: str) -> None:
    """Raise UsageError that names every row without a token: its prediction would not be finite."""
    problems = []
    for file, rows, texts in (
        ("train.csv", corpus.train, train),
        ("test.csv", corpus.test, test),
    ):
        if texts is None or rows is None:
            continue
        if not corpus.layout.is_mint:
            file = "test rows" if file == "test.csv" else "labelled rows"
        problems += [
            f"{corpus.name}/{file}, row {row + 1} below the header: encoder {encoder!r} makes no"
            f" token of the text {rows['text'].iloc[row][:40]!a}; change or remove the row"
            for row in np.flatnonzero(texts.lengths == 0)
        ]
    if problems:
        hidden = len(problems) - _ROWS_NAMED
        more = [f"... and {hidden} more rows"] if hidden > 0 else []
        raise UsageError([*problems[:_ROWS_NAMED], *more])


def _translate(texts: Texts, vocabulary: Vocabulary) -> Texts:
    return replace(texts, ids=[vocabulary.translate(ids) for ids in texts.ids])
