"""Search spaces: data files of fields and bounds, checked against the settings before any trial."""

import difflib
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ablation.config.schema import FIELDS, NOT_TOML, RunConfig, override, resolve_config
from ablation.config.variants import VARIANTS
from ablation.core.errors import UsageError
from ablation.training.freezing import require_layers

READY: Final = ("tau", "freeze", "lr", "joint", "variants")
#: The field that stands for rows of Table 3 instead of a setting: each of them is tuned in a study of its own (`studies.equal_budget`).
VARIANT: Final = "variant"


class Bounds(BaseModel):
    """What a field may be: `choices`, or from `low` to `high` (on a log scale; in steps).

    `high = "layers"` is the number of the encoder's transformer layers. Whole numbers stay whole.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: int | float | None = None
    high: int | float | Literal["layers"] | None = None
    log: bool = False
    step: int | float | None = Field(None, gt=0)
    choices: tuple[str | int | float | bool, ...] = ()

    @model_validator(mode="after")
    def _one_kind(self) -> "Bounds":
        if bool(self.choices) == (self.low is not None and self.high is not None):
            raise ValueError("give choices, or low and high")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other")
        if isinstance(self.high, int | float) and self.low is not None and self.low > self.high:
            raise ValueError("low is above high")
        if self.log and self.low is not None and self.low <= 0:
            raise ValueError("a log scale starts above 0")
        return self

    def distribution(self, layers: int) -> BaseDistribution:
        """Optuna's own form of it, for an encoder of `layers` layers."""
        if self.choices:
            return CategoricalDistribution(self.choices)
        high = layers if self.high == "layers" else self.high
        assert self.low is not None
        assert high is not None
        if isinstance(self.low, int) and isinstance(high, int):
            return IntDistribution(self.low, high, log=self.log, step=int(self.step or 1))
        return FloatDistribution(float(self.low), float(high), log=self.log, step=self.step)


class Space(BaseModel):
    """A search space: the question it answers, the variant that is tuned, and its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str
    variant: str = "mse"
    fields: dict[str, Bounds] = Field(min_length=1)


def load_space(name_or_file: str) -> Space:
    """One of `READY`, or a TOML file. Raises UsageError with a line for each problem."""
    if name_or_file in READY:
        text = (files("studies") / "spaces" / f"{name_or_file}.toml").read_text("utf-8")
    else:
        try:
            file = Path(name_or_file).expanduser()
            found = file.is_file()
        except (
            OSError,
            RuntimeError,
        ) as error:  # a name that is too long; a home folder that nobody has
            raise UsageError(
                f"space {name_or_file[:80]}: {getattr(error, 'strerror', None) or error}"
            ) from error
        if not found:
            near = difflib.get_close_matches(name_or_file, READY, n=1)
            hint = (
                f"did you mean {near[0]!r}?"
                if near
                else f"known are {', '.join(READY)}, or a TOML file"
            )
            raise UsageError(f"unknown space {name_or_file!r}: {hint}")
        try:
            text = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"space {file}: can't be read: {error}") from error
    try:
        tables = tomllib.loads(text)
    except NOT_TOML as error:
        raise UsageError(f"space {name_or_file}: not TOML: {error}") from error
    try:
        space = Space.model_validate(tables)
    except ValidationError as error:
        raise UsageError(
            [
                f"space {name_or_file}: {'.'.join(map(str, e['loc']))}: {e['msg']}"
                for e in error.errors()
            ]
        ) from error
    problems = []
    for field, bounds in space.fields.items():
        if field == VARIANT:
            unknown = [
                v for v in bounds.choices if v not in VARIANTS or VARIANTS[str(v)].combines_runs
            ]
            problems += [
                f"space {name_or_file}: {v!r} is no variant that is trained" for v in unknown
            ]
            problems += (
                [f"space {name_or_file}: variant takes choices"] if not bounds.choices else []
            )
            problems += (
                [f"space {name_or_file}: beside variant, name a field to tune"]
                if len(space.fields) == 1
                else []
            )
        elif field not in FIELDS:
            near = difflib.get_close_matches(field, FIELDS, n=1, cutoff=0.5)
            problems.append(
                f"space {name_or_file}: unknown field {field!r}"
                + (f": did you mean {near[0]!r}?" if near else "")
            )
    if space.variant not in VARIANTS or VARIANTS[space.variant].combines_runs:
        problems.append(f"space {name_or_file}: {space.variant!r} is no variant that is trained")
    if problems:
        raise UsageError(problems)
    return space


def variants_of(space: Space) -> tuple[str, ...]:
    """The rows that the space tunes side by side; empty for a space of one variant."""
    return tuple(map(str, space.fields[VARIANT].choices)) if VARIANT in space.fields else ()


def for_variant(space: Space, variant: str) -> Space:
    """The part of the space that is searched for one of its variants."""
    fields = {field: bounds for field, bounds in space.fields.items() if field != VARIANT}
    return space.model_copy(update={"variant": variant, "fields": fields})


def check(space: Space, differences: Mapping[str, Any], layers: int) -> None:
    """Raise UsageError if the settings can't take some corner of the space, or its variant decides a field of it."""
    fixed = set(VARIANTS[space.variant].changes) & set(space.fields)
    if fixed:
        raise UsageError(
            f"{', '.join(sorted(fixed))}: the variant {space.variant!r} decides this itself"
        )
    corners = [
        {field: _end(bounds, end, layers) for field, bounds in space.fields.items()}
        for end in ("low", "high")
    ]
    corners += [
        {field: choice} for field, bounds in space.fields.items() for choice in bounds.choices
    ]
    for corner in corners:
        model = configure(space, differences, corner).model
        if model.frozen_tuning:
            require_layers(model.freeze_layers, layers)


