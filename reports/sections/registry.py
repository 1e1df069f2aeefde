"""Register the report's sections where they are written, and find them by name.

A section is a module of this package whose builder is decorated with `@section`. To add one, add
its file: nothing else has to be edited.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import reports.sections
from ablation.core.errors import UsageError
from ablation.core.suggest import did_you_mean
from reports.analysis.inputs import ReportInputs
from reports.rendering.blocks import Block

Builder = Callable[[ReportInputs], Iterable[Block]]


@dataclass(frozen=True)
class SectionEntry:
    """A registered section.

    Attributes:
        name: The name of its module.
        title: Its heading in the report.
        order: Its place: lower numbers come first.
        build: Makes its blocks; a section without blocks is left out.
        of_study: Whether an experiment that holds only a curve study has it.
    """

    name: str
    title: str
    order: int
    build: Builder
    of_study: bool


_REGISTERED: Final[dict[str, SectionEntry]] = {}


def section(title: str, *, order: int, of_study: bool = False) -> Callable[[Builder], Builder]:
    """Register the decorated builder as the section of its module.

    Args:
        title: The section's heading.
        order: Its place: lower numbers come first.
        of_study: Whether an experiment that holds only a curve study has it.
    """

    def register(build: Builder) -> Builder:
        name = build.__module__.rpartition(".")[2]
        _REGISTERED[name] = SectionEntry(name, title, order, build, of_study)
        return build

    return register


def find_sections(names: Sequence[str] = ()) -> list[SectionEntry]:
    """Return the sections with these names, or all of them, in the report's order.

    Raises:
        UsageError: There is no section with such a name; the message gives the nearest one.
    """
    for module in pkgutil.iter_modules(reports.sections.__path__, "reports.sections."):
        importlib.import_module(module.name)
    unknown = [name for name in names if name not in _REGISTERED]
    if unknown:
        problems = [f"unknown section {n!r}: {did_you_mean(n, _REGISTERED)}" for n in unknown]
        raise UsageError(problems)
    chosen = [entry for name, entry in _REGISTERED.items() if not names or name in names]
    return sorted(chosen, key=lambda entry: (entry.order, entry.name))
