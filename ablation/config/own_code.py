"""Functions and classes of one's own that settings name, by a file or an installed module.

"my_losses.py:tilted" is a function of a file, "package.module:tilted" one of an installed module.
Where such a name is given, the source is read and the name is pinned to it:
"my_losses.py:tilted@1a2b3c4d5e6f" ends in the beginning of the source's SHA-256. So the settings of
a run, and with them its identity, hold the source and no path. Nothing is executed here:
`ablation.training.own_functions` does it, when a run is checked before it trains.
"""

import hashlib
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

#: Settings that take a function or class of one's own.
FIELDS: Final = ("loss.regression", "model.pooling", "model.head")
_NAME: Final = re.compile(
    r"(?P<module>[^:@]+):(?P<function>[A-Za-z_]\w*)(?:@(?P<digest>[0-9a-f]{12}))?"
)
_DIGITS: Final = 12
#: Sources that were read by this process, by their digest.
_SOURCES: dict[str, str] = {}


class OwnFunction(NamedTuple):
    """The parts of a name. `digest` is empty for a name that is not pinned."""

    module: str
    function: str
    digest: str

    @property
    def is_in_file(self) -> bool:
        """True for a function of a file, False for one of an installed module."""
        return self.module.endswith(".py")

    @property
    def file(self) -> str:
        """The name under which its source is stored."""
        return Path(self.module).name if self.is_in_file else f"{self.module}.py"

    def __str__(self) -> str:
        return f"{self.module}:{self.function}" + (f"@{self.digest}" if self.digest else "")


def parse_own(name: object) -> OwnFunction | None:
    """Return the parts of the name of a function of one's own; None if it is no such name."""
    match = _NAME.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        return None
    return OwnFunction(match["module"], match["function"], match["digest"] or "")


def pin(name: str, folder: Path = Path()) -> str:
    """Read the source of a function and return its pinned name.

    A pinned name whose source can't be read or has changed is returned as it is: it may stand in
    the settings of a run that is only looked at.

    Args:
        name: The name of one's own function.
        folder: The folder that a file's path is relative to.

    Raises:
        ValueError: The source can't be read, in one line.
    """
    own = parse_own(name)
    if own is None:
        raise ValueError("write FILE.py:FUNCTION or MODULE:FUNCTION")
    if own.digest in _SOURCES:
        return name
    try:
        source = _read(own, folder)
    except ValueError:
        if own.digest:
            return name
        raise
    digest = hashlib.sha256(source.encode()).hexdigest()[:_DIGITS]
    if own.digest not in ("", digest):
        return name
    _SOURCES[digest] = source
    module = Path(own.module).name if own.is_in_file else own.module
    return str(OwnFunction(module, own.function, digest))


def source_of(own: OwnFunction) -> str | None:
    """Return the source that a pinned name was pinned to; None if this process has not read it."""
    return _SOURCES.get(own.digest)


def known_sources() -> dict[str, str]:
    """Return the sources that this process has read, by digest, to send them to another one."""
    return dict(_SOURCES)


def add_sources(sources: Mapping[str, str]) -> None:
    """Take the sources that another process has read."""
    _SOURCES.update(sources)


def _read(own: OwnFunction, folder: Path) -> str:
    file = folder / Path(own.module).expanduser() if own.is_in_file else _module_file(own.module)
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{file}: can't be read: {reason}") from error


def _module_file(module: str) -> Path:
    try:
        spec = find_spec(module)
    except (ImportError, ValueError, AttributeError) as error:
        raise ValueError(f"module {module}: {error}") from error
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise ValueError(f"no installed module {module!r} with Python source; or give FILE.py")
    return Path(spec.origin)
