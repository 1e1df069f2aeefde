"""Check early what would otherwise show after seconds of imports."""

from collections.abc import Mapping
from typing import Any


def check_encoder(profile: str, overrides: Mapping[str, Any], encoder: str = "") -> None:
    """Raise UsageError if the bundled encoder is wanted and can't be had on this machine."""
    from ablation.config.overrides import load_profile

    settings = load_profile(profile) | dict(overrides)
    if (encoder or settings.get("model.encoder")) == "bundled":
        from ablation.encoders.bundled import require_bundled

        require_bundled()
