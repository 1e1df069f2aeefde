"""Every command and every Python example of the README and `docs/` is run.

A line of a `sh` block is run here, with a profile and a corpus that take seconds, or by the test or
the step of CI that `RUN_ELSEWHERE` names. Files that a page shows with a title, such as
`my-profile.toml`, are written as they stand there.
"""

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from ablation.cli.main import main
from ablation.config.variants import load_table
from tests.conftest import some_rows, write_corpus

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
LOSS_EXAMPLE = "my_losses.py"
VARIANT_EXAMPLE = "rows.toml"

#: Commands that are not run here: who runs them, as a test or as a file with the text that does.
RUN_ELSEWHERE = {
    "pip install -e .": (".ci/oldest", "--editable"),
    "pip install -e '.[bench]'": ("pyproject.toml", '"ablation-suite[bench]"'),
    "pip install -e '.[test]' && pytest": (".ci/run", "pip install -e '.[test]' && pytest"),
    "pip install -c .ci/constraints.txt -e '.[test,dev,docs]'": (
        ".ci/run",
        "pip install -c .ci/constraints.txt -e '.[test,dev,docs]'",
    ),
    "python3 -m venv .venv && . .venv/bin/activate": (".ci/run", "python3 -m venv"),
    "pre-commit install": (".ci/hooks", "pre-commit install"),
    "pytest": (".ci/run", "&& pytest"),
    "pytest -n 0 tests/training/losses": (".ci/run", "&& pytest"),
    "mkdocs build --strict": (".ci/run", "mkdocs build --strict"),
    ".ci/run": (".github/workflows/ci.yml", "run: .ci/run"),
    "mlflow ui": ("tests/tracking/test_mlflow_ui.py", "def test_it_listens_on_loopback_alone"),
    "mlflow run . -e ablation --env-manager local": (
        "tests/cli/test_cli.py",
        "def test_mlflow_run_makes_the_hierarchy_below_the_run_it_opens",
    ),
    "mlflow models serve -m models:/intimacy@champion --env-manager local": (
        "tests/tracking/test_models.py",
        "def test_the_real_server_scores_json_and_csv_and_refuses_a_null_text",
    ),
    "mlflow models predict -m models:/intimacy@champion --env-manager local -t csv"
    " -i path/to/folder/test.csv": (
        "tests/tracking/test_models.py",
        "def test_mlflow_models_predict_scores_a_csv",
    ),
    "ablation report docs/results/mint/mint.ablation.zip --no-texts --out report-mint": (
        "tests/reports/test_published.py",
        "def test_every_number_is_computed_again",
    ),
    "ablation report docs/results/mint/mint.ablation.zip --verify --out docs/results/mint/report": (
        "tests/reports/test_published.py",
        "def test_every_number_is_computed_again",
    ),
    "mlflow run . -e report --env-manager local": (
        "tests/cli/test_cli.py",
        "def test_mlflow_run_makes_the_hierarchy_below_the_run_it_opens",
    ),
}

