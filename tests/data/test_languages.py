"""Languages by their codes and spellings, in the order of the paper's Table 2."""

import subprocess
import sys

import pytest

from ablation.config.paper_figures import TEST_ROWS, TRAIN_ROWS
from ablation.core.errors import UsageError
from ablation.data.languages import (
    TABLE_2,
    english_names,
    language_name,
    ordered,
    parse_language,
    require_language,
)

#: The languages of XLM-R's pre-training text that have an ISO 639-1 code.
XLMR = (
    "af am ar as az be bg bn br bs ca cs cy da de el en eo es et eu fa fi fr fy ga gd gl gu ha he"
    " hi hr hu hy id is it ja jv ka kk km kn ko ku ky la lo lt lv mg mk ml mn mr ms my ne nl no om"
    " or pa pl ps pt ro ru sa sd si sk sl so sq sr su sv sw ta te th tr ug uk ur uz vi xh yi zh"
)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("English", "en"),
        ("ENGLISH", "en"),
        (" french ", "fr"),
        ("zh", "zh"),
        ("ZH", "zh"),
        ("po", "pt"),
        ("sp", "es"),
        ("du", "nl"),
        ("German", "de"),
        ("Bengali", "bn"),
        ("Bangla", "bn"),
        ("Oriya", "or"),
        ("Odia", "or"),
        ("Scottish Gaelic", "gd"),
    ],
)
def test_names_and_codes_are_read(text: str, code: str) -> None:
    assert parse_language(text) == require_language(text) == code


@pytest.mark.parametrize("text", ["", "xx", "Englisch", "en-US", "eng", "a text", "Klingon"])
def test_other_texts_are_no_language(text: str) -> None:
    assert parse_language(text) is None
    with pytest.raises(UsageError, match="unknown language"):
        require_language(text)


@pytest.mark.parametrize(
    "spelling",
    [
        "Chinese",
        "English",
        "French",
        "Italian",
        "Portuguese",
        "Spanish",
        "Arabic",
        "Dutch",
        "Hindi",
        "Korean",
    ],
)
def test_mints_spellings_are_those_of_table_2(spelling: str) -> None:
    code = require_language(spelling)
    assert code in TABLE_2
    assert language_name(code) == spelling


def test_every_language_is_read_by_its_own_name_and_code() -> None:
    names = english_names()
    assert set(XLMR.split()) <= set(names)
    for code, name in names.items():
        assert parse_language(code) == parse_language(name) == code


def test_a_code_without_a_name_is_shown_as_it_is() -> None:
    assert language_name("xx") == "xx"


def test_the_order_is_that_of_table_2_then_of_the_codes() -> None:
    assert ordered(set(TRAIN_ROWS)) == list(TRAIN_ROWS) == list(TEST_ROWS) == list(TABLE_2)
    assert ordered({"sv", "de", "ko", "zh"}) == ["zh", "ko", "de", "sv"]
    assert ordered(XLMR.split())[:10] == list(TABLE_2)
    assert ordered(XLMR.split())[10:] == sorted(set(XLMR.split()) - set(TABLE_2))


def test_the_library_of_languages_is_imported_when_a_language_is_named() -> None:
    script = (
        "import sys; import ablation.cli.main, ablation.data.languages as languages\n"
        "assert 'babel' not in sys.modules\n"
        "languages.parse_language('fr'); assert 'babel' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
