"""Leases on a tracking server, so that of all machines that share it exactly one trains a run.

An experiment has one run of leases. Its parameter IDENTITY.GENERATION names the owner: MLflow
refuses a second value for a parameter, so of several that ask at once exactly one wins. The owner
renews a tag; each machine judges by its own clock if that still changes, so clocks need not agree.
A lease that is not renewed, or whose process is known to be dead, goes to the one that logs the
next generation.
"""

import contextlib
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ablation.core.errors import RunError, first_line
from ablation.tracking import names
from ablation.tracking.process_id import is_dead, this_process

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from ablation.tracking.store import Store

#: Seconds between two renewals of a lease.
RENEW_S = 15.0
#: Seconds without a renewal after which a lease is free.
GRACE_S = 90.0
#: Seconds for which what was read of the leases is not read again.
_READ_S: Final = 2.0
_FREE: Final = "free"
#: Seconds between two looks if what a run wrote was sent.
_LOOK_S: Final = 0.2
#: Characters of an identity that name its lease.
_DIGITS: Final = 32


@dataclass(frozen=True)
class _State:
    """The newest generation of a lease (0 for none), its owner, and its last sign of life."""

    generation: int
    owner: str
    sign: str

    @property
    def is_free(self) -> bool:
        return self.generation == 0 or self.sign == f"{self.generation} {_FREE}"


class Lease:
    """A lease that this process holds and renews, until `release`."""

    def __init__(self, leases: "Leases", identity: str, generation: int, took_over: bool) -> None:
        """Start to renew it."""
        #: Whether another process held it before and gave no sign of life.
        self.took_over = took_over
        self._leases, self._identity, self._generation = leases, identity, generation
        self._is_sent: Callable[[], bool] = lambda: True
        self._released = threading.Event()
        leases.sign(identity, f"{generation} 0")
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def release(self, is_sent: Callable[[], bool] = lambda: True) -> None:
        """Let others have it once `is_sent`; without an answer it is free after `GRACE_S`.

        Another process that had it before the server knows of the run's end would train it again.
        """
        self._is_sent = is_sent
        _leaving.add(self)
        self._released.set()

    def wait(self, seconds: float) -> None:
        """Wait until the server knows that it is free, for so many seconds at most."""
        self._thread.join(seconds)

    def _renew(self) -> None:
        count, renewed = 0, time.monotonic()
        while not (self._released.is_set() and self._is_sent()):
            if self._released.is_set():
                time.sleep(_LOOK_S)
            else:
                self._released.wait(RENEW_S)
            if time.monotonic() - renewed >= RENEW_S:
                count, renewed = count + 1, time.monotonic()
                with contextlib.suppress(Exception):  # the server may be unreachable for a while
                    self._leases.sign(self._identity, f"{self._generation} {count}")
        with contextlib.suppress(Exception):
            self._leases.sign(self._identity, f"{self._generation} {_FREE}")
        _leaving.discard(self)


#: Seconds that a process waits at its end for a server that does not answer.
SETTLE_S: Final = 10.0
#: Leases that are released, of which the server may not know yet.
_leaving: set[Lease] = set()


def settle_leases() -> None:
    """Wait until the server knows which leases this process has released, `SETTLE_S` at most."""
    deadline = time.monotonic() + SETTLE_S
    for lease in list(_leaving):
        lease.wait(max(0.0, deadline - time.monotonic()))


