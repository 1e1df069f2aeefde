"""Judge from one process if another runs: here, on another machine, in a container."""

import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ablation.tracking import process_id
from ablation.tracking.process_id import is_alive_here, is_dead, life_of, this_process

PARTS = re.compile(
    r"(?P<host>.*):(?P<pid>\d+):b(?P<boot>\w+)t(?P<ticks>\d+)n(?P<namespace>\d+)p(?P<place>\w*)"
)


def changed(**parts: str) -> str:
    """This process's identity with other parts."""
    match = PARTS.fullmatch(this_process())
    if match is None:
        pytest.skip("this system does not tell the boot and the namespace of a process")
    return "{host}:{pid}:b{boot}t{ticks}n{namespace}p{place}".format_map(match.groupdict() | parts)


def test_a_clock_that_is_set_ends_no_living_process(monkeypatch: pytest.MonkeyPatch) -> None:
    before = this_process()
    real = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: real(process) + 3600)
    assert this_process() == before
    assert not is_dead(before)
    assert is_alive_here(before)


def test_of_a_process_that_is_hidden_or_named_otherwise_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host, pid, start = this_process().rsplit(":", 2)
    for text in ("", "abc", f"{host}:abc:{start}", f"{host}:{pid}:", f"{host}:{pid}:x7"):
        assert not is_dead(text)
    monkeypatch.setattr("ablation.tracking.process_id._PROC", tmp_path)
    assert not is_dead(f"{host}:{pid}:{start}")
    assert not is_dead(this_process())  # by its creation, in seconds


def test_this_process_lives_and_others_of_its_number_do_not() -> None:
    host, pid, start = this_process().rsplit(":", 2)
    assert not is_dead(this_process())
    assert is_dead(changed(ticks="1"))
    assert is_dead(f"{host}:{pid}:{start.partition('n')[0]}1")  # as version 0.2.0 wrote it
    created = psutil.Process().create_time()  # as version 0.1.0 wrote it
    assert not is_dead(f"{host}:{pid}:{created:.0f}")
    assert is_dead(f"{host}:{pid}:{created - 1000:.0f}")
    assert not is_dead(f"another-host:{pid}:{start}")


def test_where_proc_is_hidden_a_process_has_a_name_and_no_other_is_called_dead(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def hidden(pid: int) -> None:
        raise psutil.NoSuchProcess(pid)

    seen = this_process()
    host, pid, _ = seen.rsplit(":", 2)
    monkeypatch.setattr("ablation.tracking.process_id._PROC", tmp_path)
    monkeypatch.setattr(psutil, "Process", hidden)
    monkeypatch.setattr(psutil, "pid_exists", lambda pid: False)
    assert this_process() == this_process()
    assert this_process().startswith(f"{host}:{pid}:")
    assert {life_of(seen), life_of(this_process()), life_of(f"{host}:1:1")} == {"unknown"}


class TestEqualHostNames:
    """Machines and containers whose host name is this one's."""

    def test_another_namespace_numbers_processes_on_its_own(self) -> None:
        for pid in ("1", "4194304"):  # one runs here and the other does not
            assert life_of(changed(namespace="1", pid=pid)) == "unknown"

    def test_another_boot_of_this_machine_has_ended_its_processes(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(process_id, "_place", lambda: "c0ffee")
        assert is_dead(changed(boot="1", namespace="1"))
        assert is_dead(changed(boot="1"))

    @pytest.mark.parametrize("place", ["", "c0ffee"])
    def test_another_boot_may_be_another_machine(
        self, place: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(process_id, "_place", lambda: place)
        there = "" if place == "" else "bad"
        assert life_of(changed(boot="1", place=there)) == "unknown"

    def test_a_container_is_known_by_its_own_id(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        places = set()
        for digit in "0", "1":
            (tmp_path / "self").mkdir(exist_ok=True)
            (tmp_path / "self" / "mountinfo").write_text(
                f"9 8 8:1 /var/lib/docker/containers/{digit * 64}/hostname /etc/hostname rw\n"
            )
            monkeypatch.setattr(process_id, "_PROC", tmp_path)
            places.add(process_id._place.__wrapped__())
        assert len(places) == 2

    def test_of_living_processes_in_two_namespaces_neither_takes_the_other_for_dead(self) -> None:
        code = (
            "import sys; from ablation.tracking.process_id import *;"
            "print(this_process(), life_of(sys.argv[1]), life_of(this_process()), flush=True);"
            "input()"
        )
        command = ["unshare", "--uts", "--pid", "--fork", "--mount-proc", sys.executable, "-c"]
        if subprocess.run([*command, ""], capture_output=True).returncode:
            pytest.skip("this user can't make namespaces")
        there = subprocess.Popen(
            [*command, code, this_process()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert there.stdout
        other, of_this, of_itself = there.stdout.readline().split()
        assert (life_of(other), of_this, of_itself) == ("unknown", "unknown", "alive")
        there.communicate("\n")
        assert life_of(other) == "unknown"
