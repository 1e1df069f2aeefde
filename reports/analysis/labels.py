"""Name variants as the paper's Table 3 does."""

from ablation.config.variants import VARIANTS


def row_title(variant: str) -> str:
    """Return a variant's row title in Table 3, such as `+ EPM`; unknown ones keep their name."""
    return VARIANTS[variant].title if variant in VARIANTS else variant


def short_title(variant: str) -> str:
    """Return a variant's title without the leading plus, for use outside the table."""
    return row_title(variant).removeprefix("+ ")
