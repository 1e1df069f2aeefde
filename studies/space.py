"""Search spaces: TOML files of fields and bounds, checked against the settings before any trial.

A file below `spaces/` is a shipped space by its name; any other file is given by its path.
"""

import math
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from ablation.config.overrides import merge_overrides, resolve_config
from ablation.config.schema import FIELDS, RunConfig
from ablation.config.tables import NOT_TOML
from ablation.config.variant_table import VariantTable
from ablation.config.variants import TABLE_3
from ablation.core.errors import UsageError, first_line
from ablation.core.suggest import did_you_mean
from ablation.training.freezing import require_layers

_FOLDER: Final = files("studies") / "spaces"
SHIPPED: Final = tuple(sorted(Path(file.name).stem for file in _FOLDER.iterdir()))
#: The field that stands for rows of the table, not a setting: each of them is tuned in a study
#: of its own (`studies.equal_budget`).
VARIANT: Final = "variant"
#: Storages keep whole numbers as doubles, which are exact up to here.
_MAX_NUMBER: Final = 2**53

Number = Annotated[StrictInt | StrictFloat, Field(ge=-_MAX_NUMBER, le=_MAX_NUMBER)]


class Bounds(BaseModel):
    """The values of a field: `choices`, or a range from `low` to `high`, both included.

    A range is on a log scale with `log`, or in steps of `step`. `high = "layers"` is the number of
    the encoder's transformer layers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: Number | None = None
    high: Number | Literal["layers"] | None = None
    log: bool = False
    step: Number | None = None
    choices: tuple[str | int | float | bool, ...] = ()

    @model_validator(mode="after")
    def _is_choices_or_a_range(self) -> "Bounds":
        limits = (self.low, self.high)
        if None in limits if not self.choices else limits != (None, None):
            raise ValueError("give choices, or low and high")
        if self.choices and (self.log or self.step is not None):
            raise ValueError("log and step go with low and high, not with choices")
        if len(set(self.choices)) < len(self.choices):
            raise ValueError("the same choice is given twice")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other")
        if self.step is not None and self.step <= 0:
            raise ValueError("step must be above 0")
        if self.low is not None and isinstance(self.high, int | float):
            self._check_range(self.low, self.high)
        if self.log and self.low is not None and self.low <= 0:
            raise ValueError("a log scale starts above 0")
        return self

    def _check_range(self, low: float, high: float) -> None:
        """Raise ValueError if the range is empty or its steps don't end at `high`."""
        if low > high:
            raise ValueError("low is above high")
        if self.step is None:
            return
        count = (high - low) / self.step
        if not math.isclose(count, round(count), abs_tol=1e-6):
            last = low + math.floor(count) * self.step
            raise ValueError(f"steps of {self.step:g} end at {last:g}: give that as high")

    def distribution(self, field: str, layers: int) -> BaseDistribution:
        """Return Optuna's distribution.

        Args:
            field: The setting, such as "loss.tau": whole numbers if it takes no others.
            layers: The number of the encoder's layers.

        Raises:
            UsageError: There is no value between the bounds.
        """
        if self.choices:
            return CategoricalDistribution(self.choices)
        assert self.low is not None
        assert self.high is not None
        high = layers if self.high == "layers" else self.high
        if self.low > high:
            source = " (the encoder's layers)" if self.high == "layers" else ""
            raise UsageError(f"{field}: low = {self.low:g} is above high = {high:g}{source}")
        if number_type(field) is int:
            step = int(self.step or 1)
            last = int(high) - (int(high) - int(self.low)) % step
            return IntDistribution(int(self.low), last, log=self.log, step=step)
        return FloatDistribution(float(self.low), float(high), log=self.log, step=self.step)


