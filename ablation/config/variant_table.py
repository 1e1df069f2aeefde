"""Variants: the rows of a comparison, and tables of them.

A variant is a row of settings and the question that it answers. The paper's Table 3 is the file
`variants.toml` beside this module; any other file of that form is as good
(`ablation.config.variant_table` reads it). Two things in Table 3 are unclear and are named options
elsewhere: the sign of Eq. 9 (`loss.contrastive`), and the split whose models produced the test
columns (`ablation.runs.comparison`).
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Final, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from ablation.core.errors import UsageError
from ablation.core.suggest import did_you_mean

_STRICT: Final = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class PrintedCells:
    """A row's printed figures: Pearson times 100; None for a cell that was left empty."""

    dev1: float | None = None
    dev2: float | None = None
    seen: float | None = None
    unseen: float | None = None
    overall: float | None = None


@dataclass(frozen=True, config=_STRICT)
class Variant:
    """A row of the comparison.

    Attributes:
        title: The row's name in tables.
        question: The question that the row answers.
        changes: Settings by field, such as "loss.regression"; they win over all others.
        compared_with: The rows that it is expected to beat, for the report's steps.
        printed: The publication's figures for the row, if it has any.
        combines_runs: True for an ensemble, which combines other rows' runs and trains nothing.
    """

    title: str
    question: str
    changes: Mapping[str, str | bool | int | float] = field(default_factory=dict)
    compared_with: tuple[str, ...] = ()
    printed: PrintedCells | None = None
    combines_runs: bool = False


@dataclass(frozen=True, config=_STRICT)
class Publication:
    """The publication that printed a table's figures.

    Attributes:
        name: How the report names it, such as "Smith et al. (2024)".
        corpus: The name of the corpus that it is about; its figures stand beside no other's.
    """

    name: str
    corpus: str


@dataclass(frozen=True, config=_STRICT)
class RowClaim:
    """A claim that one row scores higher than another.

    Attributes:
        text: The claim as a sentence.
        better: The row that is said to score higher.
        worse: The other row.
        on: Columns of the table on all of which it has to hold, such as "dev1" or "test unseen".
        kind: "size" if the printed size of the difference is claimed, else "sign".
        where: Section, table or figure of the publication.
    """

    text: str
    better: str
    worse: str
    on: tuple[str, ...]
    kind: Literal["sign", "size"] = "sign"
    where: str = ""


#: A table's columns by the name that claims give them: eval set, and the subset of its languages.
COLUMNS: Final[Mapping[str, tuple[str, str]]] = {
    "dev1": ("dev1", "all"),
    "dev2": ("dev2", "all"),
    "test overall": ("test", "all"),
    "test seen": ("test", "seen"),
    "test unseen": ("test", "unseen"),
}


@dataclasses.dataclass(frozen=True)
class VariantTable:
    """The rows that can be run and compared.

    Attributes:
        title: The table's title in reports.
        variants: The rows by name, in their order.
        groups: Names that stand for several rows.
        default: The rows that are run if none is named.
        components: For a factorial, the components' titles in their order.
        cells: The rows of the factorial, with the components that each has.
        claims: Claims about rows by id.
        publication: Who printed the figures; None if nobody did.
        text: The file's content; empty for the paper's table.
    """

    title: str
    variants: Mapping[str, Variant]
    groups: Mapping[str, tuple[str, ...]]
    default: tuple[str, ...] = ()
    components: tuple[str, ...] = ()
    cells: Mapping[str, frozenset[str]] = field(default_factory=dict)
    claims: Mapping[str, RowClaim] = field(default_factory=dict)
    publication: Publication | None = None
    text: str = ""

    @property
    def is_the_papers(self) -> bool:
        """True for the shipped table, whose claims about curves this package tests too."""
        return not self.text

    @property
    def steps(self) -> tuple[tuple[str, str], ...]:
        """Return the pairs of rows that are compared, worse and better as expected."""
        return tuple(
            (worse, better)
            for better, variant in self.variants.items()
            for worse in variant.compared_with
        )

    def trained(self) -> tuple[str, ...]:
        """Return the names of the rows that are trained."""
        return tuple(name for name, v in self.variants.items() if not v.combines_runs)

    def get(self, name: str) -> Variant:
        """Return the variant called `name`. Raises UsageError for an unknown one."""
        if name not in self.variants:
            raise UsageError(f"unknown variant {name!r}: {did_you_mean(name, self.variants)}")
        return self.variants[name]

    def select(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the rows that `names` of rows and groups stand for, in the table's order.

        Raises UsageError for an unknown name (with the nearest known one), no name, or an ensemble
        that has nothing to combine.
        """
        known = [*self.groups, *self.variants]
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
        selected = {variant for name in requested for variant in self.groups.get(name, (name,))}
        if all(self.variants[name].combines_runs for name in selected):
            raise UsageError(
                "the ensemble combines other variants' runs: name some of those as well,"
                f" e.g. {next(iter(known))!r}"
            )
        return tuple(name for name in self.variants if name in selected)