def configure(space: Space, differences: Mapping[str, Any], params: Mapping[str, Any]) -> RunConfig:
    """The settings of a trial with these parameters."""
    return resolve_config(override(differences, params), space.variant)


def suggest(trial: optuna.Trial, space: Space, layers: int) -> dict[str, Any]:
    """A value for each field, from the study's sampler."""
    values: dict[str, Any] = {}
    for field, bounds in space.fields.items():
        distribution = bounds.distribution(layers)
        if isinstance(distribution, CategoricalDistribution):
            values[field] = trial.suggest_categorical(field, distribution.choices)
        elif isinstance(distribution, IntDistribution):
            values[field] = trial.suggest_int(
                field,
                distribution.low,
                distribution.high,
                step=distribution.step,
                log=distribution.log,
            )
        elif isinstance(distribution, FloatDistribution):
            low, high = distribution.low, distribution.high
            values[field] = trial.suggest_float(
                field, low, high, step=distribution.step, log=distribution.log
            )
    return values


def grid(space: Space, layers: int, points: int) -> dict[str, list[Any]]:
    """Up to `points` values of each field, evenly spaced on its scale, ends included."""
    values: dict[str, list[Any]] = {}
    for field, bounds in space.fields.items():
        distribution = bounds.distribution(layers)
        if isinstance(distribution, CategoricalDistribution):
            values[field] = list(distribution.choices)
        elif isinstance(distribution, IntDistribution) and not distribution.log:
            whole = list(range(distribution.low, distribution.high + 1, distribution.step))
            stride = max(1, -(-len(whole) // points))
            values[field] = sorted({*whole[::stride], whole[-1]})
        elif isinstance(distribution, IntDistribution | FloatDistribution):
            low, high = distribution.low, distribution.high
            steps = [i / max(points - 1, 1) for i in range(points)]
            each = [
                low * (high / low) ** s if distribution.log else low + (high - low) * s
                for s in steps
            ]
            values[field] = sorted({_inside(distribution, v) for v in each})
    return values


def _inside(distribution: IntDistribution | FloatDistribution, value: float) -> int | float:
    """The nearest value that the distribution has: rounding must not put a grid's ends outside."""
    if isinstance(distribution, IntDistribution):
        return min(max(round(value), distribution.low), distribution.high)
    if distribution.step is not None:
        value = (
            distribution.low
            + round((value - distribution.low) / distribution.step) * distribution.step
        )
    return min(max(value, distribution.low), distribution.high)


def _end(bounds: Bounds, end: str, layers: int) -> Any:
    if bounds.choices:
        return bounds.choices[0 if end == "low" else -1]
    value = getattr(bounds, end)
    return layers if value == "layers" else value
