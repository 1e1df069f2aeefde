"""Variants: the rows of the paper's Table 3, and of any file of variants that is named.

Where the paper can be read in two ways (`ablation.config.readings`), each row of Table 3 has
further variants, one for each combination of the readings that concern it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Final

from ablation.config.readings import READINGS, combine, readings_of, variant_name
from ablation.config.variant_files import ENDING, parse_table
from ablation.config.variant_table import Variant, VariantTable
from ablation.core.errors import UsageError

#: The rows of the file.
_FILE: Final[VariantTable] = parse_table(
    (files("ablation.config") / "variants.toml").read_text("utf-8"), "variants.toml"
)


def _rows_with_readings() -> dict[str, tuple[str, ...]]:
    """Return the readings that concern each row of Table 3 that is one model of its encoder."""
    rows = {
        name: variant
        for name, variant in _FILE.variants.items()
        if variant.printed and not variant.combines_runs and "model.encoder" not in variant.changes
    }
    return {name: readings_of(variant.changes) for name, variant in rows.items()}


def _under_readings(row: str, names: tuple[str, ...]) -> Variant:
    """Return a row of Table 3 as other readings have it; it has no printed figures."""
    chosen = [READINGS[name] for name in names]
    base = _FILE.variants[row]
    return replace(
        base,
        title=f"{base.title} ({', '.join(names)})",
        question=" ".join(reading.question for reading in chosen),
        changes={**base.changes, **{reading.field: reading.value for reading in chosen}},
        compared_with=(),
        printed=None,
    )


#: Each variant that is a row of Table 3 under other readings: the row, and the readings.
READING_ROWS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    variant_name(row, names): (row, names)
    for row, concerned in _rows_with_readings().items()
    for names in combine(concerned)
}

#: The paper's table, with the rows that its text asks for, and those under other readings. Of the
#: groups, "all" leaves out readings and rows with an encoder of their own; "readings" changes one
#: reading at a time, "readings-all" all that can be changed together.
TABLE_3: Final[VariantTable] = replace(
    _FILE,
    variants={
        **_FILE.variants,
        **{
            name: _under_readings(*under)
            for name, under in READING_ROWS.items()
            # epm+cl(attract) is a row of the file, with a title of its own
            if name not in _FILE.variants
        },
    },
    groups={
        **_FILE.groups,
        "readings": (
            *_rows_with_readings(),
            *(name for name, (_, names) in READING_ROWS.items() if len(names) == 1),
        ),
        "readings-all": (*_rows_with_readings(), *READING_ROWS),
    },
)
#: Its rows by name, and its groups of them.
VARIANTS: Final[Mapping[str, Variant]] = TABLE_3.variants
GROUPS: Final[Mapping[str, tuple[str, ...]]] = TABLE_3.groups


def read_selection(names: Sequence[str | Path]) -> tuple[VariantTable, tuple[str, ...]]:
    """Return the table that `names` are about, and the rows that they stand for.

    Args:
        names: Names of rows and groups. One of them may be a file (`rows.toml`), whose rows the
            others are then; a file alone stands for the rows that it runs by default.

    Raises:
        UsageError: A name is unknown, or the file can't be read; one line for each problem.
    """
    texts = [str(name) for name in names]
    named_files = [name for name in texts if name.endswith(ENDING)]
    if len(named_files) > 1:
        raise UsageError(f"variants {', '.join(named_files)}: give one file of variants at a time")
    if not named_files:
        return TABLE_3, TABLE_3.select(texts)
    table = load_table(named_files[0])
    rows = [name for name in texts if name not in named_files]
    return table, table.select(rows or table.default)


def load_table(file: str | Path) -> VariantTable:
    """Read a file of variants. Raises UsageError with a line for each problem."""
    try:
        text = Path(file).expanduser().read_text("utf-8")
    except (OSError, UnicodeDecodeError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"variants {file}: can't be read: {reason}") from error
    path = Path(file).expanduser()
    return replace(parse_table(text, path.name, folder=path.parent), text=text)
