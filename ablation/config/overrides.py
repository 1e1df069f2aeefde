"""Put settings together: defaults, a profile, the command line, and the variant.

Overrides map dotted field names ("loss.tau") to values. Overrides for one variant are a mapping of
their own under the key "variant.NAME". Later sources win: the defaults (the paper's Table 4), the
profile, the profile's overrides for the variant, the command line, the variant's own changes. All
problems are reported together, before anything is trained.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from ablation.config.schema import FIELDS, RunConfig
from ablation.config.tables import NOT_TOML, by_section, flatten, validation_problems
from ablation.config.variant_table import VariantTable
from ablation.config.variants import TABLE_3
from ablation.core.errors import UsageError
from ablation.core.suggest import did_you_mean

PROFILES: Final = ("smoke", "demo", "small", "paper")
#: Prefix of the key under which overrides for one variant are kept: "variant.epm+cl".
OF_VARIANT: Final = "variant."
#: A profile's table on how its settings were tuned, see `ablation.config.tuning_record`.
TUNING: Final = "tuning"
MOST_SEEDS: Final = 1000
_MOST_DIGITS: Final = 18


def load_profile(name_or_file: str) -> dict[str, Any]:
    """Return a profile's overrides.

    Args:
        name_or_file: One of `PROFILES`, or a TOML file with the tables data, model, loss and
            optimisation. The same tables below `variant."NAME"` hold for that variant alone.

    Raises:
        UsageError: The profile can't be read.
    """
    tables = read_profile(name_or_file)
    overrides = flatten(
        {name: table for name, table in tables.items() if name not in (TUNING, "variant")}
    )
    for variant, sections in tables.get("variant", {}).items():
        if not isinstance(sections, dict) or not all(
            isinstance(fields, dict) for fields in sections.values()
        ):
            raise UsageError(
                f"profile {name_or_file}: variant.{variant}: put its fields into tables such as"
                f' [variant."{variant}".optimisation]'
            )
        overrides[f"{OF_VARIANT}{variant}"] = flatten(sections)
    return overrides


def merge_overrides(overrides: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `overrides` with `changes`, which also win over the overrides for one variant."""
    kept = {
        name: {field: v for field, v in value.items() if field not in changes}
        if name.startswith(OF_VARIANT)
        else value
        for name, value in overrides.items()
    }
    return {**kept, **changes}


def read_profile(name_or_file: str) -> dict[str, Any]:
    """Return the tables of a profile's file. Raises UsageError if it can't be read."""
    try:
        tables = tomllib.loads(_profile_text(name_or_file))
    except NOT_TOML as error:
        raise UsageError(f"profile {name_or_file}: not TOML: {error}") from error
    if loose := [key for key, value in tables.items() if not isinstance(value, dict)]:
        raise UsageError(
            f"profile {name_or_file}: {', '.join(loose)}: put fields into tables such as [model]"
        )
    return tables


