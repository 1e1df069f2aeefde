"""What the README says can be typed can be typed, and its map of the files is complete."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from ablation.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]


def test_commands_on_ones_own_data_do_what_they_say(
    small_corpus: Path,
    store_uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The commands as they stand, but for the folder and for a profile that takes seconds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri)
    mine = [line for line in COMMANDS if line.startswith("ablation ")]
    assert len(mine) == 8
    for line in mine:
        line = line.replace("path/to/folder", str(small_corpus)).replace(
            "--profile small", "--profile smoke"
        )
        line = line.replace(
            "ablation bench",
            "ablation bench --only prediction --profile smoke --rows 24 --rounds 1",
        )
        line = line.replace("--trials 7", "--trials 1").replace(
            "--taus 0.02,0.2,2 --seeds 0,1,2", "--figures 4 --seeds 0"
        )
        monkeypatch.setattr(sys, "argv", shlex.split(line))
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0, line
    printed = capsys.readouterr().out
    for part in (
        "Labelled rows by intimacy",
        "12 to do, 0 reused",
        "bold: best of these runs",
        "numbers computed again",
        "Run it with: ablation run",
        "transformers.pipeline",
    ):
        assert part in printed


def test_every_other_command_is_run_by_ci_or_by_a_test_of_its_own() -> None:
    others = {line for line in COMMANDS if not line.startswith("ablation ")}
    assert (
        others
        == {
            "pip install -e . && mlflow run . -e ablation --env-manager local",  # tests/cli/test_cli.py, after CI's installation
            "mlflow ui",  # tests/tracking/test_mlflow_ui.py
            "mlflow run . -e report --env-manager local",  # tests/cli/test_cli.py
            "pip install -e '.[test]' && pytest",  # .ci/run
        }
    )
    assert "pip install -e '.[test]' && pytest" in (ROOT / ".ci" / "run").read_text("utf-8")


def test_the_map_names_every_module() -> None:
    for entry in (
        *(ROOT / "ablation").iterdir(),
        *(ROOT / "reports").iterdir(),
        *(ROOT / "studies").iterdir(),
    ):
        name = f"{entry.name}/" if entry.is_dir() else entry.name
        if name.startswith("__") or name in ("py.typed", "errors.py", "paper.py", "seeding.py"):
            continue
        assert f"`{name}`" in README, name


def test_pictures_are_there() -> None:
    for path in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / path).is_file()