#: What every page may take for granted.
TWO_RUNS = "ablation run --profile smoke --variants mse,epm --splits dev1"
#: What makes a command take seconds: texts that are replaced, and options that are added.
REPLACED = {
    "--profile small": "--profile smoke",
    "--profile two-layers.toml": "--profile smoke",
    "--seeds 0,1,2": "--seeds 0",
    "--taus 0.02,0.2,2": "--taus 0.2 --figures 4",
    "--variants rows.toml --seeds 0,1": "--variants rows.toml,base,tilted --splits dev1",
    "--trials 4": "--trials 1",
    "--trials 7": "--trials 1",
    "--export models": "--export models --fresh",
    "--fresh": "--fresh --variants mse --splits dev1",
}
ADDED = {
    "ablation bench": "--only prediction --profile smoke --rows 24 --rounds 1",
    "ablation curves": "--no-report",
    "ablation run": "--no-report",
    "ablation sweep --space variants": "--then-seeds none",
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    title: str
    text: str

    @property
    def commands(self) -> list[str]:
        """The lines of a `sh` block."""
        return [line for line in self.text.splitlines() if line] if self.language == "sh" else []


def blocks_of(page: Path) -> list[Block]:
    fences = re.finditer(
        r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```', page.read_text("utf-8"), re.M | re.S
    )
    return [
        Block(language, title or "", text) for language, title, text in (f.groups() for f in fences)
    ]


def titled(title: str) -> str:
    (text,) = [b.text for page in PAGES for b in blocks_of(page) if b.title == title]
    return text


RUNNABLE = [
    page
    for page in PAGES
    if any(
        (b.language == "python" and not b.title)
        or any(c.startswith("ablation ") for c in b.commands)
        for b in blocks_of(page)
    )
]


@pytest.fixture(scope="module")
def workspace(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A current folder with a corpus, and a store that holds two finished runs."""
    folder = tmp_path_factory.mktemp("workspace")
    seen = ("en", "es", "fr", "zh")
    write_corpus(folder / "corpus", some_rows(20, seen), some_rows(6, (*seen, "ko"), start=100))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        store = shutil.copy(empty_store, folder / "mlflow.db")
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
        run(f"{TWO_RUNS} --data corpus --no-report")
        yield folder


def run(command: str) -> None:
    """Run an `ablation` command in this process, in the current folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", shlex.split(command))
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 0, command


def in_seconds(command: str) -> str:
    """Return the command with the small corpus and profile."""
    command = command.replace("path/to/folder", "corpus")
    added = [options for start, options in ADDED.items() if command.startswith(start)]
    for text, replacement in REPLACED.items():
        command = command.replace(text, replacement)
    if command.startswith("ablation run") and "--profile" not in command:
        added.append("--profile smoke")
    return " ".join([command, *added])


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_says_can_be_typed(page: Path, workspace: Path) -> None:
    namespace: dict[str, object] = {}
    for block in blocks_of(page):
        if block.title and block.title == Path(block.title).name:
            (workspace / block.title).write_text(block.text, "utf-8")
    for block in blocks_of(page):
        for command in block.commands:
            if command not in RUN_ELSEWHERE:
                run(in_seconds(command))
        if block.language == "python" and not block.title:
            exec(compile(block.text, page.name, "exec"), namespace)


def test_every_other_command_is_run_by_the_test_or_the_step_that_is_named() -> None:
    others = {
        command
        for page in PAGES
        for block in blocks_of(page)
        for command in block.commands
        if not command.startswith("ablation ")
    }
    assert others <= RUN_ELSEWHERE.keys()
    for file, text in RUN_ELSEWHERE.values():
        assert text in (ROOT / file).read_text("utf-8"), f"{file}: {text}"


def test_the_example_of_a_loss_is_one() -> None:
    namespace: dict[str, object] = {}
    exec(compile(titled(LOSS_EXAMPLE), LOSS_EXAMPLE, "exec"), namespace)
    loss = namespace["tilted"]
    assert callable(loss)
    value = loss(torch.tensor([1.0, 5.0]), torch.tensor([1.5, 1.0]))
    torch.testing.assert_close(value, torch.tensor((0.6 * 0.5 + 0.4 * 4) / 2))


def test_the_example_of_a_file_of_variants_is_one(tmp_path: Path) -> None:
    for name in (VARIANT_EXAMPLE, LOSS_EXAMPLE):
        (tmp_path / name).write_text(titled(name), "utf-8")
    table = load_table(tmp_path / VARIANT_EXAMPLE)
    assert table.variants["base+lds+ft"].changes["loss.weighting"] == "lds"
    pinned = str(table.variants["tilted"].changes["loss.regression"])
    assert pinned.startswith(f"{LOSS_EXAMPLE}:tilted@")


def test_links_and_pictures_of_top_level_pages_are_there() -> None:
    """Those of `docs/` are checked when the site is built."""
    for page in ROOT.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8")):
            assert target.startswith("https://") or (ROOT / target).exists(), f"{page}: {target}"
