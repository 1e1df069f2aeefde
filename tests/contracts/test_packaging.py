"""The lower bounds of `pyproject.toml` are the versions that CI installs and runs with."""

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import ablation

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def pins(file: str) -> dict[str, Version]:
    lines = (ROOT / ".ci" / file).read_text("utf-8").splitlines()
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def lower_bound(requirement: Requirement) -> Version:
    (bound,) = [s.version for s in requirement.specifier if s.operator in (">=", "==")]
    return Version(bound)


def test_the_oldest_versions_are_the_lower_bounds() -> None:
    oldest = pins("constraints-oldest.txt")
    declared = {
        canonicalize_name(requirement.name): lower_bound(requirement)
        for requirement in map(Requirement, PROJECT["dependencies"])
        if requirement.name != "torch"  # see the comment in the file
    }
    assert {name: oldest.get(name) for name in declared} == declared


def test_ci_installs_a_version_of_every_dependency_that_is_allowed() -> None:
    extras = PROJECT["optional-dependencies"]
    exact = pins("constraints.txt")
    for text in (*PROJECT["dependencies"], *extras["test"], *extras["dev"], *extras["docs"]):
        requirement = Requirement(text)
        if requirement.name != PROJECT["name"]:
            assert exact[canonicalize_name(requirement.name)] in requirement.specifier, text


def test_pre_commit_uses_the_versions_of_ci() -> None:
    exact = pins("constraints.txt")
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    for hook in local["hooks"]:
        for requirement in map(Requirement, hook.get("additional_dependencies", ())):
            assert exact[canonicalize_name(requirement.name)] == lower_bound(requirement)


def test_the_version_has_its_entry_in_the_changelog_and_the_citation() -> None:
    entries = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert ablation.__version__ in entries
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert str(citation["version"]) == ablation.__version__


def test_a_team_s_services_have_the_versions_that_ci_tests_with() -> None:
    services = yaml.safe_load((ROOT / "docs/assets/compose.yaml").read_text("utf-8"))["services"]
    tested = pins("constraints.txt")
    installed = {
        canonicalize_name(name): Version(version)
        for service in services.values()
        for part in map(str, service.get("command", ()))
        for name, version in re.findall(r"(\w+)(?:\[\w+\])?==([\d.]+)", part)
    }
    (ray,) = re.findall(r"rayproject/ray:([\d.]+)-", services["ray-head"]["image"])
    assert {"mlflow", "psycopg"} <= set(installed)
    assert {**installed, "ray": Version(ray)}.items() <= tested.items()
