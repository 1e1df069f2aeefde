"""Write a model's card from its run: data, settings, scores with intervals, limits, licence."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined
from scipy.stats import bootstrap

from ablation.models.kept_weights import AboutModel
from ablation.training.evaluation import pearson

#: Resamples of the rows for an interval.
RESAMPLES: Final = 999
_FEWEST_ROWS: Final = 10
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}")


@dataclass(frozen=True)
class ScoredRows:
    """Predictions of a run, see `evaluation.prediction_table`; test rows if it has any."""

    dev: pd.DataFrame
    test: pd.DataFrame | None


@dataclass(frozen=True)
class CardScore:
    """A row of the card's table: Pearson's r over `count` rows, and its 95 % interval."""

    rows: str
    subset: str
    count: int
    r: float
    low: float
    high: float


def render_card(
    about: AboutModel,
    scored: ScoredRows,
    members: Mapping[str, float] | None = None,
    prefix: str | None = None,
) -> str:
    """Return the card as Markdown, with the metadata that the Hugging Face Hub reads.

    Args:
        about: The model's origin; for an ensemble that of a member, with the ensemble's key.
        scored: The run's predictions.
        members: The folders of an ensemble's members with their weights.
        prefix: The text before each text; that of the settings if None.
    """
    template = (files("ablation.models") / "card.md.j2").read_text("utf-8")
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    low, high = about.label_range
    encoder = about.config.model.encoder
    return environment.from_string(template).render(
        about=about,
        title=f"{about.variant} on {about.corpus}",
        # The Hub refuses a card whose languages are something else, such as domains.
        languages=[code for code in about.languages if _LANGUAGE.fullmatch(code)],
        base_model=encoder if encoder.count("/") == 1 and not encoder.startswith(".") else None,
        low=f"{low:g}",
        high=f"{high:g}",
        prefix=about.config.model.prefix if prefix is None else prefix,
        members=members,
        scores=card_scores(scored, about.languages),
        has_test=scored.test is not None and bool(scored.test["label"].notna().all()),
    )


def card_scores(scored: ScoredRows, seen: tuple[str, ...]) -> list[CardScore]:
    """Compute the card's table: all rows, seen and unseen languages; what has no score is left out.

    Args:
        scored: The predictions.
        seen: The languages with labelled rows.
    """
    result = []
    for name, table in (("development", scored.dev), ("test", scored.test)):
        if table is None or not table["label"].notna().all():
            continue
        is_seen = table["language"].isin(seen).to_numpy()
        subsets = {"all": np.ones(len(table), dtype=bool)}
        if name == "test" and not is_seen.all():
            subsets |= {"seen in training": is_seen, "unseen": ~is_seen}
        for subset, mask in subsets.items():
            rows = table[mask]
            prediction, label = rows["prediction"].to_numpy(), rows["label"].to_numpy()
            r = pearson(prediction, label)
            if r is not None and len(rows) >= _FEWEST_ROWS:
                low, high = _interval(prediction, label)
                result.append(CardScore(name, subset, len(rows), r, low, high))
    return result


def _interval(prediction: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of Pearson's r over rows."""
    found = bootstrap(
        (prediction, label),
        _pearsons,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=100,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def _pearsons(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
    x = x - x.mean(axis=axis, keepdims=True)
    y = y - y.mean(axis=axis, keepdims=True)
    sizes = np.sqrt((x**2).sum(axis=axis) * (y**2).sum(axis=axis))
    return np.asarray((x * y).sum(axis=axis) / sizes)
