"""Write and check the file of a bundle: a zip with an index that has every other member's digest.

Equal contents give equal bytes: members are sorted, and carry no time and no user.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ablation.core.errors import UsageError, first_line

FORMAT: Final = "ablation bundle"
VERSION: Final = 1

_INDEX: Final = "bundle.json"
#: The oldest time that a zip can hold.
_NO_TIME: Final = (1980, 1, 1, 0, 0, 0)
#: A zip bomb would fill the memory; a thousand runs on MINT take a thirtieth of this.
_LARGEST: Final = 2**30


def pack_members(header: Mapping[str, Any], members: Mapping[str, bytes]) -> tuple[bytes, str]:
    """Return the bytes of a bundle, and the digest of its contents.

    Args:
        header: What the index says beside format, version and digests.
        members: Contents by name.
    """
    digests = {name: _sha256(content) for name, content in sorted(members.items())}
    index = {"format": FORMAT, "version": VERSION, **header, "members": digests}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in {_INDEX: to_json(index), **dict(sorted(members.items()))}.items():
            info = zipfile.ZipInfo(name, _NO_TIME)
            info.create_system, info.external_attr = 3, 0o644 << 16
            # Parquet is compressed already.
            is_parquet = name.endswith(".parquet")
            info.compress_type = zipfile.ZIP_STORED if is_parquet else zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return stream.getvalue(), content_digest(index)


def read_members(file: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return a bundle's index and its members, each with the digest that the index gives it.

    Raises:
        UsageError: It can't be read, is no bundle, is of a later format, or damaged.
    """
    members = _unzip(file)
    try:
        index = json.loads(members[_INDEX])
        is_bundle = index["format"] == FORMAT
        version, listed = int(index["version"]), dict(index["members"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _foreign(file) from error
    if not is_bundle:
        raise _foreign(file)
    if version > VERSION:
        raise UsageError(
            f"{file}: is a bundle of format {version}, and this version reads up to {VERSION};"
            " update ablation-suite"
        )
    for name, digest in listed.items():
        if name not in members or _sha256(members[name]) != digest:
            raise damaged(file, f"its member {name} is not what was written")
    if unknown := sorted(members.keys() - listed.keys() - {_INDEX}):
        raise damaged(file, f"it holds {unknown[0]}, which is not in its index")
    return dict(index), members


def content_digest(index: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a bundle's contents: of its index, which has those of its members."""
    return _sha256(to_json(index))


def damaged(file: Path, reason: str) -> UsageError:
    """Return the error for a bundle that is not what was written."""
    return UsageError(
        f"{file}: is damaged: {reason}; get it again, or write it with `ablation bundle`"
    )


def to_json(content: Any) -> bytes:
    """Return JSON with sorted keys, in UTF-8."""
    return json.dumps(content, sort_keys=True, ensure_ascii=False).encode()


def _unzip(file: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(file) as archive:
            if sum(info.file_size for info in archive.infolist()) > _LARGEST:
                raise UsageError(f"{file}: is larger than any bundle that this version writes")
            return {name: archive.read(name) for name in archive.namelist()}
    except UsageError:
        raise
    except FileNotFoundError as error:
        raise UsageError(f"{file}: there is no such file") from error
    except Exception as error:  # zipfile, zlib and struct raise a dozen types
        if isinstance(error, OSError) and error.strerror:
            raise UsageError(f"{file}: {error.strerror}") from error
        if isinstance(error, OSError) or not zipfile.is_zipfile(file):
            raise _foreign(file) from error
        raise damaged(file, first_line(error)) from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _foreign(file: Path) -> UsageError:
    return UsageError(f"{file}: is no bundle, or was cut short; `ablation bundle` writes one")
