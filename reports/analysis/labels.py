"""Name variants as the paper's Table 3 does."""

from collections.abc import Mapping

from ablation.config.variants import VARIANTS


def row_title(variant: str) -> str:
    """Return a variant's row title in Table 3, such as `+ EPM`; unknown ones keep their name."""
    return VARIANTS[variant].title if variant in VARIANTS else variant


def short_title(variant: str) -> str:
    """Return a variant's title without the leading plus, for use outside the table."""
    return row_title(variant).removeprefix("+ ")


def contrast_text(weights: Mapping[str, float]) -> str:
    """Write a difference as `MSE → EPM`, another contrast as a sum."""
    ordered = sorted(weights.items(), key=lambda item: item[1])
    if [weight for _, weight in ordered] == [-1.0, 1.0]:
        return " → ".join(short_title(variant) for variant, _ in ordered)
    return " ".join(
        f"{'−' if weight < 0 else '+'} ({short_title(variant)})"
        for variant, weight in weights.items()
    )
