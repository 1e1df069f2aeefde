"""Measure prediction throughput from texts to scores against `transformers.pipeline`."""

import time
from collections.abc import Sequence
from logging import CRITICAL
from typing import Any, Final

import numpy as np
import torch
from transformers import PretrainedConfig, PreTrainedModel, pipeline
from transformers.utils import logging as transformers_logging

from ablation.bench.table import Row, ratios
from ablation.bench.trainer import PaddedRegressor, padded_regressor
from ablation.bench.workload import Workload, floating_point_operations, our_model
from ablation.core.errors import RunError
from ablation.runs.matmul_peak import matrix_rate
from ablation.training.batching import Texts
from ablation.training.evaluation import predict
from ablation.training.model import IntimacyRegressor
from ablation.training.train_run import choose_device, tokenise

TARGET: Final = 2.0
BATCH_SIZES: Final = (1, 4, 8, 16, 32, 64)
#: The largest difference between two predictions of a text, on the labels' scale.
_MAX_DIFFERENCE: Final = 1e-3


class _ForPipeline(PreTrainedModel):
    """The padded regressor with the interface that `pipeline` needs."""

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
    """Compare texts a second with the pipeline's at its fastest batch size.

    Raises RunError if the predictions differ.
    """
    frame = workload.prepared.corpus.train.iloc[workload.texts.row]
    texts = frame["text"].tolist()
    model, pipe = our_model(workload).eval(), _pipeline(workload)
    sample = texts[: max(1, len(texts) // 4)]
    size = min(
        BATCH_SIZES, key=lambda batch: _predict_with_pipeline(pipe, workload, sample, batch)[0]
    )
    device = choose_device()
    own_speeds, pipeline_speeds, rates = [], [], []
    for _ in range(rounds):
        rates.append(matrix_rate(device, torch.float32))
        seconds, predicted = _predict(model, workload, texts)
        own_speeds.append(len(texts) / seconds)
        seconds, expected = _predict_with_pipeline(pipe, workload, texts, size)
        pipeline_speeds.append(len(texts) / seconds)
        if (difference := float(np.abs(predicted - expected).max())) > _MAX_DIFFERENCE:
            raise RunError(
                f"the pipeline's predictions differ by {difference:.2g}: "
                "its speed can't be compared"
            )
    what = (
        f"prediction, texts a second against transformers.pipeline (batches of {size}, its fastest)"
    )
    parts = {
        "texts_per_second": {"ours": own_speeds, "pipeline": pipeline_speeds},
        "batch_size": size,
        "matrix_rate": rates,
    }
    # The forward pass is a third of training's operations.
    per_text = floating_point_operations(workload) / 3 / len(texts)
    ceiling = np.median(
        [rate / per_text / speed for rate, speed in zip(rates, pipeline_speeds, strict=True)]
    )
    note = f"{ceiling:.3g}x if predicting were nothing but matrix products"
    return [
        Row(
            "prediction",
            what,
            ratios(own_speeds, pipeline_speeds),
            "x",
            "at least",
            TARGET,
            note,
            parts,
        )
    ]


def _predict(
    model: IntimacyRegressor, workload: Workload, texts: Sequence[str]
) -> tuple[float, np.ndarray]:
    prepared = workload.prepared
    began = time.perf_counter()
    ids = [
        prepared.vocabulary.translate(text)
        for text in tokenise(texts, prepared.encoder, workload.config)
    ]
    labels = np.zeros(len(ids))  # not read
    predicted = predict(model, Texts(ids, labels, labels.astype(np.int64), np.arange(len(ids))))
    return time.perf_counter() - began, predicted


def _pipeline(workload: Workload) -> Any:
    model: Any = _ForPipeline(padded_regressor(workload))
    make: Any = pipeline
    # The pipeline does not know this model, and would list all that it knows.
    transformers_logging.set_verbosity(CRITICAL)
    return make(
        "text-classification",
        model=model.eval(),
        tokenizer=workload.prepared.encoder.tokenizer,
        device=choose_device(),
    )


def _predict_with_pipeline(
    pipe: Any, workload: Workload, texts: Sequence[str], batch_size: int
) -> tuple[float, np.ndarray]:
    prefixed = [workload.config.model.prefix + text for text in texts]
    began = time.perf_counter()
    outputs = pipe(
        prefixed,
        batch_size=batch_size,
        function_to_apply="none",
        truncation=True,
        max_length=workload.config.data.max_tokens,
    )
    return time.perf_counter() - began, np.array([output["score"] for output in outputs])
