"""The figures' smaller font draws what the whole one draws."""

import io
import warnings

import matplotlib as mpl
import pytest
from fontTools.ttLib import TTFont
from matplotlib import font_manager
from matplotlib.figure import Figure

from reports.rendering.typeface import WHOLE, figure_families


def drawn(text: str, families: list[str]) -> bytes:
    with mpl.rc_context({"font.family": families, "text.hinting": "no_hinting"}):
        figure = Figure(figsize=(4, 1))
        figure.text(0.02, 0.3, text)
        content = io.BytesIO()
        figure.savefig(content, format="png")
    return content.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        "AVATAR To. Ty",
        "Pearson × 100, τ ≤ 0.2 − 1 → ½",
        "Ünïcödé ß Ř ż",
        "Привет Ωμέγα",
        "한국 مرحبا",
    ],
)
def test_it_draws_the_same_pixels(text: str) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # neither has Korean letters
        assert drawn(text, list(figure_families())) == drawn(text, [WHOLE])


def test_it_is_found_before_the_whole_one_and_is_a_fraction_of_it() -> None:
    first, *_ = figure_families()
    smaller = TTFont(font_manager.findfont(first, fallback_to_default=False))
    assert {"GSUB", "GPOS"}.isdisjoint(smaller.keys())
    assert "kern" in smaller
    assert len(smaller.getGlyphOrder()) < 3000
