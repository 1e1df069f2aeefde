"""Files are written whole or not at all, and names are turned into usable ones."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablation.core import files
from ablation.core.errors import first_line, one_line
from ablation.core.files import write_atomically
from ablation.core.slugs import slug
from ablation.core.suggest import did_you_mean


def test_an_existing_file_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_atomically(file, "one")
    write_atomically(file, b"two")
    assert file.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("durable", [True, False])
def test_a_write_that_fails_leaves_the_file_before_and_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    file = tmp_path / "a.json"
    write_atomically(file, "one")

    def fail(self: Path, target: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(files.Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(file, "two", durable=durable)
    assert file.read_text() == "one"
    assert list(tmp_path.iterdir()) == [file]


@given(st.text())
def test_a_slug_is_one_part_of_a_path(name: str) -> None:
    result = slug(name)
    assert len(result) <= 60
    assert not set(result) & set('/\\:*?"<>| \n\0')
    assert result not in (".", "..")


def test_a_hint_names_the_nearest_or_all() -> None:
    assert did_you_mean("epn", ["mse", "epm"]) == "did you mean 'epm'?"
    assert did_you_mean("xyz", ["mse", "epm"], others="a file") == "known are mse, epm, or a file"


def test_an_error_without_a_message_is_named_by_its_type() -> None:
    assert first_line(ValueError("\n a\nb")) == "a"
    assert first_line(KeyError()) == "KeyError"


def test_a_message_is_one_printable_line_of_bounded_length() -> None:
    assert first_line(ValueError("x" * 500)) == "x" * 200
    assert one_line("a\nb\x1b[31m\u202e") == r"a\nb\x1b[31m\u202e"
    long = one_line("a" * 300 + "z" * 300)
    assert len(long) <= 280
    assert long.startswith("aaa")
    assert long.endswith("zzz")