class Leases:
    """The leases on the runs of one experiment."""

    def __init__(self, client: "MlflowClient", run_id: str) -> None:
        """Use the experiment's run of leases."""
        self._client = client
        self.run_id = run_id
        #: Signs of life by identity, with the time at which each was first seen here.
        self._seen: dict[str, tuple[str, float]] = {}
        self._read: tuple[float, dict[str, str], dict[str, str]] = (0.0, {}, {})

    def acquire(self, identity: str, work: str = "") -> Lease | None:
        """Take the lease on a run; None if another process holds it.

        Args:
            identity: The digest of the run's identity.
            work: Names what takes it, see `revoke`.

        Raises:
            RunError: The run of leases can't be written.
            Exception: Whatever the store raises while it is unreachable.
        """
        from mlflow.exceptions import MlflowException

        state = self._state(identity)
        took_over = not state.is_free
        if took_over and not self._is_stale(identity, state):
            return None
        generation = state.generation + 1
        name = f"{identity[:_DIGITS]}.{generation}"
        owner = f"{this_process()} {work or '-'} {uuid.uuid4().hex[:8]}"
        try:
            self._client.log_param(self.run_id, name, owner)
        except MlflowException as error:
            self._read = (0.0, {}, {})
            if self._state(identity).generation >= generation:
                return None
            raise RunError(
                f"run {self.run_id} of leases can't be written: {first_line(error)};"
                " restore it if it was deleted"
            ) from error
        return Lease(self, identity, generation, took_over)

    def revoke(self, identity: str, work: str) -> None:
        """Free a lease of work that is known to be lost."""
        self._read = (0.0, {}, {})
        state = self._state(identity)
        if not state.is_free and state.owner.split()[1:2] == [work]:
            self.sign(identity, f"{state.generation} {_FREE}")

    def sign(self, identity: str, text: str) -> None:
        """Write a lease's sign of life."""
        self._client.set_tag(self.run_id, _tag(identity), text)

    def _is_stale(self, identity: str, state: _State) -> bool:
        if is_dead(state.owner.split()[0]):
            return True
        now, sign = time.monotonic(), f"{state.generation}: {state.sign}"
        before, since = self._seen.get(identity, ("", now))
        if sign != before:
            self._seen[identity] = sign, now
            return False
        return now - since >= GRACE_S

    def _state(self, identity: str) -> _State:
        read, params, tags = self._read
        if time.monotonic() - read >= _READ_S or not read:
            data = self._client.get_run(self.run_id).data
            params, tags = data.params, data.tags
            self._read = time.monotonic(), params, tags
        prefix = f"{identity[:_DIGITS]}."
        generations = [int(n.removeprefix(prefix)) for n in params if n.startswith(prefix)]
        newest = max(generations, default=0)
        return _State(newest, params.get(f"{prefix}{newest}", ""), tags.get(_tag(identity), ""))


_open: dict[tuple[str, str], Leases] = {}


def open_leases(store: "Store", experiment: str) -> None:
    """Make an experiment's run of leases if it has none; do nothing for a store of this machine.

    Call it while the server answers, before runs are trained: training waits for no server.
    """
    if store.delivery is not None:
        with contextlib.suppress(Exception):  # MLflow, SQLAlchemy and a lost connection: many types
            _create_leases_run(store.client, experiment)
            leases_of(store, experiment)


def leases_of(store: "Store", experiment: str) -> Leases | None:
    """Return the leases of an experiment; None for a store of this machine, or if it has none.

    Raises whatever the store raises while it is unreachable.
    """
    if store.delivery is None:
        return None
    key = (store.uri, experiment)
    if key not in _open:
        run_id = _find_leases_run(store.client, experiment)
        if run_id is None:
            return None
        _open[key] = Leases(store.client, run_id)
    return _open[key]


def _tag(identity: str) -> str:
    return f"lease.{identity[:_DIGITS]}"


def _find_leases_run(client: "MlflowClient", experiment: str) -> str | None:
    found = client.get_experiment_by_name(_experiment_of(experiment))
    return None if found is None else str(found.tags[names.LEASES_RUN])


def _experiment_of(experiment: str) -> str:
    """Return the name of the experiment whose tag names the run of leases."""
    return f"ablation leases {experiment}"


def _create_leases_run(client: "MlflowClient", experiment: str) -> None:
    """Create the experiment's run of leases, of which there is exactly one.

    The name of an experiment is unique on a server. So of several processes that each made a run,
    the one that creates the experiment that names it has made the run of leases. All other runs,
    also those of requests that MLflow's client repeated, are deleted.
    """
    from mlflow.exceptions import MlflowException

    if _find_leases_run(client, experiment) is not None:
        return
    token = uuid.uuid4().hex
    tags = {names.KIND: names.LEASES, names.SPOOLED: token, "mlflow.source.name": "ablation"}
    run = client.create_run(experiment, tags=tags, run_name="leases: which process trains what")
    client.set_terminated(run.info.run_id, "FINISHED")
    about = {
        names.LEASES_RUN: run.info.run_id,
        names.NOTE: "Names the run by which machines share the work of an experiment.",
    }
    with contextlib.suppress(MlflowException):  # another process was faster
        client.create_experiment(_experiment_of(experiment), tags=about)
    elected = _find_leases_run(client, experiment)
    for made in client.search_runs([experiment], f"tags.`{names.SPOOLED}` = '{token}'"):
        if made.info.run_id != elected:
            client.delete_run(made.info.run_id)
