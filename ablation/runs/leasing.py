"""Take a run so that one process trains it: of this machine, and of all that share a server."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, Literal

from ablation.core.locks import try_lock
from ablation.runs.context import RunContext
from ablation.tracking import names
from ablation.tracking.leases import Lease, leases_of
from ablation.tracking.orphans import end_running
from ablation.tracking.retry import describe_error

#: Seconds that a server may delay the training of a run by not answering.
ANSWER_S = 10.0
#: Seconds for which a server that did not answer is not asked again.
_SILENCE_S: Final = 60.0
_silent_until = 0.0


@dataclass
class Hold:
    """A run that this process holds; `run_id` is its MLflow run, once there is one."""

    run_id: str | None = None


@contextmanager
def try_lease(context: RunContext, slot: str, identity: str) -> Iterator[Hold | None]:
    """Yield a hold while this process has a run, or None if another process holds it.

    On this machine the state folder's lock decides. Where the store is behind a server, a lease on
    the server decides between machines; it is free once the server has the end of the hold's run.
    While the server does not answer, training goes on without one: it is worth more than a run that
    may be trained twice.

    Args:
        context: The suite.
        slot: The run's name in the state folder.
        identity: The digest of the run's identity.
    """
    store, hold = context.store, Hold()
    with try_lock(slot) as acquired:
        if not acquired:
            yield None
            return
        answer = _ask(context, identity)
        if not isinstance(answer, Lease):
            yield hold if answer == "alone" else None
            return
        try:
            yield hold
        finally:
            answer.release(lambda: not hold.run_id or not store.unsynced_note(hold.run_id))


def _ask(context: RunContext, identity: str) -> Lease | Literal["alone", "held"]:
    """Ask the server for the lease on a run, but not for long.

    Returns:
        The lease; "held" if another process has it; "alone" where there are none, or no answer.
    """
    global _silent_until
    if context.store.delivery is None or time.monotonic() < _silent_until:
        return "alone"
    answer: Future[Lease | Literal["alone", "held"]] = Future()

    def ask() -> None:
        try:
            given = _acquire(context, identity)
        except Exception as error:  # MLflow, SQLAlchemy and a lost connection raise a dozen types
            with suppress(InvalidStateError):
                answer.set_exception(error)
            return
        try:
            answer.set_result(given)
        except InvalidStateError:  # nobody waits any more
            if isinstance(given, Lease):
                given.release()

    threading.Thread(target=ask, name="lease", daemon=True).start()
    try:
        return answer.result(ANSWER_S)
    except Exception as error:  # the time is over, or what `ask` has caught
        if not answer.cancel() and not answer.exception():
            return answer.result()
        _silent_until = time.monotonic() + _SILENCE_S
        why = describe_error(error) if str(error) else f"no answer within {ANSWER_S:.0f} s"
        context.progress.say(f"runs are trained without leases of the tracking server: {why}")
        return "alone"


def _acquire(context: RunContext, identity: str) -> Lease | Literal["alone", "held"]:
    leases = leases_of(context.store, context.experiment)
    if leases is None:
        return "alone"
    lease = leases.acquire(identity, str(context.tags.get(names.WORK, "")))
    if lease is None:
        return "held"
    if lease.took_over:
        reason = "its machine gave no sign of life"
        end_running(context.store, context.experiment, names.IDENTITY, identity, reason)
    return lease


def is_free(context: RunContext, slot: str, identity: str) -> bool:
    """Return whether no process holds a run; one that gives no sign of life loses it."""
    with try_lease(context, slot, identity) as hold:
        return hold is not None


def revoke(context: RunContext, identity: str, work: str) -> None:
    """Free the lease of a worker that is known to be lost; do nothing without a server's answer."""
    with suppress(Exception):  # MLflow, SQLAlchemy and a lost connection raise a dozen types
        leases = leases_of(context.store, context.experiment)
        if leases is not None:
            leases.revoke(identity, work)
