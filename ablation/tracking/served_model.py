"""The code of a logged model: MLflow copies this file beside the weights and runs it alone.

It needs torch, transformers and safetensors, and nothing of this package.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

_BATCH = 64


def _pool_last(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    last = mask.shape[1] - 1 - mask.squeeze(-1).flip(1).argmax(1)
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


def _pool_weighted(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    weights = mask * mask.cumsum(1)
    return (hidden * weights).sum(1) / weights.sum(1)


_Pool = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
#: The poolings of sentence-transformers by their name in 1_Pooling/config.json. Each takes hidden
#: states (texts, tokens, size) and a mask (texts, tokens, 1) that is 1 for tokens, 0 for padding.
_POOLINGS: dict[str, _Pool] = {
    "pooling_mode_cls_token": lambda hidden, mask: hidden[:, 0],
    "pooling_mode_mean_tokens": lambda hidden, mask: (hidden * mask).sum(1) / mask.sum(1),
    "pooling_mode_max_tokens": lambda hidden, mask: hidden.masked_fill(mask == 0, -torch.inf).amax(
        1
    ),
    "pooling_mode_lasttoken": _pool_last,
    "pooling_mode_weightedmean_tokens": _pool_weighted,
    "pooling_mode_mean_sqrt_len_tokens": lambda hidden, mask: (
        (hidden * mask).sum(1) / mask.sum(1).sqrt()
    ),
}


class _Regressor:
    """One exported folder: an encoder, pooling and a linear head."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.encoder = AutoModel.from_pretrained(folder, local_files_only=True).eval()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.encoder.to(self.device)
        self.limit = int(_json(folder / "sentence_bert_config.json")["max_seq_length"])
        prompting = _json(folder / "config_sentence_transformers.json")
        name = prompting.get("default_prompt_name")
        self.prefix = "" if name is None else str(prompting["prompts"][name])
        pooling = _json(folder / "1_Pooling/config.json")
        (self.pool,) = [pool for mode, pool in _POOLINGS.items() if pooling.get(mode)]
        head = load_file(folder / "2_Dense/model.safetensors")
        self.weight = head["linear.weight"].to(self.device)
        self.bias = head["linear.bias"].to(self.device)

    @torch.inference_mode()
    def score(self, texts: list[str], second: list[str] | None = None) -> np.ndarray:
        scores = np.empty(len(texts), dtype=np.float32)
        order = np.argsort([-len(text) for text in texts], kind="stable")
        for start in range(0, len(order), _BATCH):
            chosen = order[start : start + _BATCH]
            batch = self.tokenizer(
                [self.prefix + texts[i] for i in chosen],
                None if second is None else [second[i] for i in chosen],
                truncation=True,
                max_length=self.limit,
                padding=True,
                return_tensors="pt",
            ).to(self.device)
            hidden = self.encoder(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            sentence = self.pool(hidden, mask)
            scores[chosen] = torch.nn.functional.linear(sentence, self.weight, self.bias)[
                :, 0
            ].cpu()
        return scores


class IntimacyModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined]
    """Scores the column `text`, of pairs with `second_text`.

    An ensemble also returns the spread over its models.
    """

    def load_context(self, context: Any) -> None:
        folder = Path(context.artifacts["model"])
        ensemble = folder / "ensemble.json"
        shares = _json(ensemble)["members"] if ensemble.is_file() else {".": 1.0}
        self.models = [_Regressor(folder / name) for name in shares]
        self.shares = np.array(list(shares.values()), dtype=np.float64)

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        texts = _texts_of(model_input, "text")
        second = _texts_of(model_input, "second_text") if "second_text" in model_input else None
        scores = np.stack([model.score(texts, second) for model in self.models])
        mean = np.average(scores, axis=0, weights=self.shares)
        columns = {"prediction": mean}
        if len(self.models) > 1:
            variance = np.average((scores - mean) ** 2, axis=0, weights=self.shares)
            columns["spread"] = np.sqrt(variance)
        return pd.DataFrame(columns, index=model_input.index).astype("float64")


def _texts_of(rows: pd.DataFrame, column: str) -> list[str]:
    texts = [value.strip() if isinstance(value, str) else "" for value in rows[column]]
    if missing := [number for number, text in enumerate(texts) if not text]:
        raise MlflowException(
            f"{column} is missing or empty in row {missing[0]} (rows count from 0)",
            error_code=INVALID_PARAMETER_VALUE,
        )
    return texts


def _json(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return content


mlflow.models.set_model(IntimacyModel())
