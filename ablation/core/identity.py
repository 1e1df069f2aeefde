"""The identity of a run: a digest of everything that can change its results.

Runs with equal identities give equal results on one machine, so a finished run is reused instead
of being trained again. Paths, times and host names are left out. Digests are computed from the
sources, never from values read back from a tracking store.
"""

import ast
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

#: The rooms whose code can change a result.
RESULT_ROOMS: Final = ("data", "encoders", "training")
#: Libraries whose arithmetic or tokenisation a result depends on.
RESULT_LIBRARIES: Final = ("numpy", "scipy", "tokenizers", "torch", "transformers")


@dataclass(frozen=True)
class RunKey:
    """The coordinates of a run in an ablation: variant, split and seed."""

    variant: str
    split: str
    seed: int

    def __str__(self) -> str:
        return f"{self.variant} {self.split} seed {self.seed}"


@dataclass(frozen=True)
class Identity:
    """The identity of one run.

    Attributes:
        digest: SHA-256 over the run's key and all parts.
        parts: Digests by name: config, data, encoder, code, libraries.
    """

    digest: str
    parts: Mapping[str, str]


def identify(key: RunKey, parts: Mapping[str, str]) -> Identity:
    """Return the identity of the run `key` with these parts, in any order."""
    canonical = json.dumps(
        {"key": [key.variant, key.split, key.seed], "parts": dict(sorted(parts.items()))}
    )
    return Identity(hashlib.sha256(canonical.encode()).hexdigest(), dict(parts))


@functools.cache
def code_digest() -> str:
    """Return the SHA-256 over `RESULT_ROOMS`' syntax trees, without comments and docstrings."""
    digest = hashlib.sha256()
    package = files("ablation")
    for name in RESULT_ROOMS:
        for path, source in _modules(package / name, name):
            digest.update(path.encode() + b"\0" + without_docstrings(source).encode() + b"\0")
    return digest.hexdigest()


@functools.cache
def libraries() -> str:
    """Return the names and versions of `RESULT_LIBRARIES`, readable rather than hashed."""
    return " ".join(f"{name}={version(name)}" for name in RESULT_LIBRARIES)


def _modules(entry: Traversable, path: str) -> list[tuple[str, str]]:
    """Return (path, source) of the modules in a package folder, recursively and in order."""
    if entry.is_file():
        return [(path, entry.read_text("utf-8"))]
    children = [
        child
        for child in entry.iterdir()
        if child.name.endswith(".py") or (child / "__init__.py").is_file()
    ]
    return [
        module
        for child in sorted(children, key=lambda c: c.name)
        for module in _modules(child, f"{path}/{child.name}")
    ]


def without_docstrings(source: str) -> str:
    """Return the syntax tree of a module as text, without comments and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:]
    return _dump(tree)


def _dump(value: object) -> str:
    """Return a syntax tree as text that is the same in every version of Python.

    `ast.dump` shows fields that are empty in one version and not in another, and versions add
    fields, such as the type parameters that functions have from 3.12 on.
    """
    if isinstance(value, list):
        return f"[{', '.join(map(_dump, value))}]"
    if not isinstance(value, ast.AST):
        return repr(value)
    fields = ((name, child) for name, child in ast.iter_fields(value) if child not in (None, []))
    listed = ", ".join(f"{name}={_dump(child)}" for name, child in fields)
    return f"{type(value).__name__}({listed})"
