"""Sections: registered where they are written, shown in order, found by name."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import reports.sections
from ablation.core.errors import UsageError
from reports.contents import compose
from reports.sections import registry
from reports.sections.registry import find_sections
from tests.reports.conftest import Made

NEW_SECTION = """
from reports.sections.registry import section

@section("A new section", order=15)
def build(inputs):
    yield f"{len(inputs.group.runs)} runs"
"""


@pytest.fixture
def new_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Add a section by adding a file, and nothing else."""
    (tmp_path / "novelty.py").write_text(NEW_SECTION)
    monkeypatch.setattr(reports.sections, "__path__", [*reports.sections.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    yield
    registry._REGISTERED.pop("novelty", None)
    sys.modules.pop("reports.sections.novelty", None)


def test_sections_come_in_their_order_and_findings_first() -> None:
    entries = find_sections()
    assert [entry.order for entry in entries] == sorted({entry.order for entry in entries})
    assert [entry.name for entry in entries[:3]] == ["findings", "targets", "results"]
    assert {"errors", "languages", "origin", "methods"} <= {entry.name for entry in entries}


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown section 'erors': did you mean 'errors'"):
        find_sections(["results", "erors"])


@pytest.mark.usefixtures("new_section")
def test_a_new_section_is_one_file(experiment: Callable[..., Made]) -> None:
    inputs = experiment(splits=("dev1",), seeds=(0,), rows=10).inputs()
    sections = compose(inputs, ["methods", "novelty", "results"]).sections
    assert [section.title for section in sections] == [
        "Results",
        "A new section",
        "Appendix: methods, assumptions, sources",
    ]
    assert sections[1].blocks == ("2 runs",)
