"""Parse a table of variants from TOML: the paper's Table 3, or a file of one's own.

    title = "Losses"

    [base]
    title = "MSE"
    question = "What does plain fine-tuning reach?"
    loss = { regression = "mse", contrastive = "none" }

    [components.huber]
    loss = { regression = "huber" }

    [variants.ccc]
    title = "CCC"
    question = "Does it help to train for agreement?"
    loss = { regression = "ccc" }
    compared_with = ["base"]

The tables `data`, `model`, `loss` and `optimisation` of a row hold the settings that make it what
it is; a row has those of `base` too.
"""

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from ablation.config import own_code
from ablation.config.designs import ADD_ONE_IN, Component, Design, clashes, make_design
from ablation.config.schema import FIELDS, RunConfig
from ablation.config.tables import NOT_TOML, SECTIONS, by_section, flatten, validation_problems
from ablation.config.variant_table import COLUMNS, Publication, RowClaim, Variant, VariantTable
from ablation.core.errors import UsageError
from ablation.core.suggest import did_you_mean

#: The ending of a name that is a file of variants.
ENDING: Final = ".toml"
#: Characters of a row's name, which metrics are named by, and of its title in figures and tables.
LONGEST_NAME: Final = 100
LONGEST_TITLE: Final = 80
_KEYS: Final = (
    *("title", "publication", "default", "base", "components", "variants", "groups", "claims"),
)
_ROW_KEYS: Final = (
    *("title", "question", "compared_with", "printed", "combines_runs"),
    *SECTIONS,
)
_BASE: Final = "base"

T = TypeVar("T")


def parse_table(
    text: str, source: str, *, checked: bool = True, folder: Path = Path()
) -> VariantTable:
    """Return the table in a TOML text.

    Args:
        text: The file's content.
        source: Its name, for messages.
        checked: Check settings and their values; a file that a suite stored was checked before,
            maybe by another version.
        folder: The folder that files of functions are relative to.

    Raises:
        UsageError: One line for each problem.
    """
    try:
        content: dict[str, Any] = tomllib.loads(text)
    except NOT_TOML as error:
        raise UsageError(f"{source}: not TOML: {error}") from error
    reader = _Reader(checked, folder)
    table = reader.read(content, Path(source).stem)
    if reader.problems:
        raise UsageError([f"{source}: {problem}" for problem in reader.problems])
    return table


