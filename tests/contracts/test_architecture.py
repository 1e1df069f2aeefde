"""The shape of the project: which way imports point, and what MLproject offers."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from shlex import quote, split

import pytest
import yaml
from typer.main import get_command

from ablation.cli.main import app
from ablation.config.overrides import PROFILES, load_profile, resolve_config
from ablation.config.variants import VARIANTS
from ablation.runs.precision import resolve_precision

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ablation", "studies", "reports")

#: Each room with the rooms that it may import, at import time or later, for types or for values.
BELOW_TRAINING = ("core", "config", "data", "encoders")
BELOW_RUNS = (*BELOW_TRAINING, "training", "models", "tracking", "executors")
ALLOWED: dict[str, set[str]] = {
    "ablation.core": set(),
    "ablation.executors": {"ablation.core"},
    "ablation.config": {"ablation.core"},
    "ablation.data": {"ablation.core", "ablation.config"},
    "ablation.encoders": {"ablation.core", "ablation.config", "ablation.data"},
    "ablation.training": {f"ablation.{room}" for room in BELOW_TRAINING},
    "ablation.models": {f"ablation.{room}" for room in (*BELOW_TRAINING, "training")},
    "ablation.tracking": {f"ablation.{room}" for room in (*BELOW_TRAINING, "training", "models")},
    "ablation.runs": {f"ablation.{room}" for room in BELOW_RUNS},
    "ablation.bench": {f"ablation.{room}" for room in (*BELOW_RUNS, "runs")},
    "studies": {f"ablation.{room}" for room in (*BELOW_RUNS, "runs")},
    "reports.analysis": {f"ablation.{room}" for room in (*BELOW_RUNS, "runs")},
    "reports.sections": {
        "reports.analysis",
        "reports.rendering",
        *(f"ablation.{room}" for room in (*BELOW_RUNS, "runs")),
    },
    "reports.rendering": {"reports.analysis", "ablation.core"},
    "reports": {
        "reports.analysis",
        "reports.sections",
        "reports.rendering",
        *(f"ablation.{room}" for room in (*BELOW_RUNS, "runs")),
    },
    "ablation.cli": {
        *(f"ablation.{room}" for room in (*BELOW_RUNS, "runs", "bench")),
        "ablation",
        "studies",
        "reports",
    },
    "ablation": {
        *(f"ablation.{room}" for room in (*BELOW_RUNS, "runs", "cli")),
        "reports",
        "reports.analysis",
    },
}


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(f): f for package in PACKAGES for f in sorted((ROOT / package).rglob("*.py"))}


def imports(file: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it; of this project by its full name."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in FILES else node.module


def room(module: str) -> str:
    parts = module.split(".")
    is_folder = len(parts) > 1 and (ROOT / parts[0] / parts[1]).is_dir()
    return ".".join(parts[:2]) if is_folder else parts[0]


IMPORTS = {name: set(imports(file)) for name, file in FILES.items()}


@pytest.mark.parametrize("module", FILES)
def test_imports_point_down_the_rooms(module: str) -> None:
    own = room(module)
    others = {room(name) for name in IMPORTS[module] if name.split(".")[0] in PACKAGES} - {own}
    assert others <= ALLOWED[own]


def test_no_module_imports_itself_through_others() -> None:
    ours = {name: targets & FILES.keys() for name, targets in IMPORTS.items()}
    try:
        TopologicalSorter(ours).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("mlflow", {"ablation.tracking", "reports.analysis"}),
        ("optuna", {"studies"}),
        ("matplotlib", {"reports.rendering", "studies"}),
        ("typst", {"reports.rendering"}),
        ("ray", {"ablation.executors"}),
        ("submitit", {"ablation.executors"}),
    ],
)
def test_a_library_is_used_in_the_room_that_it_belongs_to(library: str, homes: set[str]) -> None:
    users = {room(m) for m, names in IMPORTS.items() if library in {n.split(".")[0] for n in names}}
    assert users <= homes


@pytest.mark.parametrize(
    ("modules", "without"),
    [
        ("ablation", {"numpy", "pandas", "torch", "mlflow", "pydantic", "typer", "rich"}),
        ("ablation.cli.main", {"numpy", "pandas", "torch", "mlflow", "matplotlib", "pydantic"}),
        # a plan whose costs are known
        ("ablation.runs.costs", {"torch", "transformers", "mlflow", "scipy", "sqlalchemy"}),
        ("ablation.runs.runner", {"transformers"}),  # a suite whose runs are all reused
        (
            "reports.build, reports.verify",
            {"torch", "transformers", "mlflow", "sqlalchemy"},
        ),
    ],
)
def test_what_takes_seconds_to_import_is_imported_where_it_is_needed(
    modules: str, without: set[str]
) -> None:
    script = f"import sys, {modules}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) & without == set()


ENTRY_POINTS = yaml.safe_load((ROOT / "MLproject").read_text("utf-8"))["entry_points"]


def command_line(point: str) -> list[str]:
    """Return the words of an entry point's command with its defaults filled in, as MLflow does."""
    entry = ENTRY_POINTS[point]
    values = {name: quote(p.get("default", name)) for name, p in entry["parameters"].items()}
    return split(entry["command"].format(**values))


def required(point: str) -> list[str]:
    """Return the parameters that have no default: the command's arguments, in their order."""
    return [n for n, p in ENTRY_POINTS[point]["parameters"].items() if "default" not in p]


@pytest.mark.parametrize("point", ENTRY_POINTS)
def test_an_entry_point_does_what_its_command_does_without_options(point: str) -> None:
    program, (name, *options) = command_line(point)[:3], command_line(point)[3:]
    assert program == ["python", "-m", "ablation"]
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    plain = command.make_context(name, required(point))
    assert command.make_context(name, options).params == plain.params


@pytest.mark.parametrize("point", ENTRY_POINTS)
def test_an_entry_points_parameters_are_called_as_the_commands_options(point: str) -> None:
    entry = ENTRY_POINTS[point]
    for name in entry["parameters"].keys() - required(point):
        assert f"--{name.replace('_', '-')} {{{name}}}" in entry["command"]


def test_the_main_entry_point_is_the_ablation() -> None:
    assert ENTRY_POINTS["main"] == ENTRY_POINTS["ablation"]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("variant", [name for name, v in VARIANTS.items() if not v.combines_runs])
def test_every_variant_resolves_under_every_profile(profile: str, variant: str) -> None:
    config = resolve_config(resolve_precision(load_profile(profile)), variant).flat()
    for field, value in VARIANTS[variant].changes.items():
        assert config[field] == value
