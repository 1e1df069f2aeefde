"""Check early what would otherwise show after seconds of imports."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ablation.core.errors import UsageError
from ablation.tracking.uris import redact_uri

_ADDRESS: Final = re.compile(r"(https?|hub|hf):/*")


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
    # A page of the Hub is HOST/ORGANISATION/NAME, and what follows names a version or a file.
    parts = [part for part in encoder[address.end() :].split("/") if part]
    of_hub = parts[1:3] if address[1].startswith("http") else parts[:2]
    name = "/".join(of_hub) if len(of_hub) == 2 else "ORGANISATION/NAME"
    raise UsageError(
        f"encoder {redact_uri(encoder)!r}: is an address; give a folder, or the id on the Hugging"
        f" Face Hub: {name}"
    )
