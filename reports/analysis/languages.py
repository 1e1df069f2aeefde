"""Replicability over languages: in how many an effect holds, and what is true of other ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from statsmodels.stats.meta_analysis import combine_effects

from reports.analysis.inference import ALPHA, Interval, holm
from reports.analysis.measures import Measurements
from reports.analysis.scope import LEAST_LANGUAGES
from reports.analysis.subsets import EvalSubset
from reports.analysis.variance_components import (
    SEEDS_AND_LANGUAGES,
    analyse,
    contrast_interval,
)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Replicability:
    """In how many languages an effect holds.

    Attributes:
        count: A lower bound of the number of languages with the effect, at confidence 1 - alpha.
        languages: How many were tested.
        named: The languages for which the effect is shown by itself (Holm).
    """

    count: int
    languages: int
    named: tuple[str, ...]


def replicability(
    p_values: Sequence[float], names: Sequence[str], alpha: float = ALPHA
) -> Replicability:
    """Return in at least how many languages an effect holds.

    Partial conjunction by Bonferroni, which allows dependent tests (languages share models): the p
    of "at least u of n" is (n - u + 1) times the u-th smallest p. Dror, Baumer, Bogomolov and
    Reichart (2017), "Replicability analysis for natural language processing", TACL 5, section 4.

    Args:
        p_values: One-sided, by language. NaN counts as 1: no evidence of an effect.
        names: The languages, in the same order.
        alpha: The probability that the count is too high.
    """
    p = np.asarray(p_values, dtype=np.float64)
    p = np.where(np.isfinite(p), p, 1.0)
    n = len(p)
    if not n:
        return Replicability(0, 0, ())
    partial = (n - np.arange(n)) * np.sort(p)
    # "At least u" needs every lower count as well.
    holds = np.maximum.accumulate(partial) <= alpha
    shown = holm(p) <= alpha
    named = tuple(name for name, yes in zip(names, shown, strict=True) if yes)
    return Replicability(int(holds.sum()), n, named)


@dataclass(frozen=True)
class Heterogeneity:
    """The spread of the true effect between languages.

    Attributes:
        sd: Its standard deviation between languages.
        p: Of "one effect in all languages" (Cochran's Q).
    """

    sd: float
    p: float


def heterogeneity(effects: Floats, variances: Floats) -> Heterogeneity | None:
    """Estimate how far an effect differs between languages.

    DerSimonian and Laird (1986), "Meta-analysis in clinical trials", Controlled Clinical Trials 7.
    Errors that languages share through the seeds are left out, so no mean is taken from here:
    `variance_components.SEEDS_AND_LANGUAGES` has them.

    Args:
        effects: (languages,).
        variances: (languages,), of their rows, positive.

    Returns:
        None for fewer than two languages.
    """
    if len(effects) < 2 or not (np.isfinite(effects).all() and (variances > 0).all()):
        return None
    with np.errstate(invalid="ignore"):  # a variance between languages that comes out below 0
        fit = combine_effects(effects, variances, method_re="dl", use_t=True)
    return Heterogeneity(float(np.sqrt(max(fit.tau2, 0.0))), float(fit.test_homogeneity().pvalue))


@dataclass(frozen=True)
class LanguageEffect:
    """A step over languages in general.

    Attributes:
        mean: The mean over the languages and seeds.
        interval: 95%, languages and seeds random.
        spread: How far the languages differ, by their rows' variances.
        holds: In how many of them the second variant is better.
    """

    mean: float
    interval: Interval
    spread: Heterogeneity
    holds: Replicability


def effect_over_languages(
    measurements: Measurements, worse: str, better: str, eval_set: str
) -> LanguageEffect | None:
    """Return `better` minus `worse` over languages in general.

    None for fewer than `LEAST_LANGUAGES` with an interval and the same seeds, or fewer than two
    seeds.
    """
    estimates = {
        language: measurements.step(worse, better, EvalSubset(eval_set, language))
        for language in measurements.languages_of(EvalSubset(eval_set))
    }
    known = {
        x: e for x, e in estimates.items() if e.uncertainty is not None and e.of_rows is not None
    }
    seeds = {e.seeds for e in known.values()}
    if len(known) < LEAST_LANGUAGES or len(seeds) != 1 or len(next(iter(seeds))) < 2:
        return None
    values = np.array([e.per_seed for e in known.values()])
    uncertainty = analyse(SEEDS_AND_LANGUAGES, values)
    mean, half_width = float(values.mean()), float(uncertainty.half_width())
    of_rows = [float(e.of_rows.variance) for e in known.values() if e.of_rows is not None]
    spread = heterogeneity(values.mean(axis=1), np.array(of_rows))
    if spread is None:
        return None
    p_values = [
        float(e.uncertainty.p_below(e.mean)) for e in known.values() if e.uncertainty is not None
    ]
    holds = replicability(p_values, list(known))
    return LanguageEffect(mean, contrast_interval(mean, half_width), spread, holds)
