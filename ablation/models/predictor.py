"""Score texts with one model, or with several whose scores are averaged."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from ablation.config.schema import Precision
from ablation.core.counting import counted
from ablation.core.errors import UsageError
from ablation.models.exported import ENSEMBLE_FILE, LoadedModel, read_about, read_model
from ablation.training.batching import Texts, prediction_batches
from ablation.training.evaluation import EVALUATION_BATCH, predict
from ablation.training.train_run import choose_device

#: Batches between two reports of progress.
_REPORTED_BATCHES: Final = 4
#: Receives the number of texts that were scored since the last call.
OnScored = Callable[[int], None]


class Prediction(NamedTuple):
    """Scores of texts (texts,), float32, on the scale of the training labels.

    `spread` is the standard deviation over an ensemble's models, weighted as their average is; None
    for a single model. It says how much the models disagree, and is no error bar.
    """

    score: np.ndarray
    spread: np.ndarray | None


@dataclass(frozen=True)
class Member:
    """A model of a predictor: `load` loads it, and `weight` is its share in the average."""

    load: Callable[[], LoadedModel]
    weight: float = 1.0


@dataclass(frozen=True)
class Predictor:
    """A fine-tuned model that scores texts, or an ensemble; made by `load_model`.

    A single model stays loaded. The models of an ensemble are loaded one after another. `is_pair`
    tells if the model scores pairs of texts; None if that is not known.
    """

    members: tuple[Member, ...]
    is_pair: bool | None = None
    #: Of matrix products. In bfloat16 scores move by up to 0.007.
    precision: Precision = "float32"

    def predict(
        self, texts: Sequence[str], second_texts: Sequence[str] | None = None
    ) -> np.ndarray:
        """Predict the intimacy of texts in any of the encoder's languages.

        Args:
            texts: The texts; long ones are cut as they were in training.
            second_texts: The second text of each pair, if the model was trained on pairs.

        Returns:
            Scores (texts,), float32, on the scale of the training labels, such as 1 (not intimate)
            to 5 (very intimate). The regression is not clipped to that range.

        Raises:
            UsageError: `texts` is a single string, or one of them is not a text or is empty; or
                the model needs pairs and gets none, or the other way round.
        """
        return self.score(texts, second_texts).score

    def score(
        self,
        texts: Sequence[str],
        second_texts: Sequence[str] | None = None,
        on_scored: OnScored | None = None,
    ) -> Prediction:
        """Predict texts as `predict` does, with an ensemble's spread.

        Args:
            texts: The texts.
            second_texts: The second text of each pair.
            on_scored: Called from time to time while texts are scored, for every model.

        Raises:
            UsageError: As in `predict`.
        """
        _check(texts)
        _check_pairs(self.is_pair, second_texts)
        if second_texts is not None:
            _check(second_texts)
            if len(second_texts) != len(texts):
                raise UsageError(
                    f"{counted(len(texts), 'text')} and {counted(len(second_texts), 'second text')}"
                )
        report = on_scored or (lambda count: None)
        scores = np.stack(
            [
                _score(member.load(), texts, second_texts, (self.precision, report))
                for member in self.members
            ]
        )
        if len(self.members) == 1:
            return Prediction(scores[0], None)
        weights = np.array([member.weight for member in self.members])
        mean = np.average(scores, axis=0, weights=weights)
        variance = np.average((scores - mean) ** 2, axis=0, weights=weights)
        return Prediction(mean.astype(np.float32), np.sqrt(variance).astype(np.float32))


def place(loaded: LoadedModel) -> LoadedModel:
    """Move a model to the first GPU, if there is one."""
    loaded.model.to(choose_device())
    return loaded


def single(loaded: LoadedModel) -> Predictor:
    """Make a predictor of one model, which stays loaded."""
    place(loaded)
    is_pair = None if loaded.about is None else loaded.about.is_pair
    return Predictor((Member(lambda: loaded),), is_pair)


def load_model(folder: str | Path) -> Predictor:
    """Load a model, or an ensemble, that `ablation run --export` wrote.

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
    folder = Path(folder)
    if not (folder / ENSEMBLE_FILE).is_file():
        return single(read_model(folder))
    try:
        shares = json.loads((folder / ENSEMBLE_FILE).read_text("utf-8"))
        weights = {str(name): float(share) for name, share in shares["members"].items()}
        if not weights or min(weights.values()) <= 0:
            raise ValueError("no members, or a weight that is not above 0")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{folder / ENSEMBLE_FILE}: not an ensemble's file: {error}") from error
    about = read_about(folder / next(iter(weights)))
    return Predictor(
        tuple(Member(_loader(folder / name), weight) for name, weight in weights.items()),
        None if about is None else about.is_pair,
    )


def _loader(folder: Path) -> Callable[[], LoadedModel]:
    return lambda: place(read_model(folder))


def _check_pairs(is_pair: bool | None, second_texts: Sequence[str] | None) -> None:
    if is_pair and second_texts is None:
        raise UsageError("the model scores pairs of texts: give the second ones (--second-text)")
    if is_pair is False and second_texts is not None:
        raise UsageError("the model scores single texts, not pairs: leave the second ones out")


def _check(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise UsageError("texts: give a list of texts, not a single string")
    for number, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise UsageError(f"text {number + 1} of {len(texts)}: {text!r} is not a text")


def _score(
    loaded: LoadedModel,
    texts: Sequence[str],
    second: Sequence[str] | None,
    options: tuple[Precision, OnScored],
) -> np.ndarray:
    """Score texts, longest first, in the batches in which a run predicts its test rows."""
    if not texts:
        return np.empty(0, dtype=np.float32)
    encoded = loaded.tokenizer(
        [loaded.prefix + text.strip() for text in texts],
        None if second is None else [text.strip() for text in second],
        truncation=True,
        max_length=loaded.max_tokens,
    )
    ids = [np.asarray(row, dtype=np.int64) for row in encoded["input_ids"]]
    for number, row in enumerate(ids):
        if not len(row):
            raise UsageError(f"text {number + 1} of {len(texts)}: the encoder makes no token of it")
    unknown = np.full(len(ids), np.nan)
    language = np.zeros(len(ids), dtype=np.int64)
    rows = Texts(ids, unknown, language, np.arange(len(ids)))
    scores = np.empty(len(ids), dtype=np.float32)
    order = np.concatenate(prediction_batches(rows, EVALUATION_BATCH))
    size = _REPORTED_BATCHES * EVALUATION_BATCH
    precision, report = options
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        scores[chosen] = predict(loaded.model, rows.take(chosen), precision)
        report(len(chosen))
    return scores