def parse_overrides(assignments: Iterable[str]) -> dict[str, Any]:
    """Return overrides from texts such as "loss.tau=0.1" or "loss.tau=0.1,model.layers=4".

    Values that are TOML numbers, booleans and so on are read as such, other values as text. Raises
    UsageError for a text without "=".
    """
    overrides: dict[str, Any] = {}
    # A comma only parts assignments before the next field: a path may have commas of its own.
    for assignment in (
        part.strip()
        for text in assignments
        for part in re.split(r",(?=\s*[\w.]+\s*=)", text)
        if part.strip()
    ):
        name, equals, value = assignment.partition("=")
        if not equals:
            raise UsageError(f"--set {assignment!r}: write FIELD=VALUE, such as loss.tau=0.1")
        overrides[name.strip()] = _parse_value(value.strip())
    return overrides


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds in a text such as "0,1,2" or "0-4", each once. Raises UsageError."""
    seeds: list[int] = []
    for part in (part.strip() for part in text.split(",") if part.strip()):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UsageError(f"seeds {part!r}: give whole numbers from 0 on, such as 0,1,2 or 0-4")
        too_long = max(len(first), len(last)) > _MOST_DIGITS
        if too_long or int(last or first) - int(first) >= MOST_SEEDS:
            raise UsageError(
                f"seeds {part[:40]!r}: at most {MOST_SEEDS} seeds of at most {_MOST_DIGITS} digits"
            )
        if dash and int(last) < int(first):
            raise UsageError(f"seeds {part!r}: the last is below the first; write {last}-{first}")
        seeds += range(int(first), int(last or first) + 1)
    if not seeds:
        raise UsageError("no seeds given; e.g. --seeds 0,1,2")
    return tuple(dict.fromkeys(seeds))


def resolve_config(
    overrides: Mapping[str, Any], variant: str = "mse", table: VariantTable = TABLE_3
) -> RunConfig:
    """Return the settings of a variant.

    Args:
        overrides: Values by dotted field name, and those for one variant (`OF_VARIANT`).
        variant: The row.
        table: The table that it is a row of.

    Raises:
        UsageError: One line for each unknown field, variant and value out of range.
    """
    row = table.get(variant)
    of_variants = {
        name.removeprefix(OF_VARIANT): fields
        for name, fields in overrides.items()
        if name.startswith(OF_VARIANT)
    }
    shared = {name: v for name, v in overrides.items() if not name.startswith(OF_VARIANT)}
    problems = [
        f"unknown variant {name!r} in the profile: {did_you_mean(name, table.variants)}"
        for name in of_variants
        if name not in table.variants
    ]
    names = [*shared, *(field for fields in of_variants.values() for field in fields)]
    problems += [
        f"unknown field {name!r}: {did_you_mean(name, FIELDS)}"
        for name in dict.fromkeys(names)
        if name not in FIELDS
    ]
    valid = _without_row(overrides, variant)
    try:
        # Without the variant first: an invalid value counts even if the variant replaces it.
        RunConfig.model_validate(by_section(valid))
        config = RunConfig.model_validate(by_section({**valid, **row.changes}))
    except ValidationError as error:
        problems += validation_problems(error)
    if problems:
        raise UsageError(problems)
    return config


def replaced_by_row(
    overrides: Mapping[str, Any], variant: str, table: VariantTable = TABLE_3
) -> dict[str, str]:
    """Return the settings that the variant replaces, as they would be without it, as text.

    Runs may be averaged if they agree in these and in all other settings.
    """
    config = RunConfig.model_validate(by_section(_without_row(overrides, variant))).flat()
    return {name: str(config[name]) for name in table.get(variant).changes}


def _without_row(overrides: Mapping[str, Any], variant: str) -> dict[str, Any]:
    """Return the known fields of the overrides for the variant, without its own changes."""
    shared = {name: v for name, v in overrides.items() if not name.startswith(OF_VARIANT)}
    effective = {**shared, **overrides.get(f"{OF_VARIANT}{variant}", {})}
    return {name: value for name, value in effective.items() if name in FIELDS}


def _profile_text(name_or_file: str) -> str:
    if name_or_file in PROFILES:
        return (files("ablation.config") / "profiles" / f"{name_or_file}.toml").read_text("utf-8")
    try:
        file = Path(name_or_file).expanduser()
        is_file = file.is_file()
    # The name may be too long, or name the home folder of an unknown user.
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"profile {name_or_file[:80]}: {reason}") from error
    if not is_file:
        hint = did_you_mean(name_or_file, PROFILES, others="a TOML file")
        raise UsageError(f"unknown profile {name_or_file!r}: {hint}")
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"profile {file}: can't be read: {error}") from error


def _parse_value(text: str) -> Any:
    try:
        table = tomllib.loads(f"value = {text}")
    except NOT_TOML:
        return text
    value = table.get("value")
    # A text with a line break can hold more than one TOML key, and pydantic takes 64-bit integers.
    if len(table) > 1 or (type(value) is int and abs(value) >= 2**63):
        return text
    return value
