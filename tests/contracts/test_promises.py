"""The page of promises names tests that are there, says when they run, and forgets no soak test."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "promises.md").read_text("utf-8")
#: Promise, tests, when they run; headings within the table have no tests.
ROWS = [
    (promise, re.findall(r"`(tests/[^`]+)`", done), when)
    for promise, done, when in (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.splitlines()
        if line.startswith("| ")
    )
    if when and when != "run in" and set(when) != {"-"}
]


def defined_in(file: Path) -> Iterator[tuple[str, bool]]:
    """Node ids of a file's tests, and whether each is a soak test."""

    def within(body: list[ast.stmt], prefix: str, is_soak: bool) -> Iterator[tuple[str, bool]]:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                soaks = is_soak or "pytest.mark.soak" in map(ast.unparse, node.decorator_list)
                name = f"{prefix}::{node.name}"
                if isinstance(node, ast.ClassDef):
                    yield from within(node.body, name, soaks)
                elif node.name.startswith("test_"):
                    yield name, soaks

    yield from within(
        ast.parse(file.read_text("utf-8")).body, file.relative_to(ROOT).as_posix(), False
    )


ALL = dict(found for file in (ROOT / "tests").rglob("test_*.py") for found in defined_in(file))


def test_every_named_test_exists_and_runs_when_the_page_says() -> None:
    wrong = [
        f"{promise}: {name}"
        for promise, names, when in ROWS
        for name in names
        if name not in ALL or ALL[name] != (when == "soak") or when not in ("suite", "soak")
    ]
    assert wrong == []
    assert len(ROWS) >= 35


def test_every_promise_has_a_test_or_a_step_of_ci() -> None:
    assert [promise for promise, names, when in ROWS if not names and when != "CI"] == []
    audited = [
        line
        for line in (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
        if "pip-audit --" in line
    ]
    assert audited


def test_no_soak_test_is_forgotten() -> None:
    named = {name for _, names, when in ROWS if when == "soak" for name in names}
    assert {name for name, is_soak in ALL.items() if is_soak} == named


def test_each_finding_of_the_audit_has_tests_that_exist() -> None:
    page = (ROOT / "docs" / "benchmarks" / "audit.md").read_text("utf-8")
    found = {
        int(number): re.findall(r"`(tests/[^`]+)`", line)
        for line in page.splitlines()
        for number in re.findall(r"^\| (\d+)\. ", line)
    }
    assert sorted(found) == list(range(1, 20))
    assert [number for number, names in found.items() if not names] == []
    assert [name for names in found.values() for name in names if name not in ALL] == []


def test_the_readme_leads_to_the_page() -> None:
    assert "(docs/promises.md)" in (ROOT / "README.md").read_text("utf-8")
