"""Memory that was freed goes back to the system, and threads share what it is taken from."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ablation.core.memory import _glibc

pytestmark = pytest.mark.skipif(_glibc() is None, reason="needs glibc")

#: Four threads leave a small piece beside each large one. Prints the megabytes that stay resident,
#: before and after they are given back, and the number of arenas.
FRAGMENTING = """
import ctypes, sys, threading
from ablation.core.memory import release_freed, share_one_arena

def resident():
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) // 1024

def fill():
    barrier.wait()
    large = []
    for _ in range(400):
        large.append(b"x" * 100_000)
        kept.append(bytes(small))
    barrier.wait()

share_one_arena()
small = int(sys.argv[2])  # a literal product of this size is one constant, kept once
kept, barrier, before = [], threading.Barrier(4), resident()
threads = [threading.Thread(target=fill) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
held = resident() - before
release_freed()
left = resident() - before
library = ctypes.CDLL(None)
library.fopen.restype = ctypes.c_void_p
file = library.fopen(sys.argv[1].encode(), b"w")
library.malloc_info(0, ctypes.c_void_p(file))
library.fclose(ctypes.c_void_p(file))
print(held, left, open(sys.argv[1]).read().count("<heap nr="))
"""


def fragment(folder: Path, **variables: str) -> tuple[int, int, int]:
    printed = subprocess.run(
        [sys.executable, "-c", FRAGMENTING, str(folder / "arenas.xml"), "2000"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    held, left, arenas = map(int, printed.stdout.split())
    return held, left, arenas


def test_freed_memory_is_given_back_and_threads_share_an_arena(tmp_path: Path) -> None:
    held, left, arenas = fragment(tmp_path)
    assert held > 100
    assert left < held / 4
    assert arenas == 1


def test_the_number_of_arenas_that_a_user_chose_is_left_alone(tmp_path: Path) -> None:
    assert fragment(tmp_path, MALLOC_ARENA_MAX="3")[2] == 3
