"""What every contender of a measurement trains on: the same encoder, rows, batch size and settings."""

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
    """Rows of a corpus and the settings to train them with; `texts` have the trimmed vocabulary's ids, `whole` the encoder's.

    `frozen_layers` is None for ordinary fine-tuning.
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
        """The same with its first rows only."""
        some = np.arange(min(rows, len(self.texts)))
        return replace(self, texts=self.texts.take(some), whole=self.whole.take(some))


def make_workload(corpus: Corpus, config: RunConfig, rows: int, seed: int = 0) -> Workload:
    """`rows` training rows drawn at random (all, if there are fewer). Raises UsageError if the encoder can't be had."""
    prepared = prepare(corpus, config)
    chosen = np.random.default_rng(seed_for("bench", seed)).permutation(len(prepared.train))[:rows]
    texts = prepared.train.take(chosen)
    whole = replace(texts, ids=[prepared.vocabulary.kept[ids] for ids in texts.ids])
    return Workload(
        prepared, config, texts, whole, pooling_of(prepared.encoder, config.model.pooling)
    )


def half_frozen(workload: Workload) -> Workload:
    """The same with the embeddings and the lower half of the layers frozen."""
    return replace(
        workload, frozen_layers=len(transformer_layers(workload.prepared.encoder.model)) // 2
    )


def in_bfloat16(workload: Workload) -> Workload:
    """The same with this suite's matrix products in bfloat16."""
    optimisation = workload.config.optimisation.model_copy(update={"precision": "bfloat16"})
    return replace(
        workload, config=workload.config.model_copy(update={"optimisation": optimisation})
    )


def our_model(workload: Workload, *, dropout: float | None = None) -> IntimacyRegressor:
    """This suite's model as a run would start with it."""
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
    """Operations of the layers' matrix products for training on every useful token once; attention's products counted too.

    Two for each weight on the way up, four on the way back; frozen layers are left out. A text of n tokens
    takes 4 n² hidden operations in a layer's attention on the way up, twice that on the way back.
    """
    layers = transformer_layers(workload.prepared.encoder.model)[workload.frozen_layers or 0 :]
    weights = sum(p.numel() for layer in layers for p in layer.parameters() if p.ndim == 2)
    lengths = workload.texts.lengths.astype(np.float64)
    hidden = workload.prepared.encoder.hidden_size
    return float(6 * weights * lengths.sum() + 12 * len(layers) * hidden * np.square(lengths).sum())
