"""Files are written whole or not at all, and names are turned into usable ones."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablation.core import files
from ablation.core.errors import RunError, first_line, one_line
from ablation.core.files import replace_folder, write_atomically
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


def content(folder: Path) -> dict[str, str]:
    return {str(f.relative_to(folder)): f.read_text() for f in folder.rglob("*") if f.is_file()}


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with replace_folder(tmp_path / "report") as draft:
            (draft / text).write_text(text)
    assert content(tmp_path) == {"report/two": "two"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["report"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("no")])
def test_a_folder_whose_making_ends_early_is_the_one_before(
    tmp_path: Path, error: BaseException
) -> None:
    with replace_folder(tmp_path / "report") as draft:
        (draft / "a").write_text("one")

    def fail(draft: Path) -> None:
        (draft / "a").write_text("two")
        raise error

    with pytest.raises(type(error)), replace_folder(tmp_path / "report") as draft:
        fail(draft)
    assert content(tmp_path) == {"report/a": "one"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["report"]


def test_a_full_disk_names_the_folder(tmp_path: Path) -> None:
    with (
        pytest.raises(RunError, match=r"report: can't be written: No space left .* free the space"),
        replace_folder(tmp_path / "report"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("moment", ["filling", "between the renames"])
def test_what_a_killed_process_left_of_a_folder_is_replaced(tmp_path: Path, moment: str) -> None:
    with replace_folder(tmp_path / "report") as draft:
        (draft / "a").write_text("one")
    rename = "Path.rename" if moment == "between the renames" else ""
    script = f"""
import os, pathlib
from ablation.core.files import Path, replace_folder
real, calls = Path.rename, []
def rename(self, target):
    calls.append(target)
    return real(self, target) if len(calls) == 1 else os._exit(9)
if {rename!r}:
    Path.rename = rename
with replace_folder(pathlib.Path({str(tmp_path / "report")!r})) as draft:
    (draft / "a").write_text("two")
    if not {rename!r}:
        os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == 9
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(KeyError), replace_folder(tmp_path / "report"):
        raise KeyError
    assert content(tmp_path) == {"report/a": "one"}
    with replace_folder(tmp_path / "report") as draft:
        (draft / "a").write_text("three")
    assert content(tmp_path) == {"report/a": "three"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["report"]


@given(st.text())
def test_a_slug_is_one_part_of_a_path(name: str) -> None:
    result = slug(name)
    assert len(result) <= 60
    assert not set(result) & set('/\\:*?"<>| \n\0')
    assert result not in (".", "..")


def test_a_hint_names_the_nearest_or_all() -> None:
    assert did_you_mean("epn", ["mse", "epm"]) == "did you mean 'epm'?"
    assert did_you_mean("MSE", ["mse", "epm"]) == "did you mean 'mse'?"
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
