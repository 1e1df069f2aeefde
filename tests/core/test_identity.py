"""A run's identity: its parts, and what is no part of it."""

import ast
from importlib.resources import files

import pytest

from ablation.core.identity import (
    RESULT_ROOMS,
    RunKey,
    code_digest,
    identify,
    libraries,
    without_docstrings,
)

KEY = RunKey("mse", "dev1", 0)
PARTS = {"config": "a", "data": "b"}


def test_equal_parts_give_equal_identities_in_whatever_order() -> None:
    assert identify(KEY, PARTS).digest == identify(KEY, dict(reversed(PARTS.items()))).digest


@pytest.mark.parametrize(
    "key", [RunKey("epm", "dev1", 0), RunKey("mse", "dev2", 0), RunKey("mse", "dev1", 1)]
)
def test_each_part_of_the_key_counts(key: RunKey) -> None:
    assert identify(key, PARTS).digest != identify(KEY, PARTS).digest


@pytest.mark.parametrize("part", ["config", "data"])
def test_each_part_counts(part: str) -> None:
    assert identify(KEY, PARTS | {part: "other"}).digest != identify(KEY, PARTS).digest


def test_comments_and_docstrings_are_no_part_of_the_code() -> None:
    plain = 'def f(x):\n    "doc"\n    return x + 1\n'
    assert without_docstrings(plain) == without_docstrings(
        "# why\ndef f(x):\n    '''Another.'''\n    return x + 1  # how\n"
    )
    assert without_docstrings(plain) != without_docstrings("def f(x):\n    return x + 2\n")


def test_the_code_reads_alike_in_every_version_of_python() -> None:
    """Functions have type parameters from 3.12 on, and 3.13 leaves out what is empty."""
    assert without_docstrings("def f(x):\n    return x\n") == (
        "Module(body=[FunctionDef(name='f', args=arguments(args=[arg(arg='x')]),"
        " body=[Return(value=Name(id='x', ctx=Load()))])])"
    )


def test_the_code_digest_is_stable() -> None:
    assert code_digest() == code_digest()
    assert len(code_digest()) == 64
    assert "torch=" in libraries()


def test_what_a_result_can_depend_on_lies_in_the_hashed_rooms() -> None:
    """From a run and an ensemble on, only settings (hashed themselves) lie elsewhere."""
    package = files("ablation")
    reached: set[str] = set()
    waiting = ["training.train_run", "training.ensemble"]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        path = package / (name.replace(".", "/") + ".py")
        if not path.is_file():
            path = package / name.replace(".", "/") / "__init__.py"
        waiting += [
            str(node.module).removeprefix("ablation.")
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ablation.")
        ]
    assert {name.split(".")[0] for name in reached} <= {*RESULT_ROOMS, "core", "config"}
