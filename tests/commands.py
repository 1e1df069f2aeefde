"""`ablation` commands in processes of their own, forked from one that has the libraries loaded.

Loading torch, transformers and MLflow takes ten seconds of a core before anything is tested.
Everything else is that of any process: signals, files and locks, exit code. The command
as a user starts it is in `tests/cli/test_cli.py`.
"""

import io
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final
from unittest.mock import patch

#: Seconds that a test waits for a command, at most.
PATIENCE_S: Final = 300.0
#: What every command loads sooner or later.
LOADED: Final = (
    "ablation.cli.main",
    "ablation.runs.runner",
    "studies.sweep",
    "studies.curves",
    "mlflow.store.tracking.sqlalchemy_store",
    "transformers.models.auto.modeling_auto",
    "transformers.models.xlm_roberta.modeling_xlm_roberta",
    "transformers.models.auto.tokenization_auto",
    "transformers.tokenization_utils_tokenizers",
)


class Command:
    """A running command, like `subprocess.Popen`.

    It writes to `terminal` (a path) if given. `prelude` is called in its process before it begins.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        terminal: str | None = None,
        prelude: Callable[[], None] | None = None,
    ) -> None:
        scratch = Path(mkdtemp(prefix="command-", dir=folder))
        self._errors = scratch / "stderr"
        self._fd: int | None = None
        output = terminal or str(scratch / "stdout")
        if terminal is None:
            os.mkfifo(output)
            self._fd = os.open(output, os.O_RDONLY | os.O_NONBLOCK)
        given = {**os.environ, **(environment or {})}
        errors = terminal or str(self._errors)
        self._process = fork_context().Process(
            target=_run_forked, args=(list(arguments), str(folder), given, output, errors, prelude)
        )
        self._process.start()
        self._text = b""

    @property
    def pid(self) -> int:
        assert self._process.pid
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def lines(self) -> Iterator[str]:
        """Yield the lines that it prints from here on, until it has ended."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            line, newline, rest = self._text.partition(b"\n")
            if newline:
                self._text = rest
                yield line.decode()
            elif not self._read(deadline):
                break
        if self._text:
            yield self._text.decode()
            self._text = b""

    def read_until(self, text: str) -> str:
        """Returns what it printed from here on, as soon as `text` was said."""
        seen = []
        for line in self.lines():
            seen.append(line)
            if text in line:
                return "".join(f"{line}\n" for line in seen)
        raise AssertionError(
            f"{text!r} was never said:\n" + "\n".join(seen) + self._errors.read_text("utf-8")
        )

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: signal.Signals) -> None:
        """As `subprocess.Popen` does: nothing, if it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def wait(self) -> int:
        """The exit code, once it has ended."""
        self._process.join(PATIENCE_S)
        assert self._process.exitcode is not None, f"process {self.pid} has not ended"
        return self._process.exitcode

    def communicate(self) -> tuple[str, str]:
        """The rest of its output and all of its errors, once it has ended."""
        output = "".join(f"{line}\n" for line in self.lines())
        self.wait()
        return output, self._errors.read_text("utf-8")

    def _read(self, deadline: float) -> bool:
        """Read more output; return False once there is no more."""
        assert self._fd is not None
        while True:
            # Until it has opened its end the pipe looks as if it had ended.
            ready, _, _ = select.select(
                [self._fd, self._process.sentinel], [], [], max(0.0, deadline - time.monotonic())
            )
            assert ready, f"process {self.pid} said nothing for {PATIENCE_S:.0f} s"
            if self._fd in ready and (part := os.read(self._fd, 65536)):
                self._text += part
                return True
            if self._process.sentinel in ready:
                return False
            time.sleep(0.02)


def completed(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> tuple[int, str, str]:
    """Exit code, output and errors of a command that was left to end by itself."""
    command = Command(arguments, folder, environment)
    output, errors = command.communicate()
    return command.wait(), output, errors


def run(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str], check: bool = False, **_: object
) -> subprocess.CompletedProcess[str]:
    """Stand in for `subprocess.run` in code that starts `python -m ablation`."""
    assert list(command[:3]) == [sys.executable, "-m", "ablation"]
    done = subprocess.CompletedProcess(command, *completed(command[3:], cwd, env))
    if check:
        done.check_returncode()
    return done


@cache
def fork_context() -> ForkServerContext:
    """Makes processes that have the libraries loaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(LOADED))
    with patch.dict(os.environ, OMP_NUM_THREADS="1"):  # read when torch is loaded
        # A killed process keeps no coverage: measuring it would only take time.
        for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
            del os.environ[name]
        ensure_running()
    return context


def _run_forked(
    arguments: list[str],
    folder: str,
    environment: dict[str, str],
    output: str,
    errors: str,
    prelude: Callable[[], None] | None,
) -> None:
    """In the forked process: what `python -m ablation` does."""
    os.setsid()
    # Where the tests run as a shell's background job, SIGINT would be ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in ((1, output), (2, errors)):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(fd, number)
        os.close(fd)
    streams: Any = [
        io.TextIOWrapper(os.fdopen(n, "wb"), encoding="utf-8", line_buffering=True) for n in (1, 2)
    ]
    sys.stdout, sys.stderr = streams
    sys.argv = ["ablation", *arguments]
    if prelude is not None:
        prelude()
    from ablation.cli.main import main

    main()
