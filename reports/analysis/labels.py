"""Name variants as their table does."""

from collections.abc import Mapping

from ablation.config.variant_table import VariantTable
from ablation.config.variants import TABLE_3


def row_title(variant: str, table: VariantTable = TABLE_3) -> str:
    """Return a variant's row title, such as `+ EPM`; unknown ones keep their name."""
    return table.variants[variant].title if variant in table.variants else variant


def short_title(variant: str, table: VariantTable = TABLE_3) -> str:
    """Return a variant's title without the leading plus, for use outside the table."""
    return row_title(variant, table).removeprefix("+ ")


def contrast_text(weights: Mapping[str, float], table: VariantTable = TABLE_3) -> str:
    """Write a difference as `MSE → EPM`, another contrast as a sum."""
    ordered = sorted(weights.items(), key=lambda item: item[1])
    if [weight for _, weight in ordered] == [-1.0, 1.0]:
        return " → ".join(short_title(variant, table) for variant, _ in ordered)
    return " ".join(
        f"{'−' if weight < 0 else '+'} ({short_title(variant, table)})"
        for variant, weight in weights.items()
    )
