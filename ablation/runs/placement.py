"""Decide with which cores, cards and threads runs are trained, and refuse what can't work there."""

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit

from ablation.core.errors import UsageError
from ablation.core.state import state_folder
from ablation.executors.choose import Placement, open_executor, parse_on
from ablation.executors.protocol import Executor, Resources
from ablation.tracking.store import ARTIFACTS, Store
from ablation.tracking.uris import is_http, is_remote, redact_uri, sqlite_file


def choose_resources(
    place: Placement, cpus: int | None, gpus: float | None
) -> tuple[Resources, dict[str, str]]:
    """Return a run's resources, and the part of its identity that they are.

    Threads change sums in their last digits. So a number of threads that was chosen, other than
    this machine's own, is a part of the identity of runs on CPUs; cards sum by themselves.

    Raises:
        UsageError: A number is out of range.
    """
    if cpus is not None and not 1 <= cpus <= 1024:
        raise UsageError(f"--cpus-per-run {cpus}: give a whole number from 1 on")
    if gpus is not None and not 0 <= gpus <= 1:
        raise UsageError(f"--gpus-per-run {gpus:g}: a run uses one GPU, or a share such as 0.25")
    if place.is_here and cpus is None:
        return Resources(), {}  # nothing is chosen, and torch need not be imported
    import torch

    own, cards = torch.get_num_threads(), torch.cuda.device_count()
    if gpus is None:
        gpus = 1.0 if cards else 0.0
    if cpus is not None:
        threads = cpus
    elif place.processes and not gpus:
        threads = max(1, own // place.processes)
    else:
        threads = own
    reserved = 1 if gpus and cpus is None else threads
    part = {} if gpus or threads == own else {"threads": str(threads)}
    return Resources(reserved, gpus, threads), part


@contextmanager
def threads_of(resources: Resources, place: Placement, chosen: int | None) -> Iterator[None]:
    """Train with the chosen number of threads, where this process itself trains."""
    with torch_threads(resources.threads if place.is_here and chosen is not None else 0):
        yield


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Compute with a number of threads; 0 changes nothing."""
    if not threads:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def visible_cards(environment: Mapping[str, str]) -> list[str]:
    """Return the names of this machine's cards, as `CUDA_VISIBLE_DEVICES` takes them."""
    import torch

    count = torch.cuda.device_count()
    named = [name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named[:count] if named else [str(number) for number in range(count)]


@contextmanager
def executor_on(
    on: str, resources: Resources, module: str, refuse_local: Callable[[], None]
) -> Iterator[Executor]:
    """Start the executor that `--on` names, which is not this process itself, and close it.

    Args:
        on: The words of `--on`.
        resources: Resources of a piece of work.
        module: The module of the work's function, which local processes are forked with.
        refuse_local: Called if workers are on other machines, before anything is sent to them;
            raises UsageError for what they could not reach.

    Raises:
        UsageError: The engine is missing or has not the resources, or what `refuse_local` raises.
    """
    place = parse_on(on)
    if place.engine == "slurm" and place.options.get("cluster") != "local":
        refuse_local()
    folder = state_folder() / "executors" / uuid.uuid4().hex[:12]
    cards = visible_cards(os.environ) if resources.gpus else ()
    executor, other_hosts = open_executor(place, resources, folder, module, cards)
    try:
        if other_hosts:
            refuse_local()
        yield executor
    finally:
        executor.close()


def refuse_local_tracking(store: Store, experiment: str, on: str) -> None:
    """Raise UsageError for a store, or artifacts of an experiment, that only this machine has."""
    refuse_local_store(store, on)
    refuse_local_artifacts(store, experiment, on)


def refuse_local_store(store: Store, on: str) -> None:
    """Raise UsageError for a store that other machines can't reach; say what serves it."""
    if is_remote(store.uri):
        return
    file = sqlite_file(store.uri)
    folder = file.parent if file else "FOLDER"
    raise UsageError(
        [
            f"--on {on}: workers on other machines can't write to {redact_uri(store.uri)};"
            " give --tracking-uri http://THIS-MACHINE:5000 and serve it:",
            f"mlflow server --backend-store-uri {redact_uri(store.uri)}"
            f" --artifacts-destination {folder}/{ARTIFACTS} --host THIS-MACHINE",
        ]
    )


def refuse_local_artifacts(store: Store, experiment: str, on: str) -> None:
    """Raise UsageError if an experiment's artifacts go to a folder, which others may not have."""
    found = store.client.get_experiment(experiment)
    location = str(found.artifact_location)
    parts = urlsplit(location)
    if parts.scheme not in ("", "file"):
        return
    server = "with --artifacts-destination" if is_http(store.uri) else "before this database"
    raise UsageError(
        f"--on {on}: the artifacts of experiment {found.name!r} go to the folder"
        f" {unquote(parts.path)}, which other machines write on their own disks; start"
        f" `mlflow server` {server} S3_OR_FOLDER, and give another --experiment"
    )
