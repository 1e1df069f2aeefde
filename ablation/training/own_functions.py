"""Load functions of one's own (`ablation.config.own_code`): this executes their module.

Nothing is executed that no setting names.
"""

import functools
import linecache
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

from ablation.config.own_code import OwnFunction, parse_own, source_of
from ablation.core.errors import UsageError, first_line


@functools.cache
def load_function(name: str) -> Callable[..., Any]:
    """Execute the source of a pinned name and return its function.

    Raises:
        UsageError: The source is not at hand or fails, or has no such function.
    """
    own = parse_own(name)
    if own is None or not own.digest:
        raise UsageError(f"{name!r}: not the pinned name of a function")
    source = source_of(own)
    if source is None:
        raise UsageError(
            f"{own.module}:{own.function}: its source is not at hand or has changed since; run this"
            " where the file is, unchanged"
        )
    try:
        module = _execute(own, source) if own.is_in_file else import_module(own.module)
    except Exception as error:  # someone's code may raise anything
        raise UsageError(f"{own.module}: {explain(error, own)}") from error
    function: Callable[..., Any] | None = getattr(module, own.function, None)
    if not callable(function):
        raise UsageError(f"{own.module}: has no function {own.function!r}")
    return function


def explain(error: Exception, own: OwnFunction) -> str:
    """Return an error of someone's code in one line, with the line of the code if it is known."""
    frames = traceback.extract_tb(error.__traceback__)
    line = next((f.lineno for f in reversed(frames) if f.filename.endswith(own.file)), None)
    if isinstance(error, SyntaxError):
        line = error.lineno
    at = f" (line {line})" if line else ""
    return f"{type(error).__name__}: {first_line(error)}{at}"


def _execute(own: OwnFunction, source: str) -> ModuleType:
    """Execute exactly the source that the identity of a run was made of."""
    file = f"<{own.digest}> {own.file}"
    module = ModuleType(f"own_{own.digest}")
    module.__file__ = file
    # So that tracebacks show its lines, and what it defines can be looked up.
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    sys.modules[module.__name__] = module
    try:
        exec(compile(source, file, "exec"), module.__dict__)
    except BaseException:
        del sys.modules[module.__name__]
        raise
    return module
