"""Check early what would otherwise show after seconds of imports."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ablation.core.errors import UsageError
from ablation.tracking.uris import redact_uri

_ADDRESS: Final = re.compile(r"(?:(hub|hf):|([a-z][a-z0-9+.-]+)://)/*", re.IGNORECASE)
#: A page of the Hub is HOST/ORGANISATION/NAME, and what follows names a version or a file.
_ORGANISATION_AT: Final = {"http": 1, "https": 1, "hub": 0, "hf": 0}


def check_encoder(profile: str, overrides: Mapping[str, Any], encoder: str = "") -> None:
    """Raise UsageError for an address, and for the bundled encoder where it can't be had."""
    from ablation.config.overrides import load_profile

    settings = load_profile(profile) | dict(overrides)
    wanted = str(encoder or settings.get("model.encoder") or "")
    _refuse_address(wanted)
    if wanted == "bundled":
        from ablation.encoders.bundled import require_bundled

        require_bundled()


def check_model_name(option: str, name: str) -> None:
    """Raise UsageError for a name that MLflow's registry does not take."""
    if not name.strip() or set(name) & set("/:'\"`"):
        raise UsageError(
            f"{option} {name!r}: give a name without slashes, colons and quotation marks"
        )


def _refuse_address(encoder: str) -> None:
    address = _ADDRESS.match(encoder)
    if address is None or Path(encoder).exists():
        return
    parts = [part for part in encoder[address.end() :].split("/") if part]
    first = _ORGANISATION_AT.get((address[1] or address[2]).lower(), len(parts))
    of_hub = parts[first : first + 2]
    name = "/".join(of_hub) if len(of_hub) == 2 else "ORGANISATION/NAME"
    raise UsageError(
        f"encoder {redact_uri(encoder)!r}: is an address; give a folder, or the id on the Hugging"
        f" Face Hub: {name}"
    )
