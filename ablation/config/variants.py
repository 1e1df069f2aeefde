"""Variants: the rows of the comparison, read from `variants.toml`, and groups of them.

A variant is a row of settings and the question that it answers. A new row is a new table in the
file. Where the paper can be read in two ways (`ablation.config.readings`), each row of Table 3 has
further variants, one for each combination of the readings that concern it.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from importlib.resources import files
from typing import Any, Final

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ablation.config.readings import READINGS, combine, readings_of, variant_name
from ablation.config.tables import NOT_TOML, SECTIONS, flatten, validation_problems
from ablation.core.errors import UsageError
from ablation.core.suggest import did_you_mean

_STRICT: Final = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class PaperCells:
    """A row of Table 3: Pearson times 100; None for a cell that the paper leaves empty."""

    dev1: float | None = None
    dev2: float | None = None
    seen: float | None = None
    unseen: float | None = None


@dataclass(frozen=True, config=_STRICT)
class Variant:
    """A row of the comparison.

    Attributes:
        title: The row's name in tables.
        question: The question that the row answers.
        changes: Settings by field, such as "loss.regression"; they win over all others.
        paper: The paper's figures for the row, if it has any.
        combines_runs: True for an ensemble, which combines other rows' runs and trains nothing.
    """

    title: str
    question: str
    changes: Mapping[str, str | bool | int | float] = field(default_factory=dict)
    paper: PaperCells | None = None
    combines_runs: bool = False


def parse_variant_table(text: str, source: str) -> dict[str, Variant]:
    """Return the variants in a TOML text by name, in its order.

    Args:
        text: A table for each variant, as in `variants.toml`.
        source: The file's name, for messages.

    Raises:
        UsageError: The text is not TOML, or a variant has an unknown key or an invalid value; one
            line for each problem.
    """
    try:
        tables: dict[str, Any] = tomllib.loads(text)
    except NOT_TOML as error:
        raise UsageError(f"{source}: not TOML: {error}") from error
    variants: dict[str, Variant] = {}
    problems: list[str] = []
    for name, table in tables.items():
        try:
            variants[name] = TypeAdapter(Variant).validate_python(_with_changes(table))
        except ValidationError as error:
            problems += [f"{source}: {name}.{line}" for line in validation_problems(error)]
    if problems:
        raise UsageError(problems)
    return variants


def _with_changes(table: Any) -> Any:
    """Replace a row's tables of settings by `changes`, which maps dotted field names to values."""
    if not isinstance(table, dict):
        return table
    sections = {name: fields for name, fields in table.items() if name in SECTIONS}
    others = {name: value for name, value in table.items() if name not in SECTIONS}
    return {**others, "changes": flatten(sections)}


_FILE: Final[dict[str, Variant]] = parse_variant_table(
    (files("ablation.config") / "variants.toml").read_text("utf-8"), "variants.toml"
)


def _rows_with_readings() -> dict[str, tuple[str, ...]]:
    """Return the readings that concern each row of Table 3 that is one model of its encoder."""
    rows = {
        name: variant
        for name, variant in _FILE.items()
        if variant.paper and not variant.combines_runs and "model.encoder" not in variant.changes
    }
    return {name: readings_of(variant.changes) for name, variant in rows.items()}


def _under_readings(row: str, names: tuple[str, ...]) -> Variant:
    """Return a row of Table 3 as other readings have it; it has no printed figures."""
    chosen = [READINGS[name] for name in names]
    base = _FILE[row]
    return replace(
        base,
        title=f"{base.title} ({', '.join(names)})",
        question=" ".join(reading.question for reading in chosen),
        changes={**base.changes, **{reading.field: reading.value for reading in chosen}},
        paper=None,
    )


#: Each variant that is a row of Table 3 under other readings: the row, and the readings.
READING_ROWS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    variant_name(row, names): (row, names)
    for row, concerned in _rows_with_readings().items()
    for names in combine(concerned)
}

VARIANTS: Final[dict[str, Variant]] = {
    **_FILE,
    **{
        name: _under_readings(*under)
        for name, under in READING_ROWS.items()
        if name not in _FILE  # epm+cl(attract) is a row of the file, with a title of its own
    },
}

#: Names that stand for several variants. "all" leaves out rows with an encoder of their own, and
#: readings; "readings" changes one at a time, "readings-all" all that can be changed together.
GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "table3": ("mse", "epm", "epm+cl", "epm+ft", "epm+cl+ft", "ensemble"),
    "figure5": ("mse+cl", "epm+cl"),
    "factorial": ("mse", "epm", "epm+cl", "epm+ft", "epm+cl+ft", "mse+cl", "mse+ft", "mse+cl+ft"),
    "all": tuple(name for name, v in _FILE.items() if "model.encoder" not in v.changes),
    "readings": (
        *_rows_with_readings(),
        *(name for name, (_, names) in READING_ROWS.items() if len(names) == 1),
    ),
    "readings-all": (*_rows_with_readings(), *READING_ROWS),
}


def get_variant(name: str) -> Variant:
    """Return the variant called `name`. Raises UsageError for an unknown one."""
    if name not in VARIANTS:
        raise UsageError(f"unknown variant {name!r}: {did_you_mean(name, VARIANTS)}")
    return VARIANTS[name]


def select_variants(names: Iterable[str]) -> tuple[str, ...]:
    """Return the variants that `names` of variants and groups stand for, in the table's order.

    Raises UsageError for an unknown name (with the nearest known one), no name, or an ensemble
    that has nothing to combine.
    """
    known = [*GROUPS, *VARIANTS]
    requested = list(names)
    if not requested:
        raise UsageError(f"no variants given; known are {', '.join(known)}")
    problems = [
        f"unknown variant {name!r}: {did_you_mean(name, known)}"
        for name in requested
        if name not in known
    ]
    if problems:
        raise UsageError(problems)
    selected = {variant for name in requested for variant in GROUPS.get(name, (name,))}
    if all(VARIANTS[name].combines_runs for name in selected):
        raise UsageError(
            "the ensemble combines other variants' runs: name some of those as well, e.g. 'table3'"
        )
    return tuple(name for name in VARIANTS if name in selected)