class Space(BaseModel):
    """A search space: the question that it answers, the variant that is tuned, and its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str
    variant: str = "mse"
    fields: dict[str, Bounds] = Field(min_length=1)


def load_space(name_or_file: str, table: VariantTable = TABLE_3) -> Space:
    """Return a shipped space, or read a TOML file. Raises UsageError with a line a problem.

    A space that names no variant is about `mse`, or about the first row of a table without it.
    """
    text = _read(name_or_file)
    try:
        space = Space.model_validate(tomllib.loads(text))
    except ValidationError as error:
        lines = dict.fromkeys(_explain(problem) for problem in error.errors())
        raise UsageError([f"space {name_or_file}: {line}" for line in lines]) from error
    except NOT_TOML as error:
        raise UsageError(f"space {name_or_file}: not TOML: {error}") from error
    if "variant" not in space.model_fields_set and space.variant not in table.variants:
        space = space.model_copy(update={"variant": next(iter(table.trained()), "")})
    if problems := _problems(space, table):
        raise UsageError([f"space {name_or_file}: {problem}" for problem in problems])
    return space


def variants_of(space: Space) -> tuple[str, ...]:
    """Return the variants that the space tunes side by side; empty for a space of one variant."""
    return tuple(map(str, space.fields[VARIANT].choices)) if VARIANT in space.fields else ()


def for_variant(space: Space, variant: str) -> Space:
    """Return the part of the space that is searched for one of its variants."""
    fields = {field: bounds for field, bounds in space.fields.items() if field != VARIANT}
    return space.model_copy(update={"variant": variant, "fields": fields})


def check(
    space: Space, overrides: Mapping[str, Any], layers: int, table: VariantTable = TABLE_3
) -> None:
    """Check that every corner of the space is a valid configuration, and that values can be drawn.

    Args:
        space: The space of one variant.
        overrides: The settings of all trials.
        layers: The number of the encoder's layers.
        table: The table that the space's variant is a row of.

    Raises:
        UsageError: The settings don't take a corner, the variant decides a field of the space
            itself, or no value can be drawn.
    """
    fixed = set(table.get(space.variant).changes) & set(space.fields)
    if fixed:
        raise UsageError(
            f"{', '.join(sorted(fixed))}: the variant {space.variant!r} decides this itself"
        )
    try:
        suggest(optuna.create_study().ask(), space, layers)
    except (ValueError, TypeError, OverflowError) as error:
        raise UsageError(f"no values can be drawn from the space: {first_line(error)}") from error
    corners: list[dict[str, Any]] = [
        {field: _end(bounds, end, layers) for field, bounds in space.fields.items()}
        for end in ("low", "high")
    ]
    corners += [
        {field: choice} for field, bounds in space.fields.items() for choice in bounds.choices
    ]
    for corner in corners:
        model = configure(space, overrides, corner, table).model
        if model.frozen_tuning:
            require_layers(model.freeze_layers, layers)


def configure(
    space: Space,
    overrides: Mapping[str, Any],
    params: Mapping[str, Any],
    table: VariantTable = TABLE_3,
) -> RunConfig:
    """Return the settings of a trial with these parameters."""
    return resolve_config(merge_overrides(overrides, params), space.variant, table)


def suggest(trial: optuna.Trial, space: Space, layers: int) -> dict[str, Any]:
    """Draw a value for each field from the study's sampler."""
    values: dict[str, Any] = {}
    for field, bounds in space.fields.items():
        distribution = bounds.distribution(field, layers)
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
    """Return up to `points` values of each field, evenly spaced on its scale, ends included."""
    values: dict[str, list[Any]] = {}
    for field, bounds in space.fields.items():
        distribution = bounds.distribution(field, layers)
        if isinstance(distribution, CategoricalDistribution):
            values[field] = list(distribution.choices)
        elif isinstance(distribution, IntDistribution) and not distribution.log:
            whole = list(range(distribution.low, distribution.high + 1, distribution.step))
            stride = max(1, -(-len(whole) // points))
            values[field] = sorted({*whole[::stride], whole[-1]})
        elif isinstance(distribution, IntDistribution | FloatDistribution):
            low, high = distribution.low, distribution.high
            shares = [i / max(points - 1, 1) for i in range(points)]
            spaced = [
                low * (high / low) ** share if distribution.log else low + (high - low) * share
                for share in shares
            ]
            values[field] = sorted({_nearest(distribution, value) for value in spaced})
    return values


def number_type(field: str) -> type[int] | type[float] | None:
    """Return the type of number that a setting takes, or None if it takes no numbers."""
    section, name = field.split(".", 1)
    annotation = RunConfig.model_fields[section].annotation
    assert annotation is not None
    declared = annotation.model_fields[name].annotation
    options = {
        getattr(option, "__origin__", option) for option in (get_args(declared) or (declared,))
    }
    return int if int in options else float if float in options else None


def _read(name_or_file: str) -> str:
    if name_or_file in SHIPPED:
        return (_FOLDER / f"{name_or_file}.toml").read_text("utf-8")
    try:
        file = Path(name_or_file).expanduser()
        exists = file.is_file()
    except (OSError, RuntimeError) as error:  # a name that is too long, an unknown user's home
        raise UsageError(
            f"space {name_or_file[:80]}: {getattr(error, 'strerror', None) or error}"
        ) from error
    if not exists:
        hint = did_you_mean(name_or_file, SHIPPED, others="a TOML file")
        raise UsageError(f"unknown space {name_or_file!r}: {hint}")
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"space {file}: can't be read: {error}") from error


def _explain(error: ErrorDetails) -> str:
    """Return one line on a problem that the model found."""
    location = [str(part) for part in error["loc"][:3]]  # deeper ones are a union's types
    if error["type"] == "extra_forbidden":
        known = (Space if len(location) == 1 else Bounds).model_fields
        return f"unknown key {'.'.join(location)!r}: {did_you_mean(location[-1], known)}"
    if location[-1] in ("low", "high", "step"):
        special = ", or 'layers'" if location[-1] == "high" else ""
        return f"{'.'.join(location)}: give a number of at most {_MAX_NUMBER:.0e}{special}"
    return f"{'.'.join(location)}: {error['msg'].removeprefix('Value error, ')}"


def _problems(space: Space, table: VariantTable) -> list[str]:
    """Return a line for each name that is not known, and each range that a field can't take."""
    problems = []
    for field, bounds in space.fields.items():
        if field == VARIANT:
            problems += [
                _untrained_variant(str(v), table)
                for v in bounds.choices
                if v not in table.trained()
            ]
            problems += ["variant takes choices"] if not bounds.choices else []
            problems += ["beside variant, name a field to tune"] if len(space.fields) == 1 else []
        elif field not in FIELDS:
            problems.append(f"unknown field {field!r}: {did_you_mean(field, FIELDS)}")
        elif not bounds.choices:
            problems += _range_problems(field, bounds)
    if space.variant not in table.trained():
        problems.append(_untrained_variant(space.variant, table))
    return problems


def _range_problems(field: str, bounds: Bounds) -> list[str]:
    kind = number_type(field)
    if kind is None:
        return [f"{field} takes no numbers: give choices"]
    if kind is float:
        return [] if bounds.high != "layers" else [f"{field}: 'layers' is for whole numbers"]
    numbers = {"low": bounds.low, "high": bounds.high, "step": bounds.step}
    return [
        f"{field} takes whole numbers, not {name} = {value}"
        for name, value in numbers.items()
        if isinstance(value, int | float) and not float(value).is_integer()
    ]


def _untrained_variant(name: str, table: VariantTable) -> str:
    if name in table.variants:
        return f"variant {name!r} combines other runs: it has nothing to tune"
    return f"unknown variant {name!r}: {did_you_mean(name, table.trained())}"


def _nearest(distribution: IntDistribution | FloatDistribution, value: float) -> int | float:
    """Return the nearest value of the distribution: rounding may put a grid's ends outside."""
    if isinstance(distribution, IntDistribution):
        return min(max(round(value), distribution.low), distribution.high)
    if distribution.step is not None:
        value = (
            distribution.low
            + round((value - distribution.low) / distribution.step) * distribution.step
        )
    return min(max(value, distribution.low), distribution.high)


def _end(bounds: Bounds, end: Literal["low", "high"], layers: int) -> Any:
    if bounds.choices:
        return bounds.choices[0 if end == "low" else -1]
    value = bounds.low if end == "low" else bounds.high
    return layers if value == "layers" else value
