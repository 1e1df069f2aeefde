"""Help shows each option's purpose and default; shells complete names; errors come early."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import ablation
from ablation.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
OPTIONS = [
    pytest.param(name, option, id=f"{name} {option.opts[-1]}")
    for name, command in COMMANDS.items()
    for option in command.params
    if option.name != "help"
]


def words(text: str) -> str:
    """`text` on one line, without what the terminal draws around it."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).replace("`", "").split())


def help_of(command: str) -> str:
    done = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "300"})
    assert done.exit_code == 0
    return words(done.output)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_has_its_whole_description(command: str) -> None:
    assert words(COMMANDS[command].help) in help_of(command)


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_the_help_of_an_option_is_shown_with_its_default(command: str, option: Any) -> None:
    text = help_of(command)
    for name in [*option.opts, *option.secondary_opts]:
        assert name in text
    assert option.help
    assert words(option.help) in text
    default = option.show_default if isinstance(option.show_default, str) else option.default
    if isinstance(default, bool):
        shown = option.opts[0] if default else next(iter(option.secondary_opts), "")
        assert not shown or f"[default: {shown.removeprefix('--')}]" in text
    elif default not in (None, ""):
        assert f"[default: {default}]" in text or f"[default: ({default})]" in text


def test_the_version_is_shown() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.output) == (0, f"ablation {ablation.__version__}\n")


def completions(line: str) -> set[str]:
    """Return the completions that bash offers after `line`."""
    environment = {
        **os.environ,
        "_ABLATION_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }
    command = "from ablation.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ablation do", {"doctor"}),
        ("ablation run --prof", {"--profile"}),
        ("ablation run --profile s", {"small", "smoke"}),
        ("ablation run --variants mse,epm+cl+", {"mse,epm+cl+ft"}),
        ("ablation run --splits dev1,dev2:", {"dev1,dev2:all"}),
        ("ablation sweep --space f", {"freeze"}),
    ],
)
def test_shells_complete_commands_options_and_names(line: str, offered: set[str]) -> None:
    assert completions(line) == offered


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["plan"],
        ["sweep"],
        ["curves"],
        ["run", "--profile", "smoke", "--encoder", "bundled"],
        ["sweep", "--profile", "smoke", "--set", "model.encoder=bundled"],
    ],
    ids=" ".join,
)
def test_an_encoder_that_cannot_be_had_is_named_before_anything_heavy_is_imported(
    arguments: list[str], tmp_path: Path
) -> None:
    script = f"""
import sys
from ablation.core.errors import UsageError
from ablation.encoders import bundled

def refuse():
    raise UsageError("no bundled encoder here")

bundled.require_bundled = refuse
sys.argv = ["ablation", *{arguments}]
try:
    from ablation.cli.main import main
    main()
finally:
    print(*sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (2, "ablation: no bundled encoder here\n")
    assert set(done.stdout.split()) & {"torch", "mlflow", "optuna", "pandas"} == set()


class TestPythonM:
    """`python -m ablation`, which looks for modules in the working folder first."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name in ("reports", "studies"):
            (tmp_path / f"{name}.py").write_text("raise ImportError('this is the user\\'s file')")
        return tmp_path

    def run(
        self, *arguments: str, cwd: Path, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=cwd,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
        )

    @pytest.mark.parametrize(
        ("command", "message"),
        [
            (["report", "--tracking-uri", "sqlite:///no.db"], "there is no such file"),
            (["sweep", "--profile", "smoke", "--space", "tua"], "unknown space 'tua'"),
        ],
    )
    def test_a_users_own_modules_are_not_imported(
        self, command: list[str], message: str, folder: Path
    ) -> None:
        done = self.run("-m", "ablation", *command, cwd=folder, PYTHONPATH=str(ROOT))
        assert done.returncode == 2
        assert message in done.stderr

    def test_a_checkout_that_is_not_installed_works_from_its_folder(self) -> None:
        done = self.run("-m", "ablation", "--version", cwd=ROOT, PYTHONPATH="")
        assert done.stdout == f"ablation {ablation.__version__}\n"
        script = "import ablation, reports, studies; print(ablation.__file__)"
        done = self.run("-c", script, cwd=ROOT, PYTHONPATH="")
        assert done.stdout.strip() == str(ROOT / "ablation" / "__init__.py")
