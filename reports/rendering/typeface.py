"""The figures' type: DejaVu Sans, which matplotlib brings, without what costs the time.

matplotlib cuts the font to each PDF figure's characters with fontTools, which reads every glyph and every
table that could be kept. Labels need two fifths of the glyphs, and neither ligatures nor positions (GSUB,
GPOS). Letters, widths and kerning stay: the same pixels, in a third of the time. Other characters
are taken from the whole font.
"""

import functools
import os
import tempfile
from pathlib import Path
from typing import Final

import matplotlib as mpl
from fontTools import subset
from fontTools.ttLib import TTFont
from matplotlib import font_manager

WHOLE: Final = "DejaVu Sans"
FAMILY: Final = "DejaVu Sans Figures"
#: Latin, Greek and Cyrillic letters, their marks; punctuation, arrows and mathematical signs.
_KEPT: Final = (range(0x20, 0x530), range(0x1E00, 0x2300))
_DROPPED: Final = ("GSUB", "GPOS", "GDEF", "MATH", "FFTM")
#: What the font calls itself, by number: family, full name, preferred family.
_NAMES: Final = (1, 4, 16)


@functools.cache
def figure_families() -> tuple[str, ...]:
    """For `font.family`; the smaller font is made once for each version of matplotlib, in matplotlib's own cache folder."""
    file = Path(mpl.get_cachedir()) / f"figures-{mpl.__version__}.ttf"
    if not file.is_file():
        _make(file)
    font_manager.fontManager.addfont(file)
    return FAMILY, WHOLE


def _make(file: Path) -> None:
    font = TTFont(font_manager.findfont(WHOLE), recalcTimestamp=False)
    options = subset.Options(
        name_IDs=["*"], glyph_names=True, notdef_outline=True, legacy_kern=True
    )
    options.drop_tables += _DROPPED
    cut = subset.Subsetter(options)
    cut.populate(unicodes=[code for codes in _KEPT for code in codes])
    cut.subset(font)
    for record in font["name"].names:
        if record.nameID in _NAMES:
            record.string = FAMILY
    with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".ttf", delete=False) as scratch:
        font.save(scratch)
    os.replace(scratch.name, file)  # several processes may make it at once
