"""The workload of a measurement, the same for all contenders: encoder, rows and settings."""

from dataclasses import dataclass, replace

import numpy as np

from ablation.config.schema import RunConfig
from ablation.data.corpus import Corpus
from ablation.data.seeding import seed_for
from ablation.encoders.loading import pooling_of, transformer_layers
from ablation.training.batching import Texts
from ablation.training.freezing import freeze
from ablation.training.model import IntimacyRegressor, build_model
from ablation.training.train_run import Prepared, choose_device, prepare


@dataclass(frozen=True)
class Workload:
    """Rows of a corpus, and the settings to train them with.

    Attributes:
        prepared: The tokenised corpus and the encoder.
        config: The settings.
        texts: The rows with ids of the trimmed vocabulary.
        whole: The same rows with the encoder's own ids.
        pooling: "cls" or "mean".
        frozen_layers: The number of frozen layers; None for ordinary fine-tuning.
    """

    prepared: Prepared
    config: RunConfig
    texts: Texts
    whole: Texts
    pooling: str
    frozen_layers: int | None = None

    @property
    def batch_size(self) -> int:
        return self.config.optimisation.batch_size

    @property
    def tokens(self) -> int:
        return int(self.texts.lengths.sum())

    def first(self, rows: int) -> "Workload":
        """Return the workload with its first rows only."""
        some = np.arange(min(rows, len(self.texts)))
        return replace(self, texts=self.texts.take(some), whole=self.whole.take(some))


def make_workload(corpus: Corpus, config: RunConfig, rows: int, seed: int = 0) -> Workload:
    """Draw `rows` training rows at random, or take all if there are fewer.

    Raises UsageError if the encoder can't be loaded.
    """
    prepared = prepare(corpus, config)
    chosen = np.random.default_rng(seed_for("bench", seed)).permutation(len(prepared.train))[:rows]
    texts = prepared.train.take(chosen)
    whole = replace(texts, ids=[prepared.vocabulary.kept[ids] for ids in texts.ids])
    return Workload(
        prepared, config, texts, whole, pooling_of(prepared.encoder, config.model.pooling)
    )


def half_frozen(workload: Workload) -> Workload:
    """Return the workload with the embeddings and the lower half of the layers frozen."""
    return replace(
        workload, frozen_layers=len(transformer_layers(workload.prepared.encoder.model)) // 2
    )


def one_epoch(config: RunConfig) -> RunConfig:
    """Return `config` with a single epoch."""
    optimisation = config.optimisation.model_copy(update={"epochs": 1})
    return config.model_copy(update={"optimisation": optimisation})


def in_bfloat16(workload: Workload) -> Workload:
    """Return the workload with this suite's matrix products in bfloat16."""
    optimisation = workload.config.optimisation.model_copy(update={"precision": "bfloat16"})
    return replace(
        workload, config=workload.config.model_copy(update={"optimisation": optimisation})
    )


def our_model(workload: Workload, *, dropout: float | None = None) -> IntimacyRegressor:
    """Return this suite's model with a run's initial weights."""
    model = build_model(
        workload.prepared.trimmed.model,
        workload.pooling,
        dropout=dropout,
        label_mean=float(workload.texts.label.mean()),
        seed=seed_for("head", 0),
    )
    if workload.frozen_layers is not None:
        freeze(model, workload.frozen_layers)
    return model.to(choose_device())


def floating_point_operations(workload: Workload) -> float:
    """Count the operations of the layers' matrix products for one epoch over the useful tokens.

    A weight takes two operations a token forward and four backward. A layer's attention takes
    4 n² hidden operations forward for a text of n tokens, and twice that backward. Frozen layers
    are not counted.
    """
    layers = transformer_layers(workload.prepared.encoder.model)[workload.frozen_layers or 0 :]
    weights = sum(p.numel() for layer in layers for p in layer.parameters() if p.ndim == 2)
    lengths = workload.texts.lengths.astype(np.float64)
    hidden = workload.prepared.encoder.hidden_size
    return float(6 * weights * lengths.sum() + 12 * len(layers) * hidden * np.square(lengths).sum())
