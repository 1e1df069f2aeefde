"""Run work on a Ray cluster, or on a Ray of this machine's own.

A lost task is sent again by the driver and not by Ray, whose retries it would not hear of. News
comes through a queue that lives on the driver's machine, so that no other machine's end takes it
along.
"""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from ablation.core.errors import UsageError, first_line
from ablation.executors.protocol import WAIT_S, Event, Resources, Work
from ablation.executors.worker import run_work

#: Seconds that interrupted tasks have to end their runs truthfully.
_GRACE_S: Final = 20.0


class RayExecutor:
    """Run work as tasks of Ray, as many at a time as its resources allow."""

    def __init__(self, address: str = "", packages: tuple[Path, ...] = ()) -> None:
        """Connect to the cluster at `address`, or as `ray.init` chooses, and start the queue.

        Args:
            address: HOST:PORT or ray://HOST:PORT; "local" for a Ray of its own; empty for
                $RAY_ADDRESS, a cluster that this machine is a part of, or a Ray of its own.
            packages: Folders of Python packages that the workers get.

        Raises:
            UsageError: Ray is not installed, or the cluster can't be reached.
        """
        self._ray = _import_ray()
        self._was_running = self._ray.is_initialized()
        if not self._was_running:
            code = {"py_modules": list(map(str, packages))} if packages else {}
            try:
                self._connect(address, code)
            except Exception as error:  # Ray raises a dozen kinds
                where = f"ray:{address}" if address else "ray"
                raise UsageError(f"--on {where}: can't be reached: {first_line(error)}") from error
        from ray.util.queue import Queue
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._tasks: dict[Any, str] = {}
        self._cancelled: set[str] = set()
        self._ended: set[str] = set()
        self._shared: dict[bytes, Any] = {}
        here = self._ray.get_runtime_context().get_node_id()
        stays = NodeAffinitySchedulingStrategy(node_id=here, soft=False)
        try:
            self._queue: Any = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": stays})
            self._queue.qsize()
        except Exception as error:  # such as code that can't be sent to the machines
            self.close()
            raise UsageError(f"--on ray: can't start: {first_line(error)}") from error

    def _connect(self, address: str, code: dict[str, Any]) -> None:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address != "local":
            try:
                self._ray.init(address=address or "auto", runtime_env=code, **quiet)
                return
            except ConnectionError:
                if address or "RAY_ADDRESS" in os.environ:
                    raise
        self._ray.init(address="local", include_dashboard=False, runtime_env=code, **quiet)

    def other_hosts(self) -> bool:
        """Return whether the cluster has machines beside the driver's."""
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        return len({node["NodeManagerAddress"] for node in nodes}) > 1

    def refuse_oversized(self, resources: Resources) -> None:
        """Raise UsageError if no machine of the cluster has the resources: work would hang."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        fits = [
            node
            for node in nodes
            if node.get("CPU", 0) >= resources.cpus and node.get("GPU", 0) >= resources.gpus
        ]
        if not fits:
            cpus = max((node.get("CPU", 0) for node in nodes), default=0)
            gpus = max((node.get("GPU", 0) for node in nodes), default=0)
            raise UsageError(
                f"--on ray: no machine of the cluster has {resources.cpus} cores and"
                f" {resources.gpus:g} GPUs for a run; at most {cpus:g} and {gpus:g}:"
                " give --cpus-per-run and --gpus-per-run"
            )

    def submit(self, work: Work) -> str:
        if work.shared not in self._shared:
            self._shared[work.shared] = self._ray.put(work.shared)
        resources = work.resources
        task = self._ray.remote(_run).options(
            name=work.id,
            num_cpus=resources.cpus,
            num_gpus=resources.gpus,
            max_retries=0,
            # A worker that Ray reuses keeps the threads of its first task.
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(resources.threads)}},
        )
        about = (work.id, work.function, work.payload, resources, dict(work.environment))
        self._tasks[task.remote(about, self._shared[work.shared], self._queue)] = work.id
        return work.id

    def events(self) -> list[Event]:
        done: list[Any] = []
        if self._tasks:
            done, _ = self._ray.wait(list(self._tasks), num_returns=1, timeout=WAIT_S)
        else:
            time.sleep(WAIT_S)
        news = self._take()
        for reference in done:
            work = self._tasks.pop(reference)
            last = self._end_of(reference, work)
            if work not in self._ended:  # what a task returns comes also if its queue failed
                news.append(last)
            self._ended.discard(work)
        return news

    def cancel(self, work: str) -> None:
        for reference, name in self._tasks.items():
            if name == work:
                self._cancelled.add(work)
                self._ray.cancel(reference, force=False)

    def close(self) -> None:
        for work in list(self._tasks.values()):
            self.cancel(work)
        if self._tasks:
            _, left = self._ray.wait(
                list(self._tasks), num_returns=len(self._tasks), timeout=_GRACE_S
            )
            for reference in left:
                with suppress(Exception):  # it may end at this moment
                    self._ray.cancel(reference, force=True)
        self._tasks.clear()
        with suppress(Exception):  # its machine may be gone
            self._queue.shutdown(force=True)
        if not self._was_running:
            self._ray.shutdown()

    def _take(self) -> list[Event]:
        """Return what lies in the queue."""
        try:
            news: list[Event] = self._queue.get_nowait_batch(self._queue.qsize())
        except Exception:  # results come by the tasks themselves
            return []
        self._ended |= {event.work for event in news if event.kind in ("ended", "failed")}
        return news

    def _end_of(self, reference: Any, work: str) -> Event:
        from ray.exceptions import RayError, RayTaskError, TaskCancelledError

        try:
            event: Event = self._ray.get(reference)
        except TaskCancelledError:
            return Event(work, "lost", "cancelled")
        except RayTaskError as error:
            if work in self._cancelled:
                return Event(work, "lost", "cancelled")
            return Event(work, "failed", first_line(error.cause or error))
        except RayError as error:
            return Event(work, "lost", f"{type(error).__name__}: {first_line(error)}")
        return event


def _run(
    about: tuple[str, str, bytes, Resources, dict[str, str]], shared: bytes, queue: Any
) -> Event:
    """Do a piece of work as a task of Ray, and return its last event."""
    name, function, payload, resources, environment = about
    work = Work(name, function, shared, payload, resources, environment)
    last = Event(name, "failed", "ended without a word")

    def send(event: Event) -> None:
        nonlocal last
        last = event
        # Not awaited: Ray gives the cores of a task that waits to another one.
        queue.actor.put_nowait.remote(event)

    run_work(work, send)
    with suppress(Exception):  # the driver's machine may be gone
        queue.qsize()  # answered after all that was sent before
    return last


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            "--on ray: Ray is not installed; run: pip install 'ablation-suite[ray]'"
        ) from error
    return ray
