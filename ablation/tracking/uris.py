"""Addresses of tracking stores: relative ones made absolute, credentials kept out of sight."""

import re
from pathlib import Path
from typing import Final

SQLITE: Final = "sqlite:///"
_CREDENTIALS: Final = re.compile(r"//[^/\s]*@")


def redact_uri(text: str) -> str:
    """Return `text` with `user:password@` replaced by `***@` in every address in it."""
    return _CREDENTIALS.sub("//***@", text)


def strip_credentials(uri: str) -> str:
    """Return `uri` without `user:password@`, usable with credentials from elsewhere."""
    return _CREDENTIALS.sub("//", uri)


def is_remote(uri: str) -> bool:
    """Return whether a store is behind a server, which may be unreachable for a while."""
    return uri.startswith(("http://", "https://"))


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite store; None for other stores and for one in memory."""
    path = uri.removeprefix(SQLITE).partition("?")[0]
    return Path(path) if uri.startswith(SQLITE) and path not in ("", ":memory:") else None


def absolute_uri(uri: str) -> str:
    """Return `uri` with a relative SQLite path or folder made absolute."""
    if uri.startswith(SQLITE):
        path = uri.removeprefix(SQLITE)
        in_memory = path in ("", ":memory:")
        return uri if in_memory else SQLITE + str(Path(path).expanduser().resolve())
    if "://" in uri or uri.startswith("databricks"):
        return uri
    return str(Path(uri).expanduser().resolve())