@dataclass
class _Reader:
    """Reads a file's content and collects its problems."""

    checked: bool
    folder: Path
    problems: list[str] = field(default_factory=list)
    components: dict[str, Component] = field(default_factory=dict)

    def read(self, content: Mapping[str, Any], stem: str) -> VariantTable:
        """Return the table; what has a problem is left out of it."""
        self._require_known("", content, _KEYS)
        base_table = self._table(content, _BASE)
        base_name = str(base_table.pop("name", _BASE)) if base_table else _BASE
        base = self._row(_BASE, base_table, {}) if base_table else None
        shared = base.changes if base else {}
        given = {
            name: row
            for name, fields in self._table(content, "variants").items()
            if (row := self._row(f"variants.{name}", fields, shared)) is not None
        }
        if base_name in given:
            self.problems.append(f"variants.{base_name}: is the name of [base]")
        design = self._design(content, base_name, base, given)
        first = {name: row for name, row in design.rows.items() if name == base_name}
        rows = {**first, **given, **design.rows}
        if len(design.rows) > len(first):  # ensembles stand below what they combine
            rows |= {n: rows.pop(n) for n, row in given.items() if row.combines_runs}
        if not rows and not self.problems:
            self.problems.append("no variant: add a table such as [variants.huber]")
        own = self._names(self._table(content, "groups"), "groups")
        groups = own | {name: rows for name, rows in design.groups.items() if name not in own}
        own_encoder = {name for name, row in rows.items() if "model.encoder" in row.changes}
        groups.setdefault("all", tuple(n for n in rows if n not in own_encoder) or tuple(rows))
        default = tuple(self._strings("default", content.get("default", ())))
        claims = {
            name: claim
            for name, fields in self._table(content, "claims").items()
            if (claim := self._validated(RowClaim, f"claims.{name}", fields)) is not None
        }
        publication = None
        if "publication" in content:
            publication = self._validated(Publication, "publication", content["publication"])
        # What refers to a row that has a problem itself is no further problem.
        if not self.problems:
            self._require_names(rows, groups, default, claims)
        if not default:
            default = (*given, ADD_ONE_IN) if self.components else tuple(rows)
        return VariantTable(
            title=str(content.get("title", stem)),
            variants=rows,
            groups=groups,
            default=default,
            components=tuple(c.title for c in self.components.values()),
            cells={
                name: frozenset(self.components[c].title for c in cell)
                for name, cell in design.cells.items()
            },
            claims=claims,
            publication=publication,
        )

    def _design(
        self,
        content: Mapping[str, Any],
        base_name: str,
        base: Variant | None,
        given: Mapping[str, Variant],
    ) -> Design:
        for name, fields in self._table(content, "components").items():
            if not isinstance(fields, dict):
                self.problems.append(f"components.{name}: give a table with its settings")
                continue
            known = ("title", "question", *SECTIONS)
            self._require_known(f"components.{name}.", fields, known)
            changes = self._changes(f"components.{name}", fields)
            if not changes:
                self.problems.append(f"components.{name}: has no settings")
            title, question = str(fields.get("title", name)), str(fields.get("question", ""))
            self.components[name] = Component(title, changes, question)
        if not self.components:
            rows = {base_name: base} if base is not None else {}
            return Design({n: r for n, r in rows.items() if n not in given}, {}, {})
        if base is None:
            self.problems.append("components: need a [base] that they are added to")
            return Design({}, {}, {})
        self.problems += clashes(self.components)
        return make_design(base_name, base, self.components, given)

    def _row(self, place: str, fields: Any, shared: Mapping[str, Any]) -> Variant | None:
        if not isinstance(fields, dict):
            self.problems.append(
                f"{place} = {fields!r:.80}: give a table with its title, question and settings"
            )
            return None
        before = len(self.problems)
        self._require_known(f"{place}.", fields, _ROW_KEYS)
        changes = self._changes(place, fields)
        others = {k: v for k, v in fields.items() if k in _ROW_KEYS and k not in SECTIONS}
        combines = others.get("combines_runs") is True
        if combines and changes:
            self.problems.append(f"{place}: an ensemble trains nothing, so it has no settings")
        row = self._validated(
            Variant, place, others | {"changes": {} if combines else {**shared, **changes}}
        )
        if self.checked and row and not _is_one_line(row.title, LONGEST_TITLE):
            self.problems.append(
                f"{place}.title: a title has at most {LONGEST_TITLE} characters, all of them"
                " visible"
            )
        return row if len(self.problems) == before else None

    def _changes(self, place: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a row by dotted name, functions of one's own pinned."""
        sections = {k: v for k, v in fields.items() if k in SECTIONS}
        self.problems += [
            f"{place}.{key} = {value!r:.80}: give a table of settings"
            for key, value in sections.items()
            if not isinstance(value, dict)
        ]
        changes = flatten({k: v for k, v in sections.items() if isinstance(v, dict)})
        if not self.checked:
            return changes
        for name in own_code.FIELDS:
            if own_code.parse_own(changes.get(name)) is not None:
                try:
                    changes[name] = own_code.pin(changes[name], self.folder)
                except ValueError as error:
                    self.problems.append(f"{place}: {name} = {changes.pop(name)!r}: {error}")
        self.problems += self._setting_problems(place, changes)
        return changes

    def _setting_problems(self, place: str, changes: Mapping[str, Any]) -> Iterator[str]:
        for name in changes:
            if name in ("data.split_seed", "data.equal_texts"):
                yield f"{place}: {name}: all rows share their splits; use a profile"
            if name not in FIELDS:
                yield f"{place}: unknown field {name!r}: {did_you_mean(name, FIELDS)}"
        try:
            known = {name: value for name, value in changes.items() if name in FIELDS}
            RunConfig.model_validate(by_section(known))
        except ValidationError as error:
            yield from (f"{place}.{line}" for line in validation_problems(error))

    def _require_known(self, place: str, fields: Mapping[str, Any], known: Sequence[str]) -> None:
        self.problems += [
            f"{place}{key}: unknown key: {did_you_mean(key, known)}"
            for key in fields
            if key not in known
        ]

    def _table(self, content: Mapping[str, Any], key: str) -> dict[str, Any]:
        table = content.get(key, {})
        if not isinstance(table, dict):
            self.problems.append(f"{key}: give a table, [{key}]")
            return {}
        return dict(table)

    def _strings(self, place: str, value: Any) -> list[str]:
        if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
            return list(value)
        self.problems.append(f"{place} = {value!r:.80}: give a list of names of variants")
        return []

    def _names(self, groups: Mapping[str, Any], place: str) -> dict[str, tuple[str, ...]]:
        return {
            name: tuple(self._strings(f"{place}.{name}", members))
            for name, members in groups.items()
        }

    def _validated(self, kind: type[T], place: str, fields: Any) -> T | None:
        try:
            return TypeAdapter(kind).validate_python(fields)
        except ValidationError as error:
            self.problems += [f"{place}.{line}" for line in validation_problems(error)]
            return None

    def _require_names(
        self,
        rows: Mapping[str, Variant],
        groups: Mapping[str, tuple[str, ...]],
        default: Iterable[str],
        claims: Mapping[str, RowClaim],
    ) -> None:
        """Check the names of rows, and that every name that is referred to is one."""
        for name, row in rows.items():
            if not name or "," in name or name != name.strip() or name.endswith(ENDING):
                self.problems.append(
                    f"variants.{name!r}: a name has no comma, no blank at its ends, and does not"
                    f" end in {ENDING}"
                )
            if not _is_one_line(name, LONGEST_NAME):
                self.problems.append(
                    f"variants.{name!r:.80}: a name has at most {LONGEST_NAME} characters, all of"
                    " them visible"
                )
            if name in row.compared_with:
                self.problems.append(f"variants.{name}.compared_with: names the row itself")
            if name in groups:
                self.problems.append(f"{name!r} is a variant and a group: rename one of them")
        references = [
            (f"variants.{name}.compared_with", other)
            for name, row in rows.items()
            for other in row.compared_with
        ]
        references += [
            (f"groups.{group}", name) for group, members in groups.items() for name in members
        ]
        references += [
            (f"claims.{claim_id}", name)
            for claim_id, claim in claims.items()
            for name in (claim.better, claim.worse)
        ]
        for place, name in references:
            if name not in rows:
                self.problems.append(
                    f"{place}: unknown variant {name!r}: {did_you_mean(name, rows)}"
                )
        for name in default:
            if name not in rows and name not in groups:
                known = [*groups, *rows]
                self.problems.append(
                    f"default: unknown variant {name!r}: {did_you_mean(name, known)}"
                )
        for claim_id, claim in claims.items():
            if claim.better == claim.worse:
                self.problems.append(f"claims.{claim_id}: better and worse are one row")
            if claim.kind == "size" and not (
                _prints(rows.get(claim.better)) and _prints(rows.get(claim.worse))
            ):
                self.problems.append(
                    f'claims.{claim_id}: kind = "size", but its rows have no printed figure;'
                    " claim the sign"
                )
            self.problems += [
                f"claims.{claim_id}.on: unknown column {column!r}: {did_you_mean(column, COLUMNS)}"
                for column in claim.on
                if column not in COLUMNS
            ]


def _is_one_line(text: str, longest: int) -> bool:
    return len(text) <= longest and text.isprintable()


def _prints(row: Variant | None) -> bool:
    return row is not None and row.printed is not None
