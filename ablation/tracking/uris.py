"""Addresses of tracking stores: relative ones made absolute, credentials kept out of sight."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ablation.core.suggest import did_you_mean

SQLITE: Final = "sqlite:///"
#: Databases behind a server, as MLflow names them.
_DATABASES: Final = ("postgresql", "mysql", "mssql")
#: The kinds of address at which MLflow keeps experiments.
SCHEMES: Final = ("http", "https", "sqlite", *_DATABASES)
#: `user:password@` of an address. A password may hold slashes that nobody escaped.
_CREDENTIALS: Final = re.compile(r"//(?:[^/\s]*|[^/\s:@]+:[^\s'\"]*)@")
#: Secrets among the parameters of an address, and in libpq's form of one.
_SECRETS: Final = (
    r"(?<![a-z])(password|passwd|pwd|sslpassword|token|secret|api_?key|access_?key)="
    r"(?:'[^']*'|[^&\s;'\"]*)"
)
_SECRET: Final = re.compile(_SECRETS, re.IGNORECASE)
_SECRET_PARAMETER: Final = re.compile(rf"(?<=[?&])(?:user=[^&]*|{_SECRETS})(?:&|$)", re.IGNORECASE)


def redact_uri(text: str) -> str:
    """Return `text` with the credentials of every address in it as `***`."""
    return _SECRET.sub(r"\1=***", _CREDENTIALS.sub("//***@", text))


def strip_credentials(uri: str) -> str:
    """Return `uri` without user and password, usable with credentials from elsewhere."""
    return _SECRET_PARAMETER.sub("", _CREDENTIALS.sub("//", uri)).rstrip("?&")


def is_remote(uri: str) -> bool:
    """Return whether a store is behind a server, which may be unreachable for a while."""
    return is_http(uri) or uri.partition("://")[0].partition("+")[0] in _DATABASES


def is_http(uri: str) -> bool:
    """Return whether a store is an MLflow server."""
    return uri.startswith(("http://", "https://"))


def address_problem(uri: str, schemes: Sequence[str]) -> str:
    """Say what is wrong with the form of an address, and what to write; empty if it has a form.

    Args:
        uri: The address as it was given.
        schemes: The kinds of address that are possible, such as "sqlite".
    """
    if file := re.fullmatch(r"(?i)sqlite:/{0,2}([^/].*)", uri):
        return f"a file's address has three slashes: {SQLITE}{file[1]}"
    if server := re.fullmatch(r"(https?):/?([^/].*)", uri):
        return f"a server's address has two slashes: {redact_uri(f'{server[1]}://{server[2]}')}"
    if re.fullmatch(r"[A-Za-z][\w.-]*:\d{2,5}(/.*)?", uri):
        return f"a server's address begins with its kind: http://{uri}"
    scheme = uri.partition("://")[0].partition("+")[0] if "://" in uri else ""
    if not scheme or scheme in schemes:
        return ""
    return f"{scheme}: is no kind of address: {did_you_mean(scheme, schemes)}"


def is_folder(uri: str) -> bool:
    """Return whether an absolute address is a folder of files, MLflow's oldest kind of store."""
    return uri.startswith("file:") or Path(uri).is_absolute()


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite store; None for other stores and for one in memory."""
    path = uri.removeprefix(SQLITE).partition("?")[0]
    if not uri.startswith(SQLITE) or path in ("", ":memory:"):
        return None
    if "%" in path and not Path(path).parent.is_dir():
        from sqlalchemy import make_url  # takes a while to import, for few names

        path = make_url(uri).database or path
    return Path(path)


def sqlite_uri(file: Path) -> str:
    """Return the address of a SQLite file, whose path may hold characters of addresses."""
    if not set("%?#") & set(str(file)):
        return f"{SQLITE}{file}"
    from sqlalchemy import URL

    return URL.create("sqlite", database=str(file)).render_as_string(hide_password=False)


def absolute_uri(uri: str) -> str:
    """Return `uri` with a relative SQLite path or folder made absolute."""
    if uri.startswith(SQLITE):
        file = sqlite_file(uri)
        return uri if file is None else sqlite_uri(file.expanduser().resolve())
    if uri.startswith("file:") and not uri.startswith("file:/"):
        return Path(uri.removeprefix("file:")).expanduser().resolve().as_uri()
    if "://" in uri or uri.startswith(("file:/", "databricks")):
        return uri
    return str(Path(uri).expanduser().resolve())
