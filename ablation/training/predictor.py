"""Score texts with an exported model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ablation.core.errors import UsageError
from ablation.encoders.loading import Encoder
from ablation.training.batching import Texts
from ablation.training.evaluation import predict
from ablation.training.model import ExportedModel, load_exported
from ablation.training.train_run import choose_device, longest_input


@dataclass(frozen=True)
class Predictor:
    """A fine-tuned model that scores texts; made by `load_model`."""

    exported: ExportedModel

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """Predict the intimacy of texts in any of the encoder's languages.

        Args:
            texts: The texts; long ones are cut as they were in training.

        Returns:
            Scores (texts,), float32, on the scale of the training labels: 1 is not intimate, 5
            is very intimate. The regression is not clipped to that range.

        Raises:
            UsageError: `texts` is a single string.
        """
        if isinstance(texts, str):
            raise UsageError("texts: give a list of texts, not a single string")
        if not texts:
            return np.empty(0, dtype=np.float32)
        model, tokenizer = self.exported.model, self.exported.tokenizer
        limit = min(self.exported.max_tokens, longest_input(Encoder("", model.encoder, tokenizer)))
        encoded = tokenizer(
            [self.exported.prefix + text for text in texts], truncation=True, max_length=limit
        )
        ids = [np.asarray(row, dtype=np.int64) for row in encoded["input_ids"]]
        unknown = np.full(len(ids), np.nan)
        language = np.zeros(len(ids), dtype=np.int64)
        return predict(model, Texts(ids, unknown, language, np.arange(len(ids))))


def load_model(folder: str | Path) -> Predictor:
    """Load a model that `ablation run --export` wrote.

    Args:
        folder: The folder of one run, such as models/epm-dev1-seed0.

    Returns:
        The model, on the first GPU if there is one.

    Raises:
        UsageError: The folder holds no such model.

    Example:
        >>> model = ablation.load_model("models/epm-dev1-seed0")
        >>> model.predict(["I miss you so much", "The bus leaves at nine"])
    """
    exported = load_exported(Path(folder))
    exported.model.to(choose_device())
    return Predictor(exported)
