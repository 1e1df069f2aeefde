"""The figures' type: DejaVu Sans, which matplotlib brings, without the tables that cost the time.

matplotlib cuts the font to each PDF figure's characters with fontTools, which reads every table that it
keeps. Most of that time goes into ligatures and positions (GSUB, GPOS) that Latin and Greek labels
don't use. Letters, widths and kerning stay: the same pixels, in half the time.
"""

import functools
import os
import tempfile
from pathlib import Path
from typing import Final

import matplotlib as mpl
from fontTools.ttLib import TTFont
from matplotlib import font_manager

SOURCE: Final = "DejaVu Sans"
FAMILY: Final = "DejaVu Sans Figures"
_DROPPED: Final = ("GSUB", "GPOS", "GDEF", "MATH", "FFTM")
#: What the font calls itself, by number: family, full name, preferred family.
_NAMES: Final = (1, 4, 16)


@functools.cache
def figure_family() -> str:
    """The family's name for `font.family`; made once for each version of matplotlib, in matplotlib's own cache folder."""
    file = Path(mpl.get_cachedir()) / f"figures-{mpl.__version__}.ttf"
    if not file.is_file():
        _make(file)
    font_manager.fontManager.addfont(file)
    return FAMILY


def _make(file: Path) -> None:
    font = TTFont(font_manager.findfont(SOURCE), recalcTimestamp=False)
    for table in set(_DROPPED) & set(font.keys()):
        del font[table]
    for record in font["name"].names:
        if record.nameID in _NAMES:
            record.string = FAMILY
    with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".ttf", delete=False) as scratch:
        font.save(scratch)
    os.replace(scratch.name, file)  # several processes may make it at once
