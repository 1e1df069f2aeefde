"""Tables of settings, as profiles and `variants.toml` have them, and their problems as lines."""

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ablation.config.schema import ALSO_ACCEPTED
from ablation.core.suggest import did_you_mean

#: The tables of settings, in the order of `RunConfig`.
SECTIONS: Final = ("data", "label", "model", "loss", "optimisation")
#: What `tomllib` raises: its own error (a ValueError), Python's for integers of thousands of
#: digits, and Python's for deep nesting.
NOT_TOML: Final = (ValueError, RecursionError)


def flatten(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of all tables under dotted names such as "loss.tau".

    A value that is no table is returned under its own name, for validation to report.
    """
    fields: dict[str, Any] = {}
    for section, table in sections.items():
        if isinstance(table, Mapping):
            fields.update({f"{section}.{name}": value for name, value in table.items()})
        else:
            fields[section] = table
    return fields


def by_section(fields: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return tables of settings from dotted field names; the inverse of `flatten`."""
    sections: dict[str, dict[str, Any]] = {}
    for name, value in fields.items():
        section, field = name.split(".", 1)
        sections.setdefault(section, {})[field] = value
    return sections


def validation_problems(error: ValidationError) -> list[str]:
    """Return a line for each problem: the field, its value, and what is wrong with it."""
    return [
        f"{'.'.join(map(str, e['loc']))} = {repr(e['input'])[:80]}: {_message(e)}"
        for e in error.errors()
    ]


def _message(error: ErrorDetails) -> str:
    """Return pydantic's message in lower case, and a message of this package as it is."""
    if error["type"] == "value_error" and "error" in error.get("ctx", {}):
        return str(error["ctx"]["error"])
    if error["type"] == "literal_error" and isinstance(error["input"], str):
        named = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        field = ".".join(map(str, error["loc"]))
        return did_you_mean(error["input"], [*named, *ALSO_ACCEPTED.get(field, ())])
    return error["msg"].lower()
