"""The shape of the project: which way imports point, what lies at the top, what MLproject offers."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from ablation.cli.main import app
from ablation.config.schema import PROFILES, load_profile, resolve
from ablation.config.variants import VARIANTS

ROOT = Path(__file__).resolve().parents[2]


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("file", [f for f in modules("ablation") if f.name != "cli.py"], ids=str)
def test_ablation_imports_neither_sibling(file: Path) -> None:
    assert not {name.split(".")[0] for name in imports(file)} & {"studies", "reports"}


def test_only_tracking_imports_mlflow() -> None:
    users = {
        f.relative_to(ROOT / "ablation").parts[0]
        for f in modules("ablation")
        if any(n.split(".")[0] == "mlflow" for n in imports(f))
    }
    assert users == {"tracking"}


def test_reports_read_the_store_and_draw_in_few_modules() -> None:
    def users(library: str) -> set[str]:
        return {f.stem for f in modules("reports") if any(n.split(".")[0] == library for n in imports(f))}

    assert users("mlflow") == {"collect"}
    assert users("typst") == {"pdf"}
    assert users("statsmodels") == {"statistics"}
    assert users("matplotlib") == {"figures", "style", "typeface", "blocks"}  # blocks names the type
    assert users("studies") == set()


def test_reports_take_from_ablation_what_describes_runs_and_nothing_that_trains() -> None:
    taken = {n for f in modules("reports") for n in imports(f) if n.split(".")[0] == "ablation"}
    assert taken == {
        "ablation", "ablation.runs.comparison", "ablation.config.schema", "ablation.data.description", "ablation.data.languages",
        "ablation.core.errors", "ablation.training.records", "ablation.tracking", "ablation.tracking.reading", "ablation.tracking.store",
        "ablation.tracking.tables", "ablation.config.tuning_record", "ablation.config.variants",
    }  # fmt: skip


def test_only_studies_use_optuna_and_they_know_nothing_of_reports() -> None:
    files = {
        package: {n.split(".")[0] for f in modules(package) for n in imports(f)} for package in ("ablation", "reports", "studies")
    }
    assert [package for package, names in files.items() if "optuna" in names] == ["studies"]
    assert "reports" not in files["studies"]
    assert "mlflow" not in files["studies"], "imported before ablation.tracking, it would not be told to be quiet"


def test_training_knows_nothing_of_tracking_or_of_the_screen() -> None:
    for name in ("training", "experiment", "evaluation", "model", "batching", "ensemble", "splits"):
        found = set(imports(ROOT / "ablation" / f"{name}.py"))
        assert not [
            n
            for n in found
            if n.startswith(("ablation.tracking", "ablation.runs.progress", "ablation.runs.execution", "ablation.runs.runner", "rich", "typer"))
        ]


@pytest.mark.parametrize(
    ("modules", "without"),
    [
        ("ablation.cli.main", {"numpy", "pandas", "torch", "mlflow", "matplotlib", "pydantic"}),
        ("ablation.runs.costs", {"torch", "transformers", "mlflow", "scipy", "sqlalchemy"}),  # a plan whose costs are known
        ("ablation.runs.runner", {"transformers"}),  # a run that has all its runs
        ("reports.build, reports.verify", {"torch", "transformers", "mlflow", "sqlalchemy"}),
    ],
)
def test_what_takes_seconds_to_import_is_imported_where_it_is_needed(modules: str, without: set[str]) -> None:
    script = f"import sys, {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & without == set()


def test_no_module_is_longer_than_350_lines() -> None:
    files = [file for package in ("ablation", "reports", "studies") for file in modules(package)]
    assert {f.name: n for f in files if (n := len(f.read_text("utf-8").splitlines())) > 350} == {}


def test_the_top_level_holds_what_was_agreed() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    if not listed:
        pytest.skip("not a git checkout: git ls-files lists nothing")
    top = {name.split("/")[0] for name in listed if not name.startswith(".")}
    agreed = {"pyproject.toml", "README.md", "LICENSE", "MLproject", "python_env.yaml", "ablation", "studies", "reports", "tests"}
    assert top <= agreed


@pytest.mark.parametrize(
    ("point", "command", "defaults"),
    [
        ("ablation", "run", {
            "data": "demo", "profile": "demo", "variants": "table3", "splits": "dev1,dev2", "seeds": "0",
            "encoder": "", "experiment": "", "fresh": "false", "report": "true",
        }),
        ("sweep", "sweep", {
            "space": "tau", "study": "", "trials": "20", "timeout": "0", "workers": "1", "data": "demo", "profile": "demo",
            "split": "dev1", "sampler": "tpe", "pruner": "hyperband", "then_seeds": "0,1,2",
        }),
        ("curves", "curves", {
            "figures": "4,5", "signs": "as_printed,attract", "taus": "0.02,0.2,2", "seeds": "0,1,2", "data": "demo",
            "profile": "demo", "split": "dev1", "experiment": "", "fresh": "false", "report": "true",
        }),
        ("bench", "bench", {"only": "", "data": "demo", "profile": "", "encoder": "", "rows": "512", "rounds": "3"}),
        ("report", "report", {"experiment": "", "out": "", "group": "1", "mix": "false", "ui_url": ""}),
    ],
)  # fmt: skip
def test_mlproject_offers_the_parameters_that_the_commands_take(point: str, command: str, defaults: dict[str, str]) -> None:
    project = yaml.safe_load((ROOT / "MLproject").read_text("utf-8"))
    assert project["entry_points"]["main"] == project["entry_points"]["ablation"]
    entry = project["entry_points"][point]
    assert {name: p["default"] for name, p in entry["parameters"].items()} == defaults
    help_text = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
    for name in defaults:
        option = f"--{name.replace('_', '-')}"
        assert f"{option} {{{name}}}" in entry["command"]
        assert option in help_text


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("variant", [name for name, v in VARIANTS.items() if not v.combines_runs])
def test_every_variant_resolves_under_every_profile(profile: str, variant: str) -> None:
    config = resolve(load_profile(profile), variant).flat()
    for field, value in VARIANTS[variant].changes.items():
        assert config[field] == value
