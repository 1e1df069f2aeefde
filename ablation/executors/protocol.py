"""The protocol of executors: four functions that carry work to processes and hear of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

#: Seconds that `events` waits for one, at most.
WAIT_S: Final = 1.0

Kind = Literal["started", "message", "ended", "failed", "lost"]


@dataclass(frozen=True)
class Resources:
    """Resources that a piece of work needs.

    Attributes:
        cpus: Cores that are reserved for it.
        gpus: GPUs that are reserved for it: none, one, or a share of one.
        threads: Threads of torch. Sums depend on their number in the last digits, so it is sent
            along and never left to the machine.
    """

    cpus: int = 1
    gpus: float = 0.0
    threads: int = 1

    def __str__(self) -> str:
        cores = f"{self.cpus} core{'s' * (self.cpus != 1)}"
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}"
        share = f"{self.gpus:g} of a GPU" if self.gpus < 1 else "a GPU"
        return f"{cores}, {threads} and {share if self.gpus else 'no GPU'}"


@dataclass(frozen=True)
class Work:
    """A call of a function in another process.

    Attributes:
        id: Its own name; no other work of the executor has it.
        function: "module:name" of a function of (shared, payload, send), see `worker.run_work`.
        shared: The pickled first argument, which is equal for many pieces of work.
        payload: The pickled second argument.
        resources: Resources that it needs.
        environment: Variables that are set in its process.
    """

    id: str
    function: str
    shared: bytes
    payload: bytes
    resources: Resources = field(default_factory=Resources)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Event:
    """A piece of news of a piece of work.

    `value` is where it started, a message that it sent, what it returned ("ended"), the error that
    it raised in one line ("failed"), or the reason why it was lost with its process or its machine.
    After one of the last three nothing more comes. A scheduler that starts a work anew sends
    "started" again.
    """

    work: str
    kind: Kind
    value: Any = None


class Executor(Protocol):
    """Carry work to processes.

    All executors pass one suite of tests (`tests/executors/test_contract.py`).
    """

    def submit(self, work: Work) -> str:
        """Queue a piece of work and return its id at once."""
        ...

    def events(self) -> list[Event]:
        """Return the news since the last call, in the order of each work; wait `WAIT_S` for any."""
        ...

    def cancel(self, work: str) -> None:
        """End a piece of work, which is then lost; do nothing if it has ended."""
        ...

    def close(self) -> None:
        """Cancel what is left, and end the processes that were started."""
        ...
