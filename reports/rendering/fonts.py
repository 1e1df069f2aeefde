"""Name the fonts that pip installs, so that a report has a letter for every script anywhere."""

import functools
from pathlib import Path
from typing import Final

import manimgx_fonts
import noto_cjk_sans_otc
from matplotlib import font_manager
from matplotlib.font_manager import get_font

#: Folders of the font files.
FOLDERS: Final = tuple(
    Path(str(package.__file__)).parent for package in (manimgx_fonts, noto_cjk_sans_otc)
)
#: Families after the Latin face; the first that has a glyph sets it.
FAMILIES: Final = (
    "Noto Sans",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
    "Noto Sans CJK SC",
    "Noto Sans CJK KR",
    "Noto Emoji",
    "Noto Sans Symbols",
    "Noto Sans Hebrew",
    "Noto Sans Bengali",
    "Noto Sans Tamil",
    "Noto Sans Telugu",
    "Noto Sans Thai",
    "Noto Sans Ethiopic",
    "Noto Sans Armenian",
    "Noto Sans Georgian",
    "Noto Sans Gujarati",
    "Noto Sans Gurmukhi",
    "Noto Sans Kannada",
    "Noto Sans Khmer",
    "Noto Sans Lao",
    "Noto Sans Malayalam",
    "Noto Sans Myanmar",
    "Noto Sans Oriya",
    "Noto Sans Sinhala",
)
_ENDINGS: Final = (".ttf", ".otf", ".ttc")


def families_for(text: str) -> list[str]:
    """Return the families that have the letters of a text which matplotlib's own font lacks."""
    lacking = {ord(character) for character in text if character.isprintable()} - _own_letters()
    families = []
    for family, letters in _letters().items() if lacking else ():
        if found := lacking & letters:
            families.append(family)
            lacking -= found
    return families


@functools.cache
def _own_letters() -> frozenset[int]:
    return frozenset(get_font(font_manager.findfont("DejaVu Sans")).get_charmap())


@functools.cache
def _letters() -> dict[str, frozenset[int]]:
    """Return the letters of each family in order, and make the families known to matplotlib."""
    letters: dict[str, frozenset[int]] = {}
    for file in _font_files():
        font_manager.fontManager.addfont(file)
        font = get_font(file)
        letters[font.family_name] = letters.get(font.family_name, frozenset()) | frozenset(
            font.get_charmap()
        )
    order = {family: i for i, family in enumerate(FAMILIES)}
    return dict(sorted(letters.items(), key=lambda item: order.get(item[0], len(order))))


def _font_files() -> list[Path]:
    return sorted(
        file for folder in FOLDERS for file in folder.rglob("*") if file.suffix in _ENDINGS
    )
