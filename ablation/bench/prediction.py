"""Prediction throughput against `transformers.pipeline`, from texts to scores."""

import time
from collections.abc import Sequence
from logging import CRITICAL
from typing import Any, Final

import numpy as np
import torch
from transformers import PretrainedConfig, PreTrainedModel, pipeline
from transformers.utils import logging as transformers_logging

from ablation.bench.matmul_peak import matrix_rate
from ablation.bench.table import Row, ratios
from ablation.bench.trainer import PaddedRegressor, padded_regressor
from ablation.bench.workload import Workload, floating_point_operations, our_model
from ablation.core.errors import RunError
from ablation.training.batching import Texts
from ablation.training.evaluation import predict
from ablation.training.model import IntimacyRegressor
from ablation.training.train_run import choose_device, tokenise

TARGET: Final = 2.0
BATCH_SIZES: Final = (1, 4, 8, 16, 32, 64)
#: How far two predictions of one text may be apart, on the labels' scale.
_ROUNDING: Final = 1e-3


class _ForPipeline(PreTrainedModel):
    """The padded regressor in the shape that `pipeline` asks for."""

    config_class = PretrainedConfig

    def __init__(self, regressor: PaddedRegressor) -> None:
        config = PretrainedConfig()
        config.num_labels, config.problem_type = 1, "regression"
        super().__init__(config)
        self.regressor = regressor

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        return {"logits": self.regressor(input_ids, attention_mask)["logits"].unsqueeze(-1)}


def measure_prediction(workload: Workload, rounds: int) -> list[Row]:
    """Texts a second over those of the pipeline at the fastest of its batch sizes. Raises RunError if predictions differ."""
    frame = workload.prepared.corpus.train.iloc[workload.texts.row]
    texts = frame["text"].tolist()
    ours, theirs = our_model(workload).eval(), _pipeline(workload)
    sample = texts[: max(1, len(texts) // 4)]
    size = min(BATCH_SIZES, key=lambda batch: _theirs(theirs, workload, sample, batch)[0])
    device = choose_device()
    mine, others, rates = [], [], []
    for _ in range(rounds):
        rates.append(matrix_rate(device, torch.float32))
        seconds, predicted = _ours(ours, workload, texts)
        mine.append(len(texts) / seconds)
        seconds, expected = _theirs(theirs, workload, texts, size)
        others.append(len(texts) / seconds)
        if (apart := float(np.abs(predicted - expected).max())) > _ROUNDING:
            raise RunError(
                f"the pipeline's predictions differ by {apart:.2g}: there is nothing to compare"
            )
    what = (
        f"prediction, texts a second against transformers.pipeline (batches of {size}, its fastest)"
    )
    parts = {
        "texts_per_second": {"ours": mine, "pipeline": others},
        "batch_size": size,
        "matrix_rate": rates,
    }
    per_text = (
        floating_point_operations(workload) / 3 / len(texts)
    )  # on the way up only: a third of training's
    ceiling = np.median(
        [rate / per_text / other for rate, other in zip(rates, others, strict=True)]
    )
    told = f"{ceiling:.3g}x if predicting were nothing but matrix products"
    return [Row("prediction", what, ratios(mine, others), "x", "at least", TARGET, told, parts)]


def _ours(
    model: IntimacyRegressor, workload: Workload, texts: Sequence[str]
) -> tuple[float, np.ndarray]:
    prepared = workload.prepared
    began = time.perf_counter()
    ids = [
        prepared.vocabulary.translate(each)
        for each in tokenise(texts, prepared.encoder, workload.config)
    ]
    nothing = np.zeros(len(ids))
    predicted = predict(model, Texts(ids, nothing, nothing.astype(np.int64), np.arange(len(ids))))
    return time.perf_counter() - began, predicted


def _pipeline(workload: Workload) -> Any:
    model: Any = _ForPipeline(padded_regressor(workload))
    make: Any = pipeline
    transformers_logging.set_verbosity(
        CRITICAL
    )  # it would name every model that it knows, since it does not know this one
    return make(
        "text-classification",
        model=model.eval(),
        tokenizer=workload.prepared.encoder.tokenizer,
        device=choose_device(),
    )


def _theirs(
    pipe: Any, workload: Workload, texts: Sequence[str], batch_size: int
) -> tuple[float, np.ndarray]:
    prefixed = [workload.config.model.prefix + text for text in texts]
    began = time.perf_counter()
    found = pipe(
        prefixed,
        batch_size=batch_size,
        function_to_apply="none",
        truncation=True,
        max_length=workload.config.data.max_tokens,
    )
    return time.perf_counter() - began, np.array([each["score"] for each in found])
